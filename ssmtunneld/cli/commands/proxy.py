"""``ssmtunneld proxy``: what ssh runs as its ProxyCommand."""

import asyncio
import atexit
import getpass
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ssmtunneld.cli.endpoints import is_same_endpoint
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.options import file_option, seconds
from ssmtunneld.cli.running_daemons import running
from ssmtunneld.errors import ConfigError, SsmtunneldError, StreamReset

if TYPE_CHECKING:
    from ssmtunneld.config import TunnelSettings
    from ssmtunneld.daemon.signals import Signals
    from ssmtunneld.listener.relay import Transfer
    from ssmtunneld.ssh.instance_connect import InstanceConnectLogin
    from ssmtunneld.ssh.stdio import Stdio

EXIT_FAILED: Final = 255
"""Exit code of ssh itself when a connection fails."""
GRACE: Final = 2.0
"""Seconds after a signal to deliver what was sent before it."""

_Carry = Callable[["Stdio"], "Awaitable[Transfer | None]"]


@click.command()
@click.argument("host", metavar="HOST")
@click.argument("port", metavar="PORT", type=click.IntRange(1, 65535))
@click.option("--profile", metavar="NAME", help="AWS profile.")
@click.option("--region", metavar="REGION", help="AWS region.")
@click.option(
    "--document",
    metavar="NAME",
    help="Session document. By default AWS-StartSSHSession for port 22, and "
    "AWS-StartPortForwardingSession for others.",
)
@file_option(
    "Configuration file, whose daemon, profile, region and endpoints are used. By "
    "default $SSMTUNNELD_CONFIG, then the usual places."
)
@click.option(
    "--no-daemon", is_flag=True, help="Start a session even if a daemon runs."
)
@click.option(
    "--instance-connect",
    is_flag=True,
    help="Create a key for this login, in the file that ssh-config --instance-connect "
    "names, and have the instance accept it for a minute.",
)
@click.option(
    "--user",
    metavar="NAME",
    help="User who may log in with that key: ssh's %r. By default your own name.",
)
@click.option(
    "--timeout",
    type=seconds,
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="Limit for starting a session: seconds, or a number with ms, s, m or h.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="error",
    show_default=True,
    help="Minimum severity to log on standard error.",
)
def proxy(
    host: str,
    port: int,
    config_path: Path | None,
    timeout: float,
    log_level: str,
    *,
    no_daemon: bool,
    instance_connect: bool,
    user: str | None,
    **given: str | None,
) -> None:
    """Connect standard input and output to a port, as ssh's ProxyCommand.

    HOST is i-..., mi-..., or any other target of a tunnel, such as name:web-1. An id
    may name its region: i-....us-east-2 or i-...--us-east-2, which counts more than
    --region. If a
    running daemon has a tunnel to the same port of the same target, the connection uses
    its warm sessions, unless AWS_ENDPOINT_URL_SSM or AWS_ENDPOINT_URL leads elsewhere
    than that tunnel's endpoint_url. Otherwise a session is started, and terminated with
    the connection. Exits with 0 after an orderly end, and with 255 otherwise.
    """
    from ssmtunneld.daemon.signals import Signals
    from ssmtunneld.ssh.host_names import split_region

    if user is not None and not instance_connect:
        raise click.UsageError("--user needs --instance-connect")
    target, place = split_region(host)
    if place is not None:
        given = {**given, "region": place}
    client = _Client()
    call = _Call(target, port, given, config_path, timeout)
    # Before what takes long: ssh sends SIGHUP when it has had enough.
    with Signals() as signals, ExitStack() as stack:
        try:
            introduction = None
            if instance_connect:
                introduction = _introduce(user, host)
                stack.callback(introduction.end)
            carry = None
            if not no_daemon and _suits_daemon(call, introduction):
                carry = _through_daemon(call, introduction)
            if carry is None:
                _configure_log(log_level)
                carry = _alone(call, introduction)
            transfer = asyncio.run(_serve(carry, signals, client))
            _check(transfer)
        except SsmtunneldError as error:
            failure = _failure(error)
            # Once the line is on standard error: ssh ends as soon as it has read this.
            atexit.register(client.refuse, failure)
            raise failure from None
    if transfer is None:
        raise click.exceptions.Exit(EXIT_FAILED)  # ssh has gone: nobody to tell


