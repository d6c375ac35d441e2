"""Destinations that clients may name themselves, and the patterns that allow them."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final, TypeAlias

from typing_extensions import override

from ssmtunneld.base.ports import HIGHEST_PORT
from ssmtunneld.base.record import Record
from ssmtunneld.config.parsers import names_loopback, parse_network, spelled_out

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_HOST: Final = 253
"""Characters of a DNS name."""

_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_GLOB: Final = re.compile(r"[A-Za-z0-9_*]([A-Za-z0-9_.*-]*[A-Za-z0-9_.*])?")
_PORTS: Final = re.compile(r"\*|([0-9]{1,5})(?:-([0-9]{1,5}))?")
_SPELLINGS: Final = (
    'write HOST:PORT, such as "*.internal.example.com:443", "10.0.0.0/8:*" or '
    '"[fd00::/8]:8000-8999"'
)

_Network: TypeAlias = IPv4Network | IPv6Network


class Destination(Record):
    """Host and port that one connection leads to; the target resolves names.

    Attributes:
        host: A name in small letters, or an IP address in its usual spelling.
        port: From 1 to 65535.
    """

    host: str
    port: int

    @classmethod
    def of(cls, host: str, port: int) -> Destination:
        """Return the destination for a client's host and port.

        Raises:
            ValueError: The host or the port is invalid; the reason does not repeat it.
        """
        if not 1 <= port <= HIGHEST_PORT:
            raise ValueError("names no port between 1 and 65535")
        try:
            address = ip_address(host)
        except ValueError:
            if spelled_out(host) is not None:
                # Only the target would know that it is an address, and no network's.
                raise ValueError("names an IP address that is not in full") from None
            if len(host) > LONGEST_HOST or not _NAME.fullmatch(host):
                raise ValueError("names no host that could exist") from None
            return cls(host.lower(), port)
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                raise ValueError("names a zone, which means nothing elsewhere")
            # Or ::ffff:10.0.0.1 would be a way around a pattern for 10.0.0.0/8.
            address = address.ipv4_mapped or address
        return cls(str(address), port)

    @property
    def is_loopback(self) -> bool:
        """True for the target's own loopback."""
        return names_loopback(self.host)

    @override
    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Pattern(Record):
    """Destinations that a configuration allows.

    Attributes:
        host: A network, or a name in which ``*`` stands for anything.
        first: The lowest port.
        last: The highest one.
    """

    host: _Network | str
    first: int
    last: int

    def allows(self, destination: Destination) -> bool:
        """Return True if ``destination`` matches.

        A network takes addresses only and a name takes names only, whatever they
        resolve to; only the target knows. ``*`` alone takes both.
        """
        if not self.first <= destination.port <= self.last:
            return False
        if self.host == "*":
            return True
        try:
            address = ip_address(destination.host)
        except ValueError:
            return isinstance(self.host, str) and _fits(self.host, destination.host)
        return not isinstance(self.host, str) and address in self.host

    @override
    def __str__(self) -> str:
        ports = f"{self.first}-{self.last}"
        if self.first == self.last:
            ports = str(self.first)
        elif (self.first, self.last) == (1, HIGHEST_PORT):
            ports = "*"
        host = self.host
        if not isinstance(host, str):
            single = host.num_addresses == 1
            text = str(host.network_address) if single else str(host)
            host = f"[{text}]" if host.version == 6 else text
        return f"{host}:{ports}"


def parse_pattern(value: object) -> Pattern:
    """Return the pattern that ``"*.example.com:443"`` spells.

    Raises:
        ValueError: The value is not a pattern; gives the reason.
    """
    if isinstance(value, Pattern):
        return value
    host, colon, ports = value.rpartition(":") if isinstance(value, str) else ("",) * 3
    if not (host and colon):
        raise ValueError(f"is not a destination: {_SPELLINGS}")
    first, last = _parse_ports(ports)
    return Pattern(_parse_host(host), first, last)


def allowed(patterns: Iterable[Pattern], destination: Destination) -> bool:
    """Return True if any of ``patterns`` allows ``destination``."""
    return any(pattern.allows(destination) for pattern in patterns)


def _parse_ports(text: str) -> tuple[int, int]:
    match = _PORTS.fullmatch(text)
    if match is None:
        raise ValueError(f"has no port, range of ports or * at its end: {_SPELLINGS}")
    if match[1] is None:
        return 1, HIGHEST_PORT
    first = int(match[1])
    last = int(match[2] or first)
    if not 1 <= first <= last <= HIGHEST_PORT:
        raise ValueError("has ports that are not between 1 and 65535, lowest first")
    return first, last


def _parse_host(text: str) -> _Network | str:
    if text.startswith("[") and text.endswith("]"):
        network = parse_network(text[1:-1])
        if not isinstance(network, IPv6Network):
            raise ValueError("has brackets, which are for IPv6")
        return network
    if ":" in text:
        raise ValueError("has an IPv6 address without brackets: write [fd00::/8]:443")
    if re.fullmatch(r"[0-9./]+", text):
        return parse_network(text)
    if text != "*" and re.fullmatch(r"[0-9.*]+", text):
        # As a name it would also take 10.1.evil.example.
        raise ValueError('has * in an address: write a network, such as "10.0.0.0/8"')
    if len(text) > LONGEST_HOST or not _GLOB.fullmatch(text):
        raise ValueError(f"has no host or network: {_SPELLINGS}")
    return text.lower()


def _fits(glob: str, name: str) -> bool:
    """Return True if ``name`` is ``glob`` with each ``*`` replaced by some text.

    In time that is linear in the name for each part: no backtracking.
    """
    name, glob = name.rstrip("."), glob.rstrip(".")
    start, *rest = glob.split("*")
    if not rest:
        return name == glob
    *middle, end = rest
    if not (name.startswith(start) and name.endswith(end)):
        return False
    position, limit = len(start), len(name) - len(end)
    for part in middle:
        found = name.find(part, position, limit)
        if found < 0:
            return False
        position = found + len(part)
    return position <= limit
