"""One tunnel of a status document in one line, and its readiness."""

from typing import Any

from ssmtunneld.base.sentences import with_advice
from ssmtunneld.cli.terminal.text import printable


def is_usable(tunnel: dict[str, Any]) -> bool:
    """Return True if a tunnel would serve a connection now.

    Older daemons report only its state.
    """
    usable = tunnel.get("usable")
    return tunnel["state"] in {"ready", "idle"} if usable is None else bool(usable)


def sleeps(tunnel: dict[str, Any]) -> bool:
    """Return True if a connection would have to wait until the target has started.

    So it may have to before the daemon has found the target for the first time.
    """
    if tunnel["state"] == "starting":
        bastion = tunnel.get("bastion")  # older daemons do not know it
        return bastion is not None and bastion["phase"] == "unknown"
    return tunnel["state"] in {"asleep", "waking"}


def describe(tunnel: dict[str, Any]) -> str:
    """Return one line: the reason why a tunnel is not ready, and what to do."""
    words = printable(tunnel["reason"]).rstrip(".")
    reason = f": {words}" if words else ""
    said = f"{tunnel['name']}: {tunnel['state']}{reason}"
    return with_advice(said, printable(tunnel["advice"]))
