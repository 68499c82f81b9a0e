"""Parts of F3-Net."""
