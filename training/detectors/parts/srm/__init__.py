"""Parts of SRM."""
