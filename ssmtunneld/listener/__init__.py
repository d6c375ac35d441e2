"""Local listeners and the relay between two byte streams."""
