"""``ssmtunneld proxy``: what ssh runs as its ProxyCommand."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ssmtunneld.cli.exits import CommandError
from ssmtunneld.cli.neighbours import running
from ssmtunneld.cli.options import seconds
from ssmtunneld.errors import ConfigError, SsmtunneldError, StreamReset

if TYPE_CHECKING:
    from ssmtunneld.listener.relay import Transfer
    from ssmtunneld.signals import Signals
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
    **given: str | None,
) -> None:
    """Connect standard input and output to PORT of HOST: a ProxyCommand for ssh.

    HOST is i-..., mi-..., or whatever a tunnel's target may be, such as name:web-1.
    Where a daemon runs that has a tunnel to the same place, the connection goes through
    its warm sessions. Otherwise one session is started, and ended with the connection.
    Ends with 0 when the connection has ended in order, and with 255 otherwise.
    """
    from ssmtunneld.signals import Signals

    # Before what takes long: ssh sends SIGHUP when it has had enough.
    with Signals() as signals:
        try:
            carry = None
            if not no_daemon and _suits_daemon(host, given):
                carry = _through_daemon(host, port, config_path)
            if carry is None:
                _configure_log(log_level)
                carry = _alone(host, port, given, config_path, timeout)
            transfer = asyncio.run(_serve(carry, signals))
            _check(transfer)
        except SsmtunneldError as error:
            raise _failure(error) from None
    if transfer is None:
        raise click.exceptions.Exit(EXIT_FAILED)  # ssh has gone: nobody to tell


def _suits_daemon(host: str, given: Mapping[str, str | None]) -> bool:
    """Whether a daemon's tunnel to ``host`` is what was asked for.

    Ids are the same in every profile; names are not.
    """
    if given["document"] is not None:
        return False
    named = given["profile"] is not None or given["region"] is not None
    return not named or host.startswith(("i-", "mi-"))


def _through_daemon(host: str, port: int, config: Path | None) -> _Carry | None:
    from ssmtunneld.ssh.warm import carry, connect, find_listener

    for document in running(config):
        address = find_listener(document["mappings"], host, port)
        sock = None if address is None else connect(address)
        if sock is not None:
            return partial(carry, sock)
    return None


def _configure_log(level: str) -> None:
    from ssmtunneld.ops import logs

    logs.configure(level, "auto")


def _alone(
    host: str,
    port: int,
    given: Mapping[str, str | None],
    config: Path | None,
    timeout: float,
) -> _Carry:
    from ssmtunneld.ssh.settings import find_source, settings_for
    from ssmtunneld.ssh.solo import carry_alone

    source = find_source(config, os.environ)
    tunnel = settings_for(host, port, given, source, os.environ)
    return partial(carry_alone, tunnel, timeout)


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
