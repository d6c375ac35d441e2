"""``ssmtunneld open``: tunnels without a file, for as long as the command runs."""

import io
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource
from typing_extensions import override

from ssmtunneld.base.threads import start
from ssmtunneld.cli.ad_hoc import (
    Forward,
    configure,
    looks_like_destination,
    parse_forward,
    parse_tunnel,
    socks_address,
    with_addresses,
)
from ssmtunneld.cli.announcer import Announcer, is_ready
from ssmtunneld.cli.asides import Aside
from ssmtunneld.cli.child_process import run_program
from ssmtunneld.cli.ending_signals import EndingSignals
from ssmtunneld.cli.exit_codes import EXIT_INTERRUPTED, CommandError
from ssmtunneld.cli.options import (
    APPROVAL_TIMEOUT,
    refuse_alone,
    seconds,
    timeout_option,
)
from ssmtunneld.cli.terminal.reason import ask_reason, check_reason
from ssmtunneld.cli.trailing_command import TrailingCommand, trailing
from ssmtunneld.errors import SsmtunneldError

if TYPE_CHECKING:
    from ssmtunneld.cli.daemon_thread import DaemonThread
    from ssmtunneld.config import Config

POLL_INTERVAL: Final = 0.1
"""Seconds between looks at tunnels that are not ready yet."""
LIVE_INTERVAL: Final = 1.0
"""Seconds between two states of the live line."""
_DEFAULT: Final = "default"


