"""SOCKS 5 and HTTP CONNECT: local clients that name their destination themselves.

In: the first bytes of a connection. Out: a destination, the protocol's answer, and the
joined connection. The protocols are pure (bytes in, bytes out); ``frontend.py`` acts.
"""
