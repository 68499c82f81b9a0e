"""What only Multi-attention uses."""