@click.command(
    name="open",
    cls=TrailingCommand,
    options_metavar="[OPTIONS]",
    epilog="Examples: `ssmtunneld open i-0182d91e85d69cf00 8000`; "
    "`ssmtunneld open tag:Role=bastion orders.internal:5432 --listen 15432`; "
    "`ssmtunneld open name:bastion-1 --socks --allow '*.internal:443'`; "
    "`ssmtunneld open name:bastion-1 db.internal:5432 -- psql -h {host} -p {port}`.",
)
@click.argument(
    "words", metavar="[TARGET] [[LOCAL:][HOST:]PORT]... [-- CMD [ARGS]...]", nargs=-1
)
@click.option(
    "--listen",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="Where to listen, as in a file: 18000, 127.0.0.1:18000, unix:/path; "
    "repeatable, in the order of the destinations. By default the destination's port "
    "on 127.0.0.1 if it is free, else any port; at an emulator any for its targets'.",
)
@click.option(
    "-L",
    "forwards",
    multiple=True,
    metavar="[BIND:]PORT:HOST:HOSTPORT",
    help="One more tunnel, as ssh spells it; repeatable.",
)
@click.option(
    "--socks",
    is_flag=False,
    flag_value=_DEFAULT,
    metavar="[ADDRESS]",
    help="A SOCKS5 proxy to what --allow says; on 127.0.0.1:1080 if that is free.",
)
@click.option(
    "--allow",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="What clients of --socks may name: *.internal.example.com:443, 10.0.0.0/8:*; "
    "repeatable.",
)
@click.option(
    "--allow-from",
    "networks",
    multiple=True,
    metavar="NETWORK",
    help="Who may connect to an address that other machines can reach; repeatable.",
)
@click.option(
    "--request",
    is_flag=True,
    help="Ask for just-in-time access to the target first, and wait for the approval.",
)
@click.option(
    "--reason",
    metavar="TEXT",
    help="With --request, why; without it, it is asked for on the terminal.",
)
@click.option("--profile", metavar="NAME", help="The AWS profile.")
@click.option("--region", metavar="REGION", help="The AWS region.")
@click.option("--document", metavar="NAME", help="A session document of your own.")
@click.option(
    "--max-sessions",
    type=click.IntRange(1, 1000),
    help="Sessions that may carry a tunnel's connections together. By default 4.",
)
@click.option(
    "--endpoint-url", metavar="URL", help="The SSM API, where it is not the public one."
)
@click.option(
    "--ready-fd",
    type=click.IntRange(min=1),
    metavar="N",
    help="Write the local addresses to this descriptor once all tunnels are ready, a "
    "line each, and close it.",
)
@timeout_option(
    "60s",
    f"With CMD, how long to wait for the tunnels ({APPROVAL_TIMEOUT} with --request)",
)
@click.option(
    "-q", "--quiet", is_flag=True, help="Say only what goes wrong, and when it is over."
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Also log what the tunnels do, on standard error.",
)
@click.pass_context
def open_tunnels(  # noqa: PLR0913 - one parameter for each option
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    *,
    addresses: tuple[str, ...],
    forwards: tuple[str, ...],
    socks: str | None,
    patterns: tuple[str, ...],
    networks: tuple[str, ...],
    ready_fd: int | None,
    timeout: float,
    quiet: bool,
    log_level: str | None,
    request: bool,
    reason: str | None,
    **settings: object,
) -> None:
    """Open tunnels without a file, for as long as the command runs.

    TARGET is i-..., mi-..., name:web-1, tag:Role=bastion, or whatever else a file may
    say; on a terminal you can leave it out and pick one that is online. Each PORT leads
    to the target itself, each HOST:PORT to a host that the target reaches; a local port
    can stand in front, as in 15432:HOST:PORT. Ctrl-C ends the tunnels and their
    sessions. With CMD, the tunnels are open while it runs, and its exit code is ours.
    It starts once they are ready, within --timeout, and with --request approved. {host}
    and {port} in it are those of the first tunnel. It finds them also as
    SSMTUNNELD_HOST and SSMTUNNELD_PORT in its environment, and SSMTUNNELD_<NAME>_HOST
    and SSMTUNNELD_<NAME>_PORT of each tunnel.
    """
    refuse_alone("timeout", "-- CMD", given=bool(trailing(ctx)))
    refuse_alone("reason", "--request", given=request)
    if patterns and socks is None:
        raise click.UsageError(
            "--allow has no effect without --socks; --allow-from is for who may connect"
        )
    if ready_fd is not None:
        _check_descriptor(ready_fd)
    target, wanted = _split(words)
    try:
        tunnels = [parse_tunnel(text) for text in wanted]
        tunnels += [parse_forward(text) for text in forwards]
        proxy, why_there = _proxy(socks, patterns)
        if not tunnels and proxy is None:
            raise click.UsageError(
                "where to? name a port, HOST:PORT, -L or --socks, such as: "
                "ssmtunneld open i-0182d91e85d69cf00 8000"
            )
        at_home = _is_emulated(settings["endpoint_url"])
        listening = with_addresses(tunnels, addresses, at_home=at_home)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    settings["access"] = "request" if request else None
    if request and ctx.get_parameter_source("timeout") is ParameterSource.DEFAULT:
        timeout = seconds(APPROVAL_TIMEOUT)  # people take longer than agents
    config = _configure(target, listening, settings, proxy, networks)
    why = _reason(config, reason, request=request)
    command = trailing(ctx)
    _check_places(command, config)
    _configure_log(log_level)
    notes = [*(forward.note for forward in listening), why_there]
    names = [tunnel.name for tunnel in config.tunnels]
    announcer = Announcer(
        # What a command says goes to standard output, and must come out as it is.
        Aside() if command else sys.stdout,
        live=not command and not quiet and sys.stdout.isatty(),
        quiet=quiet,
        notes=dict(zip(names, notes, strict=False)),
    )
    _serve(config, ready_fd, timeout, announcer, ctx, why)


def _is_emulated(endpoint: object) -> bool:
    """Return True if the API is an emulator's, on this machine."""
    from urllib.parse import urlsplit

    from ssmtunneld.aws.api.endpoints import configured_endpoint, is_loopback_host

    try:
        url = str(endpoint or configured_endpoint(os.environ))
        return is_loopback_host(urlsplit(url).hostname or "")
    except ValueError:
        return False  # which is said where it is used


