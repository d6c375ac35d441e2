"""The commands' end of the control socket: finding a daemon, and asking it.

The standard library's HTTP client, because it starts fastest: ``status`` must not be
slower than what it shows.
"""

import http.client
import json
import shlex
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from ssmtunneld.base.nearest import nearest
from ssmtunneld.base.paths import real_path
from ssmtunneld.cli.daemon_sockets import named_config, system_sockets
from ssmtunneld.cli.exit_codes import (
    EXIT_FAILED,
    EXIT_NOT_RUNNING,
    EXIT_USAGE,
    CommandError,
)
from ssmtunneld.daemon.instance_lock import control_sockets, holders, state_trouble
from ssmtunneld.serve.control_protocol import PROGRAM_HEADER, PROTOCOL_HEADER
from ssmtunneld.version import __version__

ANSWER_TIMEOUT: Final = 5.0
"""Seconds for what a daemon can answer at once."""
RELOAD_TIMEOUT: Final = 60.0
"""Seconds for a reload: listeners are bound and settings resolved meanwhile."""
_TIMEVAL: Final = struct.Struct("@ll")
_USAGE_CODES: Final = frozenset({400, 404, 422})


class NotRunning(CommandError):
    """No daemon runs, or none for the file that was named.

    Args:
        config: That file.
        service: The command that starts an installed service; empty without one.
    """

    def __init__(self, config: Path | None = None, service: str = "") -> None:
        where = f" for {config}" if config else ""
        run = "ssmtunneld run" + (f" -c {config}" if config else "")
        super().__init__(
            f"no daemon runs{where}",
            f"start the service: {service}" if service else f"start one: {run}",
            code=EXIT_NOT_RUNNING,
        )


class NotAnswering(NotRunning):
    """A running daemon that cannot be asked: not yet, right after its start, or never.

    Args:
        pid: Its process.
    """

    def __init__(self, pid: int) -> None:
        CommandError.__init__(
            self,
            f"a daemon runs (pid {pid}), but it cannot be asked",
            "see control.failed in its log",
        )


