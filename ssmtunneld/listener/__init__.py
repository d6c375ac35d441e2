"""Local listeners, and the relay between a local connection and a stream.

In: addresses, access rules, a way to open streams. Out: accepted connections, joined
and counted. Knows nothing of sessions: a stream is a ``Duplex``. May import ``config``
and ``base``, no sibling room.
"""