@dataclass(frozen=True, slots=True)
class _Call:
    """The connection that was asked for."""

    host: str
    port: int
    given: Mapping[str, str | None]
    config: Path | None
    timeout: float

    def settings(self) -> "TunnelSettings":
        return self._settings_in(self.source())

    def source(self) -> Path | None:
        from ssmtunneld.ssh.settings import find_source

        return find_source(self.config, os.environ)

    def endpoint_in(self, source: Path | None) -> str | None:
        return self._settings_in(source).endpoint_url

    def _settings_in(self, source: Path | None) -> "TunnelSettings":
        from ssmtunneld.ssh.settings import settings_for

        return settings_for(self.host, self.port, self.given, source, os.environ)


def _introduce(user: str | None, host: str) -> "InstanceConnectLogin":
    from ssmtunneld.cli.ssh_files import keys_directory
    from ssmtunneld.ssh.instance_connect import InstanceConnectLogin

    return InstanceConnectLogin(keys_directory(), user or getpass.getuser(), host)


def _suits_daemon(call: _Call, introduction: "InstanceConnectLogin | None") -> bool:
    """Return true if a daemon's tunnel to the host is what was asked for.

    Ids are the same in every profile; names are not, and they do not say which instance
    is to know a key.
    """
    if call.given["document"] is not None:
        return False
    named = call.given["profile"] is not None or call.given["region"] is not None
    particular = named or introduction is not None
    return not particular or call.host.startswith(("i-", "mi-"))


def _through_daemon(
    call: _Call, introduction: "InstanceConnectLogin | None"
) -> _Carry | None:
    from ssmtunneld.ssh.daemon_route import carry, connect, find_listener

    for document in running(call.config):
        address = find_listener(document["tunnels"], call.host, call.port)
        if address is None or not _is_same_place(call, document):
            continue
        sock = connect(address)
        if sock is None:
            continue
        if introduction is None:
            return partial(carry, sock)
        return partial(_introduce_and_carry, introduction, call, sock)
    return None


def _is_same_place(call: _Call, document: dict[str, Any]) -> bool:
    return is_same_endpoint(document, os.environ, call.source(), call.endpoint_in)


async def _introduce_and_carry(
    introduction: "InstanceConnectLogin",
    call: _Call,
    sock: socket.socket,
    local: "Stdio",
) -> "Transfer | None":
    from ssmtunneld.ssh.daemon_route import carry

    await introduction.make_alone(call.settings)
    return await carry(sock, local)


def _configure_log(level: str) -> None:
    from ssmtunneld.observe import logs

    logs.configure(level, "auto")


def _alone(call: _Call, introduction: "InstanceConnectLogin | None") -> _Carry:
    from ssmtunneld.ssh.single_session import carry_alone

    tunnel = call.settings()
    if introduction is None:
        return partial(carry_alone, tunnel, call.timeout)
    return partial(carry_alone, tunnel, call.timeout, prepare=introduction.make)


class _Client:
    """Whoever reads our standard output, and what has been said to it."""

    def __init__(self) -> None:
        self._stdio: Stdio | None = None

    def open(self) -> "Stdio":
        """Return the way to it; called once, in the loop."""
        from ssmtunneld.ssh.stdio import Stdio

        self._stdio = Stdio()
        return self._stdio

    def refuse(self, failure: CommandError) -> None:
        """Tell an ssh why there is no connection, unless it was told anything."""
        from ssmtunneld.ssh.disconnect import refuse

        reason = f"{failure}; {failure.advice}" if failure.advice else str(failure)
        stdio = self._stdio
        if stdio is None:
            refuse(reason)
        elif not stdio.told:
            refuse(reason, stdio.heard)


async def _serve(
    carry: _Carry, signals: "Signals", client: _Client
) -> "Transfer | None":
    """Carry, until it is over or a signal says that nobody is left."""
    from ssmtunneld.daemon.signals import NUMBERS

    stdio = client.open()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None, "run by asyncio.run"

    def leave() -> None:
        stdio.leave()
        loop.call_later(GRACE, task.cancel)

    with signals.answered(dict.fromkeys(NUMBERS, leave)):
        try:
            return await carry(stdio)
        except asyncio.CancelledError:
            return None


def _check(transfer: "Transfer | None") -> None:
    from ssmtunneld.listener.relay import ConnectionOutcome

    if transfer is not None and transfer.ending in {
        ConnectionOutcome.REMOTE_RESET,
        ConnectionOutcome.REFUSED,
    }:
        raise transfer.cause or StreamReset("the connection was cut")


def _failure(error: SsmtunneldError) -> CommandError:
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    sentence = "; ".join(" ".join(problem.split()) for problem in problems)
    return CommandError(sentence, error.advice, code=EXIT_FAILED)
