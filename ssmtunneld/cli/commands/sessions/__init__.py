"""``ssmtunneld sessions``: what the account knows of sessions, and how to end them.

In: identities of the file or of options. Out: a table or JSON, and terminated sessions.
``command.py`` is the command, ``query.py`` asks AWS, ``listing.py`` prints.
"""

from ssmtunneld.cli.commands.sessions.command import sessions

__all__ = ["sessions"]
