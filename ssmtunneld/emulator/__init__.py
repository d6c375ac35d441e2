"""The AWS side of Session Manager port sessions, on loopback."""
