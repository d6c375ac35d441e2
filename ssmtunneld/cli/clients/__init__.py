"""The programs that ``ssmtunneld connect`` runs, each told what it needs.

In: a tunnel's settings, where it listens, and what is installed here. Out: a command
line and an environment. Secrets go into the environment only. Nothing here runs the
client; a few ask it for its version or its own files first.
"""
