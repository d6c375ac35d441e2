"""The service manager's side of the process: sd_notify, watchdog, socket activation.

A few lines of our own: the protocol is one datagram (sd_notify(3)) and three variables
(sd_listen_fds(3)), and no well-kept package speaks it.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.redaction import redact

LISTEN_FDS_START: Final = 3
"""SD_LISTEN_FDS_START of sd-daemon.h."""
STATUS_LIMIT: Final = 1000
"""Characters of a sentence for the service manager."""
_MICROSECONDS: Final = 1_000_000


class Notifier:
    """Tells systemd how the service is; does nothing where nobody listens.

    Args:
        address: ``$NOTIFY_SOCKET``: a path, or an abstract name that starts with ``@``.

    Attributes:
        unsent: Messages that the manager did not take.
    """

    def __init__(self, address: str | None) -> None:
        self._socket: socket.socket | None = None
        self.unsent = 0
        if address is None or address[:1] not in {"/", "@"}:
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        name = "\0" + address[1:] if address.startswith("@") else address
        try:
            self._socket.connect(name)
        except OSError:
            self._socket.close()
            self._socket = None

    @property
    def listening(self) -> bool:
        """True if a service manager listens."""
        return self._socket is not None

    def close(self) -> None:
        """Release the socket; idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str) -> None:
        """Say that the service is up, or that a reload is over."""
        self._send("READY=1", _status(status))

    def status(self, text: str) -> None:
        """Describe the service in one sentence for a person."""
        self._send(_status(text))

    def reloading(self, monotonic_us: int) -> None:
        """Say that the configuration is read again; ``ready`` ends it.

        Args:
            monotonic_us: CLOCK_MONOTONIC in microseconds, as ``Type=notify-reload`` of
                systemd 253 demands.
        """
        self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_us}")

    def stopping(self, budget: float) -> None:
        """Say that the service ends; it is killed if nothing is heard for ``budget``.

        Args:
            budget: Seconds.
        """
        self._send("STOPPING=1", _extension(budget))

    def extend(self, budget: float) -> None:
        """Ask for ``budget`` more seconds, from now, to start or to stop."""
        self._send(_extension(budget))

    def watchdog(self) -> None:
        """Say that the service is alive; without it, it is restarted."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send("\n".join(lines).encode("utf-8", "replace"))
        except OSError:
            # The manager is gone, its buffer is full, or the message is too long for
            # it; none of these may stop the service.
            self.unsent += 1


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """The sockets and settings that systemd gave the process."""

    notifier: Notifier
    watchdog: float | None
    """Seconds between signs of life, if they are asked for."""
    sockets: dict[str, list[socket.socket]]
    """Listening sockets by the names of tunnels."""

    @classmethod
    def of(cls, environ: Mapping[str, str], pid: int) -> Self:
        """Return what the environment of process ``pid`` tells; must be called once."""
        return cls(
            Notifier(environ.get("NOTIFY_SOCKET")),
            watchdog_interval(environ, pid),
            activated_sockets(environ, pid),
        )

    @classmethod
    def none(cls) -> Self:
        """Return what there is without systemd: nothing."""
        return cls(Notifier(None), None, {})


def _extension(budget: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={round(budget * _MICROSECONDS)}"


def _status(text: str) -> str:
    # Our own text, but it quotes others: once more, since this is the way out.
    return f"STATUS={clean(redact(text), STATUS_LIMIT)}"


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    """Return how often :meth:`Notifier.watchdog` must be called, in seconds.

    Half of what systemd allows, as sd_watchdog_enabled(3) advises; ``None`` if there is
    no watchdog, or if it is meant for another process.
    """
    allowed = environ.get("WATCHDOG_USEC", "")
    owner = environ.get("WATCHDOG_PID", str(pid))
    if not allowed.isdecimal() or int(allowed) == 0 or owner != str(pid):
        return None
    return int(allowed) / _MICROSECONDS / 2


def activated_sockets(
    environ: Mapping[str, str], pid: int
) -> dict[str, list[socket.socket]]:
    """Return the listening sockets that systemd passed, by their names.

    ``FileDescriptorName=`` of the socket unit is the tunnel's name; several sockets
    can share it. Descriptors that are not stream sockets are closed and left out. To be
    called once, before anything else opens files.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not count.isdecimal():
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        descriptor = LISTEN_FDS_START + index
        try:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - takes no keyword
            passed = socket.socket(fileno=descriptor)
        except OSError:
            with suppress(OSError):
                os.close(descriptor)
            continue
        if passed.type != socket.SOCK_STREAM:
            passed.close()
            continue
        passed.settimeout(0)
        name = names[index] if index < len(names) else "unknown"
        found.setdefault(name, []).append(passed)
    return found
