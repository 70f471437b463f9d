"""Shows label sets, and what maps to what between them, in tables: the command `labels`."""
