"""Findings in the file of another program."""

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from itertools import count

from ssmtunneld.config.parsers import TcpAddress, binds, names_loopback, parse_address

Settings = dict[str, object]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that has no equivalent, or is not quite what it was."""

    line: int
    """Line number; 0 if unknown."""
    text: str


@dataclass(frozen=True, slots=True)
class FoundTunnel:
    """One tunnel: its name, and its settings as a file spells them."""

    name: str
    settings: Settings
    line: int = 0


@dataclass(slots=True)
class Found:
    """Everything that was found, in the order of the file."""

    tunnels: list[FoundTunnel] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def note(self, line: int, text: str) -> None:
        """Say that something has no equivalent."""
        self.notes.append(Note(line, text))

    def add(self, name: str, settings: Settings, line: int = 0) -> None:
        """Add a tunnel; settings that are None are left out."""
        kept = {key: value for key, value in settings.items() if value is not None}
        self.tunnels.append(FoundTunnel(name, kept, line))

    def settled(self, taken: Iterable[str] = (), held: Iterable[int] = ()) -> "Found":
        """Return the same with names and ports that do not clash.

        Args:
            taken: Names that are in use elsewhere.
            held: Ports of 127.0.0.1 that are in use elsewhere.
        """
        settled = Found(notes=list(self.notes))
        names, ports = set(taken), set(held)
        for tunnel in self.tunnels:
            name = unique(slug(tunnel.name), names)
            names.add(name)
            settings = dict(tunnel.settings)
            if (port := _port(settings)) is not None:
                free = next_port(port, ports)
                ports.add(free)
                if free != port:
                    settings["listen"] = _moved(settings["listen"], free)
                    settled.note(tunnel.line, why_moved(name, port, free))
            settled.tunnels.append(FoundTunnel(name, settings, tunnel.line))
        settled.notes.sort(key=lambda note: note.line)
        return settled


def slug(text: str) -> str:
    """Return ``text`` as a tunnel may be called."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:50] or "tunnel"


def unique(name: str, taken: Iterable[str]) -> str:
    """Return ``name``, or with a number behind it that nobody has."""
    names = set(taken)
    found, number = name, 2
    while found in names:
        found, number = f"{name}-{number}", number + 1
    return found


def local_address(host: str, port: int) -> str | int:
    """Return where to listen, as short as a file may say it."""
    if host in {"", "localhost", "127.0.0.1"}:
        return port
    bare = host.removeprefix("[").removesuffix("]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def remote_host(host: str) -> str | None:
    """Return the destination's host; None if it is the target itself."""
    bare = host.removeprefix("[").removesuffix("]")
    return None if not bare or names_loopback(bare) else bare


def short(host: str) -> str:
    """Return what a person calls a host: the first part of its name."""
    return host if re.fullmatch(r"[0-9.]+|.*:.*", host) else host.partition(".")[0]


def usual_port(port: int) -> int:
    """Return a local port for a destination's: one that needs no privileges."""
    return port if port >= 1024 else 10000 + port


def next_port(port: int, held: Container[int]) -> int:
    """Return ``port``, or the next one above it that is not ``held``."""
    return next(each for each in count(port) if each not in held)


def why_moved(name: str, port: int, free: int) -> str:
    """Return the line that says why a tunnel has another port than it would have."""
    return f"{name} listens on port {free}, because {port} is taken"


def _port(settings: Settings) -> int | None:
    """Return the loopback port that a tunnel wants; None if it is something else."""
    try:
        address = parse_address(settings.get("listen"))
    except ValueError:
        return None
    if not isinstance(address, TcpAddress) or not address.port:
        return None
    return address.port if any(ip.version == 4 for ip in binds(address)) else None


def _moved(listen: object, port: int) -> str | int:
    if isinstance(listen, int):
        return port
    return f"{str(listen).rpartition(':')[0]}:{port}"
