"""Channels on real websockets, and the byte streams inside them.

In: a grant to open a websocket. Out: a ``Duplex`` for each stream. ``driver.py`` is the
only place where effects of the pure core meet the event loop. May import ``protocol``,
``smux`` and ``base``, no sibling room; websockets (the library) stays in here.
"""