class OthersDaemon(CommandError):
    """A daemon of another user, which does not answer us.

    Args:
        path: Its control socket.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} belongs to another user",
            "run this command as its user, or as root",
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A daemon's answer to one request."""

    code: int
    protocol: int
    """The control socket's version; 0 for daemons that do not tell it."""
    program: str
    """The daemon's version; empty for the same ones."""
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that runs, or did when it was asked for its status."""

    path: Path
    protocol: int
    document: dict[str, Any]
    """Its status document of that moment."""

    def ask(
        self,
        method: str,
        target: str,
        body: dict[str, Any] | None = None,
        *,
        needs: int = 1,
        timeout: float | None = ANSWER_TIMEOUT,
    ) -> dict[str, Any]:
        """Return the answer to one request.

        Args:
            method: HTTP's.
            target: The path.
            body: Sent as JSON.
            needs: The version of the control socket that knows this request.
            timeout: Seconds until it must have answered; ``None`` to wait for ever.

        Raises:
            CommandError: It refuses, is too old, does not answer, or has ended.
        """
        if self.protocol < needs:
            raise CommandError(
                f"the running daemon is {self.document.get('program', 'older')} "
                f"(control protocol {self.protocol}), this command needs "
                f"{__version__} (control protocol {needs})",
                "restart it",
            )
        answer = request(self.path, method, target, body, timeout=timeout)
        if answer is None:
            raise NotRunning
        if answer.code >= 400:
            raise _refusal(answer)
        return answer.document


def find(config: Path | None) -> Daemon:
    """Return the daemon that runs the file ``config``, or else the only one there is.

    ``$SSMTUNNELD_CONFIG`` stands for a ``config`` that is not given.

    Raises:
        NotRunning: There is none.
        NotAnswering: There is one that cannot be asked; one that starts, not yet.
        OthersDaemon: There is none of ours, but a service that is another user's.
        CommandError: There are several, or it does not answer.
    """
    config = named_config(config)
    found = _all(control_sockets(config))
    others: list[OthersDaemon] = []
    if config is None:
        found += _all(system_sockets(), others)
    elif not found:
        source = str(real_path(config))
        found = [
            daemon
            for daemon in _all(system_sockets(), others)
            if daemon.document.get("config") == source
        ]
    if others and not found:
        raise others[0]
    if not found:
        raise _not_found(config)
    if len(found) > 1:
        raise SeveralRunning([str(daemon.document["config"]) for daemon in found])
    return found[0]


def find_at(path: Path) -> Daemon:
    """Return the daemon behind the control socket ``path``.

    Raises:
        NotRunning: There is none any more.
        CommandError: It does not answer.
    """
    for daemon in _all([path]):
        return daemon
    raise NotRunning


class SeveralRunning(CommandError):
    """Several daemons run, and none is named.

    Args:
        configs: Their files.
    """

    def __init__(self, configs: Sequence[str]) -> None:
        listed = ", ".join(configs)
        super().__init__(
            "several daemons run", f"name one with -c: {listed}", code=EXIT_USAGE
        )
        self.configs = tuple(configs)


def _not_found(config: Path | None) -> CommandError:
    """Return why no daemon answers: none runs, or none can be asked."""
    for pid in holders(config):
        return NotAnswering(pid)
    trouble = state_trouble()
    if not trouble:
        from ssmtunneld.cli.service.installed import start_command

        return NotRunning(config, start_command(config))
    return CommandError(
        f"no daemon answers; one might run that cannot be asked: {trouble}",
        "let STATE_DIRECTORY or XDG_STATE_HOME name a folder that its user can write, "
        "there and here",
        code=EXIT_NOT_RUNNING,
    )


def _all(
    paths: Sequence[Path], others: list[OthersDaemon] | None = None
) -> list[Daemon]:
    """Return the daemons behind ``paths``.

    Args:
        paths: Control sockets; one can be left behind by a daemon that was killed.
        others: Gets the errors of those that are other users', which are raised
            otherwise.
    """
    found = []
    for path in paths:
        try:
            answer = request(path, "GET", "/status")
        except OthersDaemon as error:
            if others is None:
                raise
            others.append(error)
            continue
        if answer is None:
            continue
        if answer.code >= 400:
            raise _refusal(answer)
        found.append(Daemon(path, answer.protocol, answer.document))
    return found


def select(
    document: dict[str, Any], names: Sequence[str], groups: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the tunnels that are called so or in such a group, in the file's order.

    All, if neither a name nor a group is given.

    Raises:
        CommandError: There is none of such a name, or in such a group.
    """
    tunnels: list[dict[str, Any]] = document["tunnels"]
    known = [tunnel["name"] for tunnel in tunnels]
    for name in names:
        if name not in known:
            raise _unknown(name, known, document.get("config", ""))
    if groups:
        _check_groups(tunnels, groups)
    return [
        tunnel
        for tunnel in tunnels
        if not (names or groups)
        or tunnel["name"] in names
        or not set(groups).isdisjoint(tunnel.get("groups", ()))
    ]


