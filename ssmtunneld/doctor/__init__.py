"""A tunnel's way, checked hop by hop: where it is broken, and what to do about it.

In: the settings of a tunnel. Out: findings (``report.py``), from credentials to the
destination. Starts at most one session and ends it; changes nothing.
"""
