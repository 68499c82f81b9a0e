"""Parts of FFD."""
