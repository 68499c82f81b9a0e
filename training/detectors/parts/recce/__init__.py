"""Parts of RECCE."""
