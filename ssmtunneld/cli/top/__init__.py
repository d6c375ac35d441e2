"""``ssmtunneld top``: a daemon on a whole terminal, live, and keys that act on it.

In: documents and log of the control socket, and keys. Out: what the terminal shows, and
requests to the daemon. Only this room imports textual, which is an extra (``tui``).
"""
