"""``ssmtunneld proxy``: what ssh runs as its ProxyCommand."""

import atexit
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ssmtunneld.aws.api.endpoints import configured_endpoint
from ssmtunneld.base.lean_imports import uncollected
from ssmtunneld.base.paths import real_path
from ssmtunneld.base.ports import HIGHEST_PORT
from ssmtunneld.base.record import Record
from ssmtunneld.base.sentences import with_advice
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.daemon_sockets import all_sockets, named_config
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.options import file_option, refuse_alone, seconds
from ssmtunneld.errors import ConfigError, NoSessionReady, SsmtunneldError, StreamReset

if TYPE_CHECKING:
    import asyncio

    from ssmtunneld.config import TunnelSettings
    from ssmtunneld.daemon.signals import Signals
    from ssmtunneld.listener.relay import Transfer
    from ssmtunneld.ssh.fd_passing import Handover
    from ssmtunneld.ssh.instance_connect import InstanceConnectLogin
    from ssmtunneld.ssh.stdio import Stdio

EXIT_FAILED: Final = 255
"""Exit code of ssh itself when a connection fails."""
GRACE: Final = 2.0
"""Seconds after a signal to deliver what was sent before it."""

_Carry = Callable[["Stdio"], "Awaitable[Transfer | None]"]


@click.command()
@click.argument("host", metavar="HOST")
@click.argument("port", metavar="PORT", type=click.IntRange(1, HIGHEST_PORT))
@click.option("--profile", metavar="NAME", help="AWS profile.")
@click.option("--region", metavar="REGION", help="AWS region.")
@click.option(
    "--document",
    metavar="NAME",
    help="Session document. By default AWS-StartSSHSession for port 22, and "
    "AWS-StartPortForwardingSession for other ports.",
)
@click.option(
    "--endpoint-url", metavar="URL", help="The SSM API, where it is not the public one."
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
    "--fdpass",
    is_flag=True,
    help="Hand the connection over to ssh and end, as ProxyUseFdpass wants it.",
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
    fdpass: bool,
    **given: str | None,
) -> None:
    """Connect standard input and output to a port, as ssh's ProxyCommand.

    HOST is i-..., mi-..., or any other target of a tunnel, such as name:web-1. An id
    may name its region: i-....us-east-2 or i-...--us-east-2, which counts more than
    --region. If a
    running daemon has a tunnel to the same port of the same target, the connection uses
    its warm sessions, unless --endpoint-url, AWS_ENDPOINT_URL_SSM or AWS_ENDPOINT_URL
    leads elsewhere than that tunnel's endpoint_url: the first of them that is set goes
    before the file's. Otherwise a session is started, and terminated with
    the connection. A target that sleeps is started (start_target), with its progress on
    standard error, and has 3 minutes for that. Exits with 0 after an orderly end, and
    with 255 otherwise.

    With --fdpass, ssh gets the connection itself, and this command ends: with a
    daemon nothing of ours is left, otherwise one process that carries the session.
    Without ProxyUseFdpass in ssh's configuration this cannot work.
    """
    from ssmtunneld.ssh.host_names import split_region

    user = given.pop("user")
    refuse_alone("user", "--instance-connect", given=instance_connect)
    if fdpass and instance_connect:
        # The key is needed after the hand-over, and deleted at the end.
        raise click.UsageError("--fdpass does not go with --instance-connect")
    target, place = split_region(host)
    if place is not None:
        given = {**given, "region": place}
    call = _Call(target, port, given, config_path, timeout, alone=no_daemon)
    if fdpass and _hand_over(call, log_level):
        return
    _carry_here(call, (user, host) if instance_connect else None, log_level)


def _hand_over(call: "_Call", log_level: str) -> bool:
    """Let ssh have the connection itself; return False if it cannot take one."""
    from ssmtunneld.ssh.fd_passing import Handover, can_pass, pass_socket

    if not can_pass():
        return False  # not ssh, which has given us a pipe
    try:
        sock = _through_daemon(call, introduced=False)
    except NoSessionReady as error:
        raise _failure(error) from None
    if sock is not None:
        try:
            pass_socket(sock)
        except OSError as error:
            raise _gone(error) from None
        return True
    reason = call.reason()  # as long as the terminal is ours
    handover = Handover.begin()
    # Here in a child of the process that ssh waits for.
    from ssmtunneld.daemon.signals import Signals

    with Signals() as signals:
        try:
            tunnel = _prepare_alone(call, log_level)
            work = _carry_for(handover, tunnel, call.timeout, signals, reason)
            transfer = _run(work)
            _check(transfer)
        except SsmtunneldError as error:
            failure = _failure(error)
            # Once the line is on standard error, as below.
            atexit.register(_refuse_by, handover, failure)
            raise failure from None
    if transfer is None:
        raise click.exceptions.Exit(EXIT_FAILED)
    return True