def select_enabled(
    document: dict[str, Any], names: Sequence[str], groups: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return what ``select`` does, without tunnels that the file disables.

    Raises:
        CommandError: As ``select``; or one of ``names`` is disabled, or all of the
            groups' tunnels are.
    """
    found = select(document, names, groups)
    enabled = [tunnel for tunnel in found if not is_disabled(tunnel)]
    for tunnel in found:
        if tunnel["name"] in names and is_disabled(tunnel):
            raise disabled(tunnel["name"])
    if groups and not enabled:
        raise disabled(", ".join(tunnel["name"] for tunnel in found))
    return enabled


def is_disabled(tunnel: dict[str, Any]) -> bool:
    """Return True if nothing of a tunnel runs, because the file says so."""
    return bool(tunnel["state"] == "disabled")


def disabled(names: str) -> CommandError:
    """Return the error for tunnels that cannot be used, because the file says so."""
    verb = "are" if "," in names else "is"
    return CommandError(
        f"{names} {verb} disabled (enabled = false)",
        "enable it in its file, then: ssmtunneld reload",
        code=EXIT_USAGE,
    )


def groups_in(tunnels: Sequence[dict[str, Any]]) -> list[str]:
    """Return the groups of tunnels of a status document, sorted."""
    return sorted({group for tunnel in tunnels for group in tunnel.get("groups", ())})


def _check_groups(tunnels: Sequence[dict[str, Any]], groups: Sequence[str]) -> None:
    if any("groups" not in tunnel for tunnel in tunnels):
        raise CommandError(
            "the running daemon is older and has no groups", "restart it"
        )
    known = groups_in(tunnels)
    for group in groups:
        if group not in known:
            from ssmtunneld.config.groups import no_such_group

            problem, advice = no_such_group(group, known)
            raise CommandError(problem, advice, code=EXIT_USAGE)


def _unknown(name: str, known: Sequence[str], config: str) -> CommandError:
    near = nearest(name, known)
    listed = ", ".join(known) or "none"
    where = f" in {config}" if config else ""
    return CommandError(
        f"no tunnel is called {shlex.quote(name)}{where}",
        f"did you mean {near[0]}?" if near else f"the tunnels are: {listed}",
        code=EXIT_USAGE,
    )


def request(
    path: Path,
    method: str,
    target: str,
    body: dict[str, Any] | None = None,
    *,
    timeout: float | None = ANSWER_TIMEOUT,
) -> Answer | None:
    """Send one request to the control socket ``path``.

    Returns ``None`` if nobody listens there.

    Raises:
        CommandError: There is no answer, or none that can be understood.
    """
    connection = _UnixConnection(path, timeout)
    try:
        connection.request(method, target, None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read()
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except PermissionError:
        raise OthersDaemon(path) from None
    except TimeoutError:
        raise CommandError(
            f"no answer from the daemon behind {path} within {timeout:g} s",
            "see its log, or ask again: ssmtunneld status",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise CommandError(
            f"the daemon behind {path} closed the connection: {reason}",
            "see its log, or ask again: ssmtunneld status",
        ) from None
    finally:
        connection.close()
    protocol = response.headers.get(PROTOCOL_HEADER, "0")
    return Answer(
        code=response.status,
        protocol=int(protocol) if protocol.isdecimal() else 0,
        program=response.headers.get(PROGRAM_HEADER, ""),
        document=_document(text, response.status),
    )


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    @override
    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        if self.timeout is not None:
            # In the kernel: where many wait, one that does not block is told to go away
            # instead of having to wait as well.
            limit = _TIMEVAL.pack(*map(int, divmod(self.timeout * 1e6, 1e6)))
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            self.sock.connect(str(self._path))
        except BlockingIOError:
            raise TimeoutError from None
        self.sock.settimeout(self.timeout)


def _document(text: bytes, code: int) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    if code < 400:
        raise CommandError("the daemon's answer is not JSON", "see its log")
    # Older daemons, and the library below ours, refuse in plain words.
    words = " ".join(text.decode(errors="replace").split())
    return {"error": words or f"the daemon answered with HTTP {code}"}


def _refusal(answer: Answer) -> CommandError:
    document, code = answer.document, answer.code
    advice = "see its log" if code >= 500 else ""
    return CommandError(
        str(document.get("error") or f"the daemon answered with HTTP {code}"),
        str(document.get("advice") or advice),
        code=EXIT_USAGE if code in _USAGE_CODES else EXIT_FAILED,
        problems=[str(problem) for problem in document.get("problems") or ()],
    )
