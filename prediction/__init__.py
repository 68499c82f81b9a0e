"""A trained detector at work: rebuilt from its run, asked about pictures and videos, and what it looks at."""
