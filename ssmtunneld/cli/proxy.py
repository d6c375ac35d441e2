"""``ssmtunneld proxy``: what ssh runs as its ProxyCommand."""

import asyncio
import getpass
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ssmtunneld.cli.exits import CommandError
from ssmtunneld.cli.neighbours import running
from ssmtunneld.cli.options import seconds
from ssmtunneld.errors import ConfigError, SsmtunneldError, StreamReset

if TYPE_CHECKING:
    from ssmtunneld.config import Tunnel
    from ssmtunneld.listener.relay import Transfer
    from ssmtunneld.signals import Signals
    from ssmtunneld.ssh.introduction import Introduction
    from ssmtunneld.ssh.stdio import Stdio

EXIT_FAILED: Final = 255
"""What ssh itself ends with when a connection fails."""
GRACE: Final = 2.0
"""Seconds that are left, after a signal, for what was sent before it."""

_Carry = Callable[["Stdio"], "Awaitable[Transfer | None]"]


@click.command()
@click.argument("host", metavar="HOST")
@click.argument("port", metavar="PORT", type=click.IntRange(1, 65535))
@click.option("--profile", metavar="NAME", help="The AWS profile.")
@click.option("--region", metavar="REGION", help="The AWS region.")
@click.option(
    "--document",
    metavar="NAME",
    help="The session document. By default AWS-StartSSHSession for port 22, and "
    "AWS-StartPortForwardingSession for others.",
)
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration: its daemon is asked, and its profile, region and "
    "endpoints are used. By default $SSMTUNNELD_CONFIG, then the usual places.",
)
@click.option(
    "--no-daemon", is_flag=True, help="Start a session even if a daemon runs."
)
@click.option(
    "--instance-connect",
    is_flag=True,
    help="Make a key for this login, in the file that ssh-config --instance-connect "
    "names, and let the instance accept it for a minute.",
)
@click.option(
    "--user",
    metavar="NAME",
    help="Who may log in with it: ssh's %r. By default your own name, as in ssh.",
)
@click.option(
    "--timeout",
    type=seconds,
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="How long a session may take to start: seconds, or a number with ms, s, m, h.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="error",
    show_default=True,
    help="What is told on standard error, beside the reason of a failure.",
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
    """Connect standard input and output to PORT of HOST: a ProxyCommand for ssh.

    HOST is i-..., mi-..., or whatever a tunnel's target may be, such as name:web-1.
    Where a daemon runs that has a tunnel to the same place, the connection goes through
    its warm sessions. Otherwise one session is started, and ended with the connection.
    Ends with 0 when the connection has ended in order, and with 255 otherwise.
    """
    from ssmtunneld.signals import Signals

    if user is not None and not instance_connect:
        raise click.UsageError("--user has no effect without --instance-connect")
    call = _Call(host, port, given, config_path, timeout)
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
            transfer = asyncio.run(_serve(carry, signals))
            _check(transfer)
        except SsmtunneldError as error:
            raise _failure(error) from None
    if transfer is None:
        raise click.exceptions.Exit(EXIT_FAILED)  # ssh has gone: nobody to tell


@dataclass(frozen=True, slots=True)
class _Call:
    """What was asked for."""

    host: str
    port: int
    given: Mapping[str, str | None]
    config: Path | None
    timeout: float

    def settings(self) -> "Tunnel":
        from ssmtunneld.ssh.settings import find_source, settings_for

        source = find_source(self.config, os.environ)
        return settings_for(self.host, self.port, self.given, source, os.environ)


def _introduce(user: str | None, host: str) -> "Introduction":
    from ssmtunneld.cli.ssh_files import keys_directory
    from ssmtunneld.ssh.introduction import Introduction

    return Introduction(keys_directory(), user or getpass.getuser(), host)


def _suits_daemon(call: _Call, introduction: "Introduction | None") -> bool:
    """Whether a daemon's tunnel to the host is what was asked for.

    Ids are the same in every profile; names are not, and they do not say which instance
    is to know a key.
    """
    if call.given["document"] is not None:
        return False
    named = call.given["profile"] is not None or call.given["region"] is not None
    particular = named or introduction is not None
    return not particular or call.host.startswith(("i-", "mi-"))


def _through_daemon(call: _Call, introduction: "Introduction | None") -> _Carry | None:
    from ssmtunneld.ssh.warm import carry, connect, find_listener

    for document in running(call.config):
        address = find_listener(document["mappings"], call.host, call.port)
        sock = None if address is None else connect(address)
        if sock is None:
            continue
        if introduction is None:
            return partial(carry, sock)
        return partial(_introduce_and_carry, introduction, call, sock)
    return None


async def _introduce_and_carry(
    introduction: "Introduction", call: _Call, sock: socket.socket, local: "Stdio"
) -> "Transfer | None":
    from ssmtunneld.ssh.warm import carry

    await introduction.make_alone(call.settings)
    return await carry(sock, local)


def _configure_log(level: str) -> None:
    from ssmtunneld.ops import logs

    logs.configure(level, "auto")


def _alone(call: _Call, introduction: "Introduction | None") -> _Carry:
    from ssmtunneld.ssh.solo import carry_alone

    tunnel = call.settings()
    if introduction is None:
        return partial(carry_alone, tunnel, call.timeout)
    return partial(carry_alone, tunnel, call.timeout, prepare=introduction.make)


async def _serve(carry: _Carry, signals: "Signals") -> "Transfer | None":
    """Carry, until it is over or a signal says that nobody is left."""
    from ssmtunneld.signals import NUMBERS
    from ssmtunneld.ssh.stdio import Stdio

    stdio = Stdio()
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
    from ssmtunneld.listener.relay import Ending

    if transfer is not None and transfer.ending in {
        Ending.REMOTE_RESET,
        Ending.REFUSED,
    }:
        raise transfer.cause or StreamReset("the connection was cut")


def _failure(error: SsmtunneldError) -> CommandError:
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    sentence = "; ".join(" ".join(problem.split()) for problem in problems)
    return CommandError(sentence, error.advice, code=EXIT_FAILED)
