"""``ssmtunneld sessions``: what the account knows of sessions, and how to end them."""

from ssmtunneld.cli.commands.sessions.command import sessions

__all__ = ["sessions"]
