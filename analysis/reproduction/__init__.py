"""The runs behind a table: what they are, what they need, how they are carried out."""
