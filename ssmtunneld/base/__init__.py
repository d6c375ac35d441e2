"""What every other room may use: pure helpers without a topic of their own.

In: plain values. Out: plain values. Imports nothing of this package but ``errors`` and
``version``; nothing here knows of AWS, sessions or configuration.
"""
