"""smux version 1, without I/O: many streams inside one byte stream (protocol 7).

In: bytes cut anywhere. Out: frames to send and bytes to read, stream by stream.
May import only ``errors``, ``base`` and pure parts of the standard library.
"""