def _run(work: "Coroutine[Any, Any, Transfer | None]") -> "Transfer | None":
    import asyncio

    return asyncio.run(work)


async def _carry_for(
    handover: "Handover",
    tunnel: "TunnelSettings",
    timeout: float,
    signals: "Signals",
    reason: str | None,
) -> "Transfer | None":
    """Start a session, hand its connection over, and carry it until its end."""
    import asyncio

    from ssmtunneld.daemon.signals import NUMBERS
    from ssmtunneld.listener.local import LocalDuplex
    from ssmtunneld.ssh.single_session import carry_alone

    near, far = socket.socketpair()
    near.settimeout(0.0)
    local = await LocalDuplex.adopt(near)
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None, "run by asyncio.run"

    def leave() -> None:
        loop.remove_reader(handover.descriptor)
        far.close()  # which is what the other end of it sees

    async def give(_asking: object, _target: str) -> None:
        loop.remove_reader(handover.descriptor)
        try:
            handover.give(far)
        except OSError as error:
            raise StreamReset(f"ssh has gone: {error.strerror}") from None

    # ssh says nothing there, so whatever happens is its end.
    loop.add_reader(handover.descriptor, leave)
    with signals.answered(dict.fromkeys(NUMBERS, lambda: _cancel(task))):
        try:
            return await carry_alone(tunnel, timeout, local, give, reason)
        except asyncio.CancelledError:
            return None
        finally:
            loop.remove_reader(handover.descriptor)


def _cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()


def _refuse_by(handover: "Handover", failure: CommandError) -> None:
    """Tell ssh why there is no connection, on one that is made for that."""
    from ssmtunneld.ssh.disconnect import refuse_on

    if handover.done:
        return
    near, far = socket.socketpair()
    with near:
        try:
            handover.give(far)
        except OSError:
            return  # it has gone
        refuse_on(near, _reason(failure))


def _gone(error: OSError) -> CommandError:
    return CommandError(f"ssh has gone: {error.strerror}", code=EXIT_FAILED)


def _carry_here(
    call: "_Call",
    key: tuple[str | None, str] | None,
    log_level: str,
) -> None:
    """Carry the connection on standard input and output."""
    from ssmtunneld.daemon.signals import Signals

    client = _Client()
    # Before what takes long: ssh sends SIGHUP when it has had enough.
    with Signals() as signals, ExitStack() as stack:
        try:
            introduction = None
            if key is not None:
                introduction = _introduce(*key)
                stack.callback(introduction.end)
            # A target can take minutes to start, and a person to give a reason.
            with signals.interrupting():
                carry = _carry_through_daemon(call, introduction)
                if carry is None:
                    carry = _alone(call, introduction, log_level)
            transfer = _run(_serve(carry, signals, client))
            _check(transfer)
        except KeyboardInterrupt:
            transfer = None
        except SsmtunneldError as error:
            failure = _failure(error)
            # Once the line is on standard error: ssh ends as soon as it has read this.
            atexit.register(client.refuse, failure)
            raise failure from None
    if transfer is None:
        raise click.exceptions.Exit(EXIT_FAILED)  # ssh has gone: nobody to tell


class _Call(Record):
    """The connection that was asked for."""

    host: str
    port: int
    given: Mapping[str, str | None]
    config: Path | None
    timeout: float
    alone: bool
    """True if no daemon may be used."""

    def settings(self) -> "TunnelSettings":
        from ssmtunneld.ssh.settings import find_source, settings_for

        source = find_source(self.config, os.environ)
        return settings_for(self.host, self.port, self.given, source, os.environ)

    def reason(self) -> str | None:
        """Return the reason for access to the host, asked for on the terminal.

        None if it needs none, or if there is no terminal: then that is what is wrong.

        Raises:
            CommandError: The answer is not a valid reason.
        """
        try:
            tunnel = self.settings()
        except ConfigError:
            return None  # which is told by whoever needs it
        if tunnel.access != "request":
            return None
        from ssmtunneld.cli.terminal.reason import ask_reason

        try:
            reason = ask_reason(tunnel.target)
        except click.BadParameter as error:
            raise CommandError(error.message, code=EXIT_FAILED) from None
        if reason is not None:
            tell("waiting for the approval of the access request")
        return reason

    def endpoint(self) -> str:
        """Return the AWS endpoint that is meant; empty if only a file may name one.

        Then a daemon's tunnel is what is meant, wherever it leads.
        """
        return self.given["endpoint_url"] or configured_endpoint(os.environ)


