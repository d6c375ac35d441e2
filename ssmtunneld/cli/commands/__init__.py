"""One file for each command, named after it.

In: options and arguments. Out: text or JSON, and an exit code (``cli/exit_codes.py``).
A command asks the rooms below for what it does; it holds only what is said and how.
"""
