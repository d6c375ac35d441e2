"""Helpers without a topic of their own, for every other room.

In: plain values. Out: plain values. May import nothing of this package: nothing here
knows of AWS, sessions or configuration.
"""
