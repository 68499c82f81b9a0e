"""Parts of IID."""
