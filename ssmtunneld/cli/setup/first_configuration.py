"""A first configuration: what it is to have, and its text with comments."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ssmtunneld.cli.ad_hoc import Forward, parse_destination
from ssmtunneld.cli.setup.config_file import render
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


@dataclass(frozen=True, slots=True)
class PlannedTunnel:
    """One tunnel to be written."""

    name: str
    forward: Forward
    listen: int | str
    comment: str = ""

    @property
    def client(self) -> str:
        """The command that uses it; empty if unknown."""
        port = str(self.listen).rpartition(":")[2]
        web = {80, 8000, 8080}
        known = _CLIENTS.get(self.forward.port, "")
        if self.forward.port in web:
            known = "curl http://localhost:{port}/"
        return known.format(port=port)


@dataclass(slots=True)
class Plan:
    """Everything that the file is to say."""

    target: str
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    tunnels: list[PlannedTunnel] = field(default_factory=list)

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
    wanted: Sequence[str], taken: Iterable[PlannedTunnel] = ()
) -> list[PlannedTunnel]:
    """Return the tunnels that ``[NAME=][HOST:]PORT`` ask for.

    Raises:
        ValueError: One of them is not a destination.
    """
    planned = list(taken)
    count = len(planned)
    for words in wanted:
        match = _WORDS.fullmatch(words)
        assert match is not None, "anything fits"
        forward = parse_destination(match["rest"])
        planned.append(plan_one(forward, planned, name=match["name"] or ""))
    return planned[count:]


def plan_one(
    forward: Forward,
    taken: Sequence[PlannedTunnel],
    *,
    name: str = "",
    comment: str = "",
) -> PlannedTunnel:
    """Return a tunnel whose name and local port none of ``taken`` has."""
    usual = short(forward.host) if forward.host else _usual_name(forward.port)
    found = unique(slug(name or usual), [tunnel.name for tunnel in taken])
    port = usual_port(forward.port)
    while port in [tunnel.listen for tunnel in taken]:
        port += 1
    return PlannedTunnel(found, forward, port, comment)


def _usual_name(port: int) -> str:
    return {22: "ssh", 80: "web", 8080: "web", 5432: "postgres"}.get(
        port, f"port-{port}"
    )
