"""The Session Manager data channel, without I/O, clock, dice or log.

In: frames and the time. Out: effects (send this, deliver that, it is over), in order.
The wire facts are in docs/protocol.md. May import only ``errors``, ``base`` and pure
parts of the standard library.
"""
