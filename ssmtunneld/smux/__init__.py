"""smux version 1, without I/O: many streams inside one byte stream (protocol 7)."""
