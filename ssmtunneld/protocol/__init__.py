"""The Session Manager data channel, without I/O, clock, dice or log."""
