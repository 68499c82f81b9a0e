"""What one detector alone uses: its network parts, losses and key translation, under the name of that detector."""
