"""Connections that did not reach their destination: their clients only see them cut."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ssmtunneld.base.sentences import with_advice
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.daemon_client import Daemon, find_at
from ssmtunneld.cli.terminal.text import counted, printable
from ssmtunneld.errors import SsmtunneldError


def describe_refusals(tunnel: dict[str, Any], count: int) -> str:
    """Return one line about the latest ``count`` refused connections of a tunnel.

    With the reason of the last one, and the cure. For a tunnel that has refused one.
    """
    # Clients of a proxy say where to, and are told why not.
    is_fixed = tunnel.get("mode", "tcp") == "tcp"
    to = f" to {printable(tunnel['destination'])}" if is_fixed else ""
    last = tunnel["last_refusal"]
    reason = printable(last["reason"]) or "nobody knows why"
    said = f"{tunnel['name']}: {counted(count, 'connection')}{to} refused: {reason}"
    return with_advice(said, printable(last["advice"]))


def tell_refusals(daemon: Daemon, names: Sequence[str]) -> None:
    """Say on standard error why connections were refused since ``daemon`` was asked.

    For whoever has run a client that failed; a daemon that has ended says nothing.

    Args:
        daemon: It, and how it was.
        names: The tunnels of that client.
    """
    before = {t["name"]: t.get("refused", 0) for t in daemon.document["tunnels"]}
    with suppress(SsmtunneldError):
        for tunnel in find_at(daemon.path).document["tunnels"]:
            name = tunnel["name"]
            # Older daemons do not tell; another one may have taken its place.
            new = tunnel.get("refused", 0) - before.get(name, 0)
            if name in names and new > 0 and tunnel.get("last_refusal"):
                tell(f"ssmtunneld: {describe_refusals(tunnel, new)}")
