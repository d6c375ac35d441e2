"""Calls to AWS: how they are made, sent, bounded, refused and explained.

In: a request of an identity. Out: an answer as our own type, or an ``AwsError``.
``port.py`` is what the rooms above see; ``errors.py`` says what follows from a refusal.
"""
