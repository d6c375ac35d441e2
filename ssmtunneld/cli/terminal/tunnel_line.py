"""One tunnel of a status document in one line, and its readiness."""

from typing import Any

from ssmtunneld.cli.terminal.text import printable


def is_usable(tunnel: dict[str, Any]) -> bool:
    """Return True if a tunnel would serve a connection now.

    Older daemons report only its state.
    """
    usable = tunnel.get("usable")
    return tunnel["state"] in {"ready", "idle"} if usable is None else bool(usable)


def sleeps(tunnel: dict[str, Any]) -> bool:
    """Return True if a connection would have to wait until the target has started."""
    return tunnel["state"] in {"asleep", "waking"}


def describe(tunnel: dict[str, Any]) -> str:
    """Return one line: the reason why a tunnel is not ready, and what to do."""
    words = printable(tunnel["reason"]).rstrip(".")
    reason = f": {words}" if words else ""
    advice = f"; {printable(tunnel['advice'])}" if tunnel["advice"] else ""
    return f"{tunnel['name']}: {tunnel['state']}{reason}{advice}"