def _reason(config: "Config", reason: str | None, *, request: bool) -> str | None:
    """Return the reason of an access request; None if no request is wanted."""
    if not request:
        return None
    if reason is not None:
        return check_reason(reason)
    asked = ask_reason(config.tunnels[0].target)
    if asked is None:
        raise click.UsageError("--request needs --reason where there is no terminal")
    return asked


def _check_descriptor(number: int) -> None:
    try:
        os.fstat(number)
    except (OSError, OverflowError):
        raise click.UsageError(f"--ready-fd {number}: no such descriptor") from None


def _split(words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Return the target, None to pick it at a prompt, and the destinations."""
    if words and not looks_like_destination(words[0]):
        return words[0], words[1:]
    from ssmtunneld.cli.terminal.picker import can_ask

    if not can_ask():
        raise click.UsageError(
            "which target? such as: ssmtunneld open i-0182d91e85d69cf00 8000; "
            "ssmtunneld targets lists them"
        )
    return None, words


def _proxy(
    socks: str | None, patterns: Sequence[str]
) -> tuple[dict[str, object] | None, str]:
    """Return the settings of a SOCKS proxy, and why it is not where it usually is."""
    if socks is None:
        return None, ""
    if not socks:
        raise ValueError("--socks is empty: write a port, or only --socks")
    if not patterns:
        raise ValueError(
            "--socks needs --allow PATTERN, such as '*.internal.example.com:443'"
        )
    address, note = socks_address("" if socks == _DEFAULT else socks)
    return {"listen": address, "destinations": list(patterns)}, note


def _configure(
    target: str | None,
    forwards: Sequence[Forward],
    settings: dict[str, object],
    proxy: dict[str, object] | None,
    networks: Sequence[str],
) -> "Config":
    if target is None:
        from ssmtunneld.cli.terminal.picker import pick_target

        profile, region, url = (
            None if settings[key] is None else str(settings[key])
            for key in ("profile", "region", "endpoint_url")
        )
        target = pick_target(profile, region, url)
    allowed = {"allow": list(networks)} if networks else {}
    return configure(target, forwards, {**settings, **allowed}, proxy)


class _Nowhere(io.StringIO):
    """A stream that keeps nothing."""

    @override
    def write(self, text: str, /) -> int:
        return len(text)


def _configure_log(level: str | None) -> None:
    """Let the tunnels log; by default nothing, because what matters is said anyway."""
    from ssmtunneld.observe import logs

    if level is None:
        logs.configure("error", "auto", stream=_Nowhere())
    else:
        logs.configure(level, "auto")


def _serve(
    config: "Config",
    ready_fd: int | None,
    timeout: float,
    announcer: Announcer,
    ctx: click.Context,
    why: str | None,
) -> None:
    from ssmtunneld.cli.daemon_thread import DaemonThread
    from ssmtunneld.daemon.process import raise_file_limit
    from ssmtunneld.observe import logs

    raise_file_limit()
    command = trailing(ctx)
    with EndingSignals() as signals:
        daemon = DaemonThread(config, signals)
        try:
            with daemon, signals.interrupting():
                _ask_access(daemon, why)
                if command:
                    document = _await_ready(daemon, announcer, timeout)
                    _tell_ready(ready_fd, document)
                    found = variables(document)
                    environ = {**os.environ, **found}
                    words = [_filled(word, found) for word in command]
                    with _telling_refusals(daemon, announcer):
                        code = run_program(words, environ)
                    ctx.exit(code)
                _watch(daemon, announcer, ready_fd)
        except (KeyboardInterrupt, SystemExit):
            if command:
                raise
            # Ctrl-C is how tunnels without a command end.
        finally:
            if daemon.alive:
                # Worker threads that wait for AWS would hold up a usual end.
                logs.flush()
                os._exit(EXIT_INTERRUPTED)


def _ask_access(daemon: "DaemonThread", why: str | None) -> None:
    if why is not None:
        daemon.request_access(why)


def _watch(daemon: "DaemonThread", announcer: Announcer, ready_fd: int | None) -> None:
    """Say what happens, until a signal comes or the tunnels end."""
    try:
        _tell_ready(ready_fd, _await_ready(daemon, announcer, None))
        while True:
            announcer.observe(daemon.document(), _clock())
            _pause(LIVE_INTERVAL)
    finally:
        with suppress(OSError):  # its terminal may be what has gone
            announcer.close()


@contextmanager
def _telling_refusals(daemon: "DaemonThread", announcer: Announcer) -> Iterator[None]:
    """Say why connections are refused while a program runs, and nothing else."""
    over = threading.Event()

    def tell() -> None:
        with suppress(SsmtunneldError):  # it has ended: whoever needs it will see
            while not over.wait(LIVE_INTERVAL):
                announcer.tell_refusals(daemon.document(), _clock())

    teller = threading.Thread(target=tell, name="refusals", daemon=True)
    start(teller)
    try:
        yield
    finally:
        over.set()
        teller.join()
        with suppress(SsmtunneldError):
            announcer.tell_refusals(daemon.document(), _clock())


def _await_ready(
    daemon: "DaemonThread", announcer: Announcer, timeout: float | None
) -> dict[str, Any]:
    """Return the status once all tunnels are ready.

    Raises:
        CommandError: They are not within ``timeout`` seconds, or can never be.
    """
    deadline = None if timeout is None else _clock() + timeout
    while True:
        document = daemon.document()
        if announcer.observe(document, _clock()):
            return document
        if deadline is not None and _clock() >= deadline:
            tunnels = [t for t in document["tunnels"] if not is_ready(t)]
            missing = ", ".join(tunnel["name"] for tunnel in tunnels)
            # The reasons, if there are any, were said when they came.
            cure = "see above, or " if any(t["advice"] for t in tunnels) else ""
            raise CommandError(
                f"giving up: not ready within {timeout:g} s: {missing}",
                f"{cure}give it more with --timeout",
            )
        _pause(POLL_INTERVAL)


def variables(document: dict[str, Any]) -> dict[str, str]:
    """Return what a command finds in its environment: where tunnels listen."""
    from ssmtunneld.cli.commands.exec import addresses

    tunnels = document["tunnels"]
    first = addresses([{**tunnels[0], "name": _FIRST}])
    plain = {key.replace(_STEM, "SSMTUNNELD_"): first[key] for key in first}
    return {**plain, **addresses(tunnels)}


_PLACES: Final = {"{host}": "SSMTUNNELD_HOST", "{port}": "SSMTUNNELD_PORT"}
"""Places in a command's words for the first tunnel's address."""


def _filled(word: str, found: Mapping[str, str]) -> str:
    for place, name in _PLACES.items():
        if place in word:
            word = word.replace(place, found[name])
    return word


def _check_places(command: Sequence[str], config: "Config") -> None:
    """Refuse words that ask for a host and a port where the first tunnel has none."""
    from ssmtunneld.config.parsers import TcpAddress

    asked = [place for place in _PLACES if any(place in word for word in command)]
    if asked and not isinstance(config.tunnels[0].listen[0], TcpAddress):
        raise click.UsageError(
            f"{asked[0]}: the first tunnel listens on a Unix socket, whose path is in "
            "SSMTUNNELD_SOCKET"
        )


_STDERR: Final = 2
_FIRST: Final = "first"
_STEM: Final = "SSMTUNNELD_FIRST_"


def _tell_ready(descriptor: int | None, document: dict[str, Any]) -> None:
    if descriptor is None:
        return
    tunnels = document["tunnels"]
    text = "".join(f"{tunnel['listen'][0]}\n" for tunnel in tunnels)
    # Whoever wanted to know may have gone: the tunnels are open all the same.
    # The standard ones stay open: what takes their numbers would be written to.
    kept = descriptor <= _STDERR
    with (
        suppress(OSError),
        os.fdopen(os.dup(descriptor) if kept else descriptor, "wb") as file,
    ):
        file.write(os.fsencode(text))


def _clock() -> float:
    return time.monotonic_ns() / 1e9


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
