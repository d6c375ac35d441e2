"""The local addresses of tunnels: whether anybody can connect to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ssmtunneld.cli.daemon_client import is_disabled
from ssmtunneld.cli.running_daemons import running
from ssmtunneld.cli.terminal.text import printable
from ssmtunneld.daemon.instance_lock import holders
from ssmtunneld.doctor.report import Finding, Verdict
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.listener.sockets import bind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssmtunneld.config import Config, TunnelSettings

HOP: Final = "listen"
"""The hop before those of ``doctor``: it is between a client and us."""


async def look_at_addresses(
    config: Config, tunnels: Sequence[TunnelSettings]
) -> dict[str, Finding]:
    """Return by name whether tunnels listen; or without a daemon, whether they could.

    The daemon of the file is asked: it can have lost an address to another program, or
    be paused, or not know a tunnel that was added since.
    """
    for document in running(config.source):
        return {tunnel.name: _of_daemon(tunnel.name, document) for tunnel in tunnels}
    for pid in holders(config.source):
        words = f"not tested: a daemon runs (pid {pid}), but it cannot be asked"
        return {t.name: Finding(HOP, Verdict.SKIP, words) for t in tunnels}
    return {tunnel.name: await _try_to_listen(tunnel) for tunnel in tunnels}


def _of_daemon(name: str, document: dict[str, Any]) -> Finding:
    whose = f"the running daemon (pid {document['pid']})"
    found = next((t for t in document["tunnels"] if t["name"] == name), None)
    if found is None:
        groups = ", ".join(document.get("groups", ()))
        rest = f", only group {groups}" if groups else ""
        cure = "end it, and start it without --group" if groups else _RELOAD
        return Finding(HOP, Verdict.WARN, f"{whose} does not run it{rest}", cure)
    reason, advice = printable(found["reason"]), printable(found["advice"])
    match found["state"]:
        case "unbound" if reason:
            return Finding(HOP, Verdict.FAIL, reason, advice)
        case "paused":
            return Finding(HOP, Verdict.WARN, f"nobody can connect: {reason}", advice)
        case _ if is_disabled(found):
            return Finding(HOP, Verdict.SKIP, f"{whose} has it disabled")
        case _:
            bound = ", ".join(found["listen"]) or "nothing yet"
            return Finding(HOP, Verdict.OK, f"{bound}, by {whose}")


_RELOAD: Final = "run: ssmtunneld reload"


async def _try_to_listen(tunnel: TunnelSettings) -> Finding:
    try:
        listeners = await bind(tunnel.listen, socket_mode=tunnel.socket_mode)
    except (SsmtunneldError, OSError) as error:
        cure = error.advice if isinstance(error, SsmtunneldError) else ""
        return Finding(HOP, Verdict.FAIL, str(error), cure)
    for listener in listeners:
        listener.close()
    addresses = ", ".join(map(str, tunnel.listen))
    return Finding(HOP, Verdict.OK, f"{addresses} can be used; no daemon runs")
