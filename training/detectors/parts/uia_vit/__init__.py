"""What only UIA-ViT uses: the trunk's affinities, Gaussians of patches, and the consistency that they ask for."""
