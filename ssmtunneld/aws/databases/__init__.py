"""Passwords that AWS makes for databases: RDS tokens, Redshift credentials.

In: an identity, a host and a user. Out: a ``Secret``. Connects to no database.
"""
