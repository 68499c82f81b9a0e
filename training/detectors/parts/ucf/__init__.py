"""Parts of UCF."""
