"""Reasons of sessions: the text that StartSession writes to the audit log.

AWS shows a session's reason in its console, in CloudTrail and in DescribeSessions. It
says who opened the session, and ends with a mark by which a later daemon recognizes the
sessions of an earlier one (``orphans.py``).
"""

import getpass
import os
import socket

from ssmtunneld.config import TunnelSettings
from ssmtunneld.config.fields import REASON_LIMIT
from ssmtunneld.version import __version__


def mark(instance: str | None, name: str) -> str:
    """Return the end of the reasons of a tunnel's sessions; empty for none."""
    return f"[{instance}/{name}]" if instance else ""


def default_reason(name: str) -> str:
    """Return program, user, machine and tunnel ``name``, without a mark."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = str(os.getuid())
    host = socket.gethostname().partition(".")[0]
    return f"ssmtunneld/{__version__} {user}@{host} tunnel {name}"


def session_reason(tunnel: TunnelSettings, its_mark: str = "") -> str:
    """Return the reason of a tunnel's sessions.

    The default reason comes first, then the configured one, cut to the limit of AWS.

    Args:
        tunnel: The tunnel.
        its_mark: Comes last, and is never cut: see :func:`mark`.
    """
    reason = default_reason(tunnel.name)
    if tunnel.reason is not None:
        reason = f"{reason}: {tunnel.reason}"
    return f"{reason[: REASON_LIMIT - len(its_mark) - 1]} {its_mark}".strip()
