"""Parts of the CLIP detector with frequency, boundary and identity parts."""
