"""Requests to a daemon that several commands make, beyond its status."""

from typing import Any, Final
from urllib.parse import quote, urlencode

from ssmtunneld.cli.daemon_client import Daemon, select

PROTOCOL: Final = 2
"""The version of the control socket that knows connections and the log."""
WAKING: Final = 4
"""The version that starts targets for commands."""
CONNECTIONS_TIMEOUT: Final = 30.0
"""Seconds for the answer: a daemon with ten thousand of them looks for a while."""


def ask_connections(daemon: Daemon, name: str | None) -> dict[str, Any]:
    """Return the document of ``daemon``'s connections, of tunnel ``name`` or of all.

    Raises:
        CommandError: There is no such tunnel, or the daemon does not tell.
    """
    query = ""
    if name is not None:
        select(daemon.document, [name])
        query = f"?{urlencode({'tunnel': name})}"
    return daemon.ask(
        "GET", f"/connections{query}", needs=PROTOCOL, timeout=CONNECTIONS_TIMEOUT
    )


def kill_connection(daemon: Daemon, name: str) -> str:
    """Reset the open connection called ``name``; return its tunnel's name.

    Raises:
        CommandError: There is none of this name, or the daemon does not answer.
    """
    path = f"/connections/{quote(name, safe='')}"
    return str(daemon.ask("DELETE", path, needs=PROTOCOL)["tunnel"])


def wake_target(daemon: Daemon, name: str) -> None:
    """Let ``daemon`` start the target of tunnel ``name``, if it sleeps.

    Raises:
        CommandError: There is no such tunnel, or the daemon is too old or does not
            answer.
    """
    daemon.ask("POST", f"/tunnels/{quote(name, safe='')}/wake", needs=WAKING)


def ask_log(daemon: Daemon, after: int) -> dict[str, Any]:
    """Return where ``daemon``'s log is, and its lines after number ``after``.

    Raises:
        CommandError: It does not tell.
    """
    return daemon.ask("GET", f"/log?after={after}", needs=PROTOCOL)
