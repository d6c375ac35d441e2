"""One tunnel of a status document in one line, and its readiness."""

from typing import Any, Final

from ssmtunneld.base.sentences import with_advice
from ssmtunneld.cli.terminal.text import duration, printable

REFUSAL_NOTICE: Final = 600.0
"""Seconds for which a connection that got no destination is mentioned."""


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


def describe_refusal(tunnel: dict[str, Any]) -> tuple[str, str]:
    """Return what the latest refused connection met, and what to do about it.

    Both are empty if there was none lately, or if an older daemon does not tell.
    """
    refusal = tunnel.get("last_refusal")
    if not refusal or not refusal["reason"] or refusal["age"] >= REFUSAL_NOTICE:
        return "", ""
    # Clients of a proxy name the destination, each its own.
    is_fixed = tunnel.get("mode", "tcp") == "tcp"
    to = f" to {printable(tunnel['destination'])}" if is_fixed else ""
    ago = duration(refusal["age"])
    said = f"connection{to} refused {ago} ago: {printable(refusal['reason'])}"
    return said, printable(refusal["advice"])


def describe(tunnel: dict[str, Any]) -> str:
    """Return one line: the reason why a tunnel is not ready, and what to do."""
    words = printable(tunnel["reason"]).rstrip(".")
    reason = f": {words}" if words else ""
    said = f"{tunnel['name']}: {tunnel['state']}{reason}"
    return with_advice(said, printable(tunnel["advice"]))
