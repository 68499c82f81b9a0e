"""Parts of LRL."""
