"""One connection through a session, for OpenSSH, and what OpenSSH must be told."""
