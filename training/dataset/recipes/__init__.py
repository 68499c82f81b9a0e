"""How training samples are made, one recipe a file."""
