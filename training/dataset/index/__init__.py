"""From the JSON index of a dataset to compact arrays: reading, caching, selecting."""
