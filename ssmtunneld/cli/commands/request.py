"""``ssmtunneld request``."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.daemon_client import Daemon, NotRunning, find, select_enabled
from ssmtunneld.cli.exit_codes import EXIT_REFUSED, EXIT_USAGE, CommandError
from ssmtunneld.cli.options import (
    APPROVAL_TIMEOUT,
    daemon_option,
    name_argument,
    refuse_alone,
    timeout_option,
)
from ssmtunneld.cli.readiness import awaited_facts, awaited_states
from ssmtunneld.cli.terminal.reason import ask_reason, check_reason
from ssmtunneld.cli.terminal.text import printable
from ssmtunneld.cli.terminal.tunnel_line import describe, is_usable

POLL_INTERVAL: Final = 1.0
"""Seconds between looks at the daemon, which asks AWS in its own time."""
REQUEST_TIMEOUT: Final = 90.0
"""Seconds for the daemon to find the node and to ask AWS."""
_NEEDS: Final = 3


@click.command()
@name_argument
@click.option(
    "--reason",
    metavar="TEXT",
    help="Why, for whoever approves: one line of 256 characters at most. Without it, "
    "it is asked for on the terminal.",
)
@click.option(
    "--wait", is_flag=True, help="Wait for the approval, and until the tunnel is ready."
)
@timeout_option(APPROVAL_TIMEOUT, "With --wait, the limit")
@daemon_option
def request(
    name: str,
    reason: str | None,
    config_path: Path | None,
    timeout: float,
    *,
    wait: bool,
) -> None:
    """Ask for access to a tunnel's node, where that takes an approval.

    For tunnels with access = "request". The daemon follows the request, and an approval
    brings the tunnel up by itself. While access holds, another request asks for more of
    it. With --wait, exits with 0 once the tunnel is ready, with 4 if the request is
    rejected, and with 1 if nobody has decided in time.
    """
    refuse_alone("timeout", "--wait", given=wait)
    daemon = find(config_path)
    tunnel = _tunnel(daemon, name)
    known = tunnel["access"]
    request_id: str | None
    if known["request"] == "pending":
        request_id = _told_of(name, known)
    elif known["granted"] and reason is None:
        click.echo(f"{name}: access is granted{_until(known['expires_at'])}")
        request_id = None
    else:
        try:
            request_id = _file(daemon, tunnel, reason)
        except CommandError:
            # Somebody else may have asked at the same moment.
            known = _tunnel(find(config_path), name)["access"]
            if known["request"] != "pending":
                raise
            request_id = _told_of(name, known)
    if wait:
        _wait(config_path, name, request_id, timeout)


def _told_of(name: str, known: dict[str, Any]) -> str:
    """Say that there is an undecided request; return its id."""
    request_id = str(known["request_id"])
    click.echo(f"{name}: access request {request_id} awaits approval already")
    return request_id


def _tunnel(daemon: Daemon, name: str) -> dict[str, Any]:
    """Return the status of a tunnel that needs requests.

    Raises:
        CommandError: There is none of that name, or it is disabled, or needs none.
    """
    (tunnel,) = select_enabled(daemon.document, [name])
    if tunnel.get("access") is None:  # older daemons do not know it
        raise CommandError(
            f"{name} needs no access request",
            'set access = "request" for nodes that ask for one',
            code=EXIT_USAGE,
        )
    return tunnel


def _file(daemon: Daemon, tunnel: dict[str, Any], reason: str | None) -> str:
    """Ask for access; return the request's id."""
    name = tunnel["name"]
    text = ask_reason(tunnel["target"]) if reason is None else check_reason(reason)
    if text is None:
        raise CommandError(
            "no reason, and no terminal to ask for it", "pass --reason", code=EXIT_USAGE
        )
    made = daemon.ask(
        "POST",
        f"/tunnels/{name}/request",
        {"reason": text},
        needs=_NEEDS,
        timeout=REQUEST_TIMEOUT,
    )
    request_id = str(made["id"])
    click.echo(f"{name}: access request {request_id} for {printable(made['target'])}")
    return request_id


def _wait(
    config_path: Path | None, name: str, request_id: str | None, timeout: float
) -> None:
    """Return once the tunnel is ready with what was approved.

    Args:
        config_path: Selects the daemon.
        name: The tunnel.
        request_id: The request that must be approved; None if access was granted
            before, whatever has become of a request for more.
        timeout: Seconds.

    Raises:
        CommandError: The request is over, or undecided for too long.
    """
    deadline = _clock() + timeout
    is_missed = False
    told: tuple[str, ...] = ()
    while True:
        try:
            tunnel = _tunnel(find(config_path), name)
        except NotRunning as missing:
            # The request outlasts a restart, and so does who waits for it.
            if _clock() >= deadline:
                raise
            if not is_missed:
                tell(f"ssmtunneld: {missing}; waiting for one")
            is_missed = True
            _pause(POLL_INTERVAL)
            continue
        is_missed = False
        access = tunnel["access"]
        granted = _is_granted(access, request_id)
        if granted is False:
            raise CommandError(_over(tunnel, request_id), code=EXIT_REFUSED)
        if granted and is_usable(tunnel):
            click.echo(f"{name}: ready{_until(access['expires_at'])}")
            return
        left = deadline - _clock()
        if left <= 0:
            raise CommandError(f"not ready within {timeout:g} s: {describe(tunnel)}")
        told = _tell_wait(tunnel, timeout, told)
        _pause(min(POLL_INTERVAL, left))


def _tell_wait(
    tunnel: dict[str, Any], timeout: float, told: tuple[str, ...]
) -> tuple[str, ...]:
    """Say what is awaited, unless it is still what was ``told``; return it."""
    awaited = awaited_facts(tunnel)
    if awaited != told:
        whom = awaited_states([tunnel])
        words = f"ssmtunneld: waiting up to {timeout:g} s for {whom}"
        # Once: whoever has read it knows.
        end = "" if told else "; Ctrl-C ends the waiting, not the request"
        tell(f"{words}{end}")
    return awaited


def _is_granted(access: dict[str, Any], request_id: str | None) -> bool | None:
    """Return whether there is the access that is awaited; None while undecided."""
    if request_id is None and access["granted"]:
        return True
    is_ours = request_id in {None, access["request_id"]}
    if is_ours and access["request"] == "pending":
        return None
    # Also if AWS does not know ours any more.
    return bool(access["request"] == "approved")


def _over(tunnel: dict[str, Any], request_id: str | None) -> str:
    if not tunnel["access"]["granted"]:
        return describe(tunnel)
    # What was granted before holds; the request for more is over.
    return f"{tunnel['name']}: access request {request_id} was not approved"


def _until(expires_at: float | None) -> str:
    if expires_at is None:
        return ""
    end = datetime.fromtimestamp(expires_at, UTC).astimezone()
    return f", with keys until {end:%H:%M}"


def _clock() -> float:
    return time.monotonic_ns() / 1e9


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
