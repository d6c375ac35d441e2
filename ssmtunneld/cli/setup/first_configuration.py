"""A first configuration: what it is to have, and its text with comments."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ssmtunneld.aws.api.endpoints import configured_endpoint
from ssmtunneld.cli.ad_hoc import Forward, is_free, parse_destination
from ssmtunneld.cli.service.environment import CREDENTIALS, ELSEWHERE, KEY, REGIONS
from ssmtunneld.cli.setup.config_file import render
from ssmtunneld.config.parsers import TcpAddress, parse_address
from ssmtunneld.importing.found import short, slug, unique, usual_port

_HEAD = """\
# Tunnels of ssmtunneld, made by `ssmtunneld init`.
# Every setting is explained in: ssmtunneld config example
# After a change: ssmtunneld check, and ssmtunneld reload where a daemon runs.
"""
_DEFAULTS = "# What every tunnel inherits. Credentials are not in this file.\n"
_WORDS = re.compile(r"(?:(?P<name>[a-z0-9][a-z0-9_-]*)=)?(?P<rest>.+)")
_CLIENTS = {
    22: "ssh -p {port} USER@localhost",
    3306: "mysql -h 127.0.0.1 -P {port} -u USER -p",
    5432: "psql -h localhost -p {port} -U USER",
    5439: "psql -h localhost -p {port} -U USER",
    6379: "redis-cli -h localhost -p {port}",
}
_WEB = {80, 8000, 8080}
_ANY_HOST = re.compile("localhost|127\\.0\\.0\\.1")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Statements of a shell's environment about AWS; None or empty without any."""

    profile: str | None
    region: str | None
    endpoint_url: str | None
    needed: tuple[str, ...]
    """Variables that the file cannot say: a daemon needs them in its environment."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Surroundings":
        """Return what ``environ`` says, as botocore reads it."""
        needed = tuple(name for name in ELSEWHERE if environ.get(name))
        return cls(
            # Keys of the environment go before those of AWS_PROFILE, but not before
            # those of a profile that is named.
            profile=None if KEY in needed else environ.get("AWS_PROFILE") or None,
            region=next((environ[n] for n in REGIONS if environ.get(n)), None),
            endpoint_url=configured_endpoint(environ) or None,
            needed=needed,
        )


@dataclass(frozen=True, slots=True)
class PlannedTunnel:
    """One tunnel to be written."""

    name: str
    forward: Forward
    listen: int | str
    comment: str = ""

    @property
    def client(self) -> str:
        """The command that uses it; empty if unknown, also before it has a port."""
        try:
            address = parse_address(self.listen)
        except ValueError:
            return ""  # which is said where it is written
        if not isinstance(address, TcpAddress) or not address.port:
            return ""
        known = _CLIENTS.get(self.forward.port, "")
        usual = address.host in {"localhost", "127.0.0.1"}
        if self.forward.port in _WEB:
            place = f"localhost:{address.port}" if usual else str(address)
            return f"curl http://{place}/"
        if usual:
            return known.format(port=address.port)
        return _ANY_HOST.sub(address.host, known).format(port=address.port)


@dataclass(slots=True)
class Plan:
    """Everything that the file is to say."""

    target: str
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    tunnels: list[PlannedTunnel] = field(default_factory=list)

    def needed(self, surroundings: Surroundings) -> list[str]:
        """Return the variables of ``surroundings`` that the file does not replace."""
        unused = CREDENTIALS if self.profile else ()
        return [name for name in surroundings.needed if name not in unused]

    def text(self) -> str:
        """Return the file."""
        named = {
            "profile": self.profile,
            "region": self.region,
            "endpoint_url": self.endpoint_url,
            "target": self.target,
        }
        defaults: dict[str, object] = {
            key: value for key, value in named.items() if value is not None
        }
        parts = [_HEAD, _DEFAULTS + render({"defaults": defaults})]
        for tunnel in self.tunnels:
            settings: dict[str, object] = {"listen": tunnel.listen}
            if tunnel.forward.host is not None:
                settings["host"] = tunnel.forward.host
            settings["port"] = tunnel.forward.port
            comments = [words for words in (tunnel.comment, tunnel.client) if words]
            above = "".join(f"# {words}\n" for words in comments)
            parts.append(above + render({f"tunnels.{tunnel.name}": settings}))
        return "\n".join(parts)


def plan_tunnels(
    wanted: Sequence[str],
    taken: Iterable[PlannedTunnel] = (),
    *,
    is_free: Callable[[int], bool] = is_free,
) -> list[PlannedTunnel]:
    """Return the tunnels that ``[NAME=][HOST:]PORT`` ask for.

    Args:
        wanted: What is asked for.
        taken: Tunnels whose names and ports are gone.
        is_free: Tells whether a program could listen on a port of 127.0.0.1.

    Raises:
        ValueError: One of them is not a destination.
    """
    planned = list(taken)
    count = len(planned)
    for words in wanted:
        match = _WORDS.fullmatch(words)
        assert match is not None, "anything fits"
        forward = parse_destination(match["rest"])
        name = match["name"] or ""
        planned.append(plan_one(forward, planned, name=name, is_free=is_free))
    return planned[count:]


def with_addresses(
    tunnels: Sequence[PlannedTunnel], addresses: Sequence[str]
) -> list[PlannedTunnel]:
    """Return ``tunnels``, the first of which listen on ``addresses``.

    Raises:
        ValueError: There are more addresses than tunnels.
    """
    if len(addresses) > len(tunnels):
        extra = addresses[len(tunnels)]
        raise ValueError(f"--listen {extra} has no destination of its own")
    chosen = [int(text) if text.isdecimal() else text for text in addresses]
    changed = [
        replace(tunnel, listen=listen)
        for tunnel, listen in zip(tunnels, chosen, strict=False)
    ]
    return [*changed, *tunnels[len(changed) :]]


def plan_one(
    forward: Forward,
    taken: Sequence[PlannedTunnel],
    *,
    name: str = "",
    comment: str = "",
    is_free: Callable[[int], bool] = is_free,
) -> PlannedTunnel:
    """Return a tunnel whose name and local port none of ``taken`` has.

    The port is free too, if one of the next hundred is.
    """
    usual = short(forward.host) if forward.host else _usual_name(forward.port)
    found = unique(slug(name or usual), [tunnel.name for tunnel in taken])
    held = {tunnel.listen for tunnel in taken}
    usual_one = usual_port(forward.port)
    open_to_us = (p for p in _nearby(usual_one) if p not in held and is_free(p))
    port = next(open_to_us, usual_one)
    return PlannedTunnel(found, forward, port, comment)


def _nearby(port: int) -> range:
    return range(port, min(port + 100, 65536))


def _usual_name(port: int) -> str:
    return {22: "ssh", 80: "web", 8080: "web", 5432: "postgres"}.get(
        port, f"port-{port}"
    )
