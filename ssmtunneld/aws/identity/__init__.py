"""Identities towards AWS: credentials, profiles, logins, MFA.

In: profiles, files and services that hold credentials. Out: credentials that follow
what happens outside, and how long they last. Prints and logs none of them.
"""
