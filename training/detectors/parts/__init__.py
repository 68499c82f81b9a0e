"""What only one detector uses: network parts, losses, key translation; a file or folder per detector."""
