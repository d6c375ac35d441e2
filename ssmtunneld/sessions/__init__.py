"""Sessions kept warm: pool, policy, one session's life, keep-alive, orphans.

In: what the configuration wants, connections that want a stream. Out: streams, and
snapshots. ``policy.py`` decides and is pure; ``pool.py`` carries out; ``session.py`` is
one session from StartSession to its end. May never import ``observe`` or ``daemon``.
"""
