"""Parts of LSDA."""