def _introduce(user: str | None, host: str) -> "InstanceConnectLogin":
    import getpass

    from ssmtunneld.cli.ssh_files import keys_directory
    from ssmtunneld.ssh.instance_connect import InstanceConnectLogin

    return InstanceConnectLogin(keys_directory(), user or getpass.getuser(), host)


def _suits_daemon(call: _Call, *, introduced: bool) -> bool:
    """Return true if a daemon's tunnel to the host is what was asked for.

    Ids are the same in every profile; names are not, and they do not say which instance
    is to know a key.
    """
    if call.alone or call.given["document"] is not None:
        return False
    named = call.given["profile"] is not None or call.given["region"] is not None
    return not (named or introduced) or call.host.startswith(("i-", "mi-"))


def _through_daemon(call: _Call, *, introduced: bool) -> socket.socket | None:
    """Return a connection through a daemon; None if none suits or has one."""
    from ssmtunneld.ssh.daemon_route import connect, wake

    if not _suits_daemon(call, introduced=introduced):
        return None
    config = named_config(call.config)
    place: dict[str, str | int] = {
        "target": call.host,
        "port": call.port,
        "endpoint": call.endpoint(),
        "config": "" if config is None else str(real_path(config)),
    }
    sockets = all_sockets(config)
    sock = connect(sockets, place)
    if sock is not None:
        return sock
    waking = wake(sockets, place)
    if waking is None:
        return None
    _await_awake(*waking, call.timeout)
    return connect(sockets, place)


def _await_awake(path: Path, tunnel: str, timeout: float) -> None:
    """Wait, and say on standard error how far it is, until the target is awake.

    Raises:
        NoSessionReady: It cannot be started, or not in time, or the daemon has ended.
    """
    from ssmtunneld.cli.daemon_client import find_at
    from ssmtunneld.cli.readiness import START_TIMEOUT, Patience, await_ready

    patience = Patience(max(timeout, START_TIMEOUT))
    try:
        await_ready(lambda: find_at(path), [tunnel], patience)
    except CommandError as error:
        failure = NoSessionReady("; ".join([str(error), *error.problems]))
        failure.advice = error.advice
        raise failure from None


def _carry_through_daemon(
    call: _Call, introduction: "InstanceConnectLogin | None"
) -> _Carry | None:
    from ssmtunneld.ssh.daemon_route import carry

    sock = _through_daemon(call, introduced=introduction is not None)
    if sock is None:
        return None
    if introduction is None:
        return partial(carry, sock)
    return partial(_introduce_and_carry, introduction, call, sock)


async def _introduce_and_carry(
    introduction: "InstanceConnectLogin",
    call: _Call,
    sock: socket.socket,
    local: "Stdio",
) -> "Transfer | None":
    from ssmtunneld.ssh.daemon_route import carry

    await introduction.make_alone(call.settings)
    return await carry(sock, local)


def _prepare_alone(call: _Call, log_level: str) -> "TunnelSettings":
    """Configure the log, and import all that a session needs; return its settings."""
    with uncollected():
        from ssmtunneld.observe import logs

        logs.configure(log_level, "auto")
        import ssmtunneld.aws.client
        import ssmtunneld.ssh.single_session  # noqa: F401 - both are needed next

        return call.settings()


def _alone(
    call: _Call, introduction: "InstanceConnectLogin | None", log_level: str
) -> _Carry:
    tunnel = _prepare_alone(call, log_level)
    from ssmtunneld.ssh.single_session import carry_alone

    reason = call.reason()
    if introduction is None:
        return partial(carry_alone, tunnel, call.timeout, reason=reason)
    return partial(
        carry_alone, tunnel, call.timeout, prepare=introduction.make, reason=reason
    )


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

        reason = _reason(failure)
        stdio = self._stdio
        if stdio is None:
            refuse(reason)
        elif not stdio.told:
            refuse(reason, stdio.heard)


async def _serve(
    carry: _Carry, signals: "Signals", client: _Client
) -> "Transfer | None":
    """Carry, until it is over or a signal says that nobody is left."""
    import asyncio

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


def _reason(failure: CommandError) -> str:
    return with_advice(str(failure), failure.advice)


def _failure(error: SsmtunneldError) -> CommandError:
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    sentence = "; ".join(" ".join(problem.split()) for problem in problems)
    return CommandError(sentence, error.advice, code=EXIT_FAILED)
