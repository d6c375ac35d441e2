"""The composition root: builds everything below by hand, starts it and ends it.

In: a ``Config``, signals, requests to reload. Out: tunnels that serve, and one status
document. A tunnel (``tunnel.py``) joins a listener to a backend of sessions
(``backend.py``); all of them change with the file (``tunnels.py``, ``reload.py``).
May import everything but the floors above it: commands, ssh, doctor, api, demo.
"""
