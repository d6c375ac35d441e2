"""The values a configuration file holds, from the text a person writes.

Every function here is pure. One that cannot make sense of its input raises
``ValueError`` with a sentence that follows on from the key: ``listen: has no port``.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from os import fsencode
from pathlib import Path
from socket import inet_aton
from typing import Final, Literal, TypeAlias

from typing_extensions import override

from ssmtunneld.base.ports import HIGHEST_PORT
from ssmtunneld.base.record import Record

# sizeof(sun_path) in sys/un.h; the terminating NUL counts.
SOCKET_PATH_LIMIT: Final = 108 if sys.platform == "linux" else 104
# Longer than any session lives, and far from where an event loop's timers overflow.
LONGEST_DURATION: Final = 366 * 86400.0

_SPELLINGS: Final = (
    'write a port (5432), "127.0.0.1:5432", "[::1]:5432", "localhost:5432" '
    'or "unix:/path"'
)

_NUMBER: Final = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_VARIABLE: Final = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)\})?")
_TCP: Final = re.compile(
    r"(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[^:]*)"
)
_PROXY: Final = re.compile(
    r"(?:https?|socks5h?)://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"
)
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9.])?"
)
_PART: Final = r"(?:0[xX][0-9A-Fa-f]{1,32}|[0-9]{1,32})"
_NUMERIC: Final = re.compile(rf"{_PART}(?:\.{_PART}){{0,3}}\.?")
"""Hosts that resolvers take for IPv4 addresses (inet_aton), never for names."""
_BROADCAST: Final = IPv4Address("255.255.255.255")
_MODE: Final = re.compile(r"(?:0o)?0?(?P<bits>[0-7]{3})")
_SIZE_UNITS: Final = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_SIZE: Final = re.compile(
    rf"(?P<number>{_NUMBER}) ?(?P<unit>{'|'.join(_SIZE_UNITS)})?",
)
_DURATION_UNITS: Final = {
    "d": Fraction(86400),
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
}
# Each unit at most once and the largest first; `m` must not take the m of `ms`.
_DURATION: Final = re.compile(
    rf"(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m(?!s))?(?:({_NUMBER})s)?"
    rf"(?:({_NUMBER})ms)?"
)


class TcpAddress(Record):
    """A local TCP address.

    ``host`` is an IP literal, or ``localhost``, which stands for 127.0.0.1 and ::1
    together, or the one that the machine has. Port 0 asks the system for any free port.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can connect."""
        return self.host == "localhost" or _is_loopback(ip_address(self.host))

    @override
    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class UnixAddress(Record):
    """A Unix socket in the file system; ``path`` is absolute."""

    path: Path

    @override
    def __str__(self) -> str:
        return f"unix:{self.path}"


Address: TypeAlias = TcpAddress | UnixAddress


def parse_address(value: object, home: Path | None = None) -> Address:
    """Return the listening address that ``value`` spells.

    Args:
        value: A port, on both loopback addresses, or a text such as
            ``"127.0.0.1:5432"`` or ``"unix:~/db.sock"``.
        home: The folder for a leading ``~/``; without it, ``~/`` is refused.

    Raises:
        ValueError: The value is not an address, or is ambiguous.
    """
    if isinstance(value, TcpAddress | UnixAddress):
        return value
    plain = isinstance(value, str | int) and not isinstance(value, bool)
    text = str(value) if plain else ""
    if text.startswith("unix:"):
        return UnixAddress(_socket_path(text.removeprefix("unix:"), home))
    if _is_digits(text.removeprefix("-")):
        # Both: clients that try the other one would reach a foreign listener.
        return TcpAddress("localhost", _port(text))
    return _parse_tcp(text)


def binds(address: TcpAddress) -> Iterator[IPv4Address | IPv6Address]:
    """Yield the IP addresses that listening on ``address`` takes."""
    if address.host == "localhost":
        yield from (IPv4Address("127.0.0.1"), IPv6Address("::1"))
    else:
        yield ip_address(address.host)


def names_loopback(host: str) -> bool:
    """Return True if ``host``, a name or an IP literal, is a machine's own loopback."""
    try:
        return _is_loopback(ip_address(host))
    except ValueError:
        name = host.rstrip(".").lower()
        return name == "localhost" or name.endswith(".localhost")


def spelled_out(host: str) -> str | None:
    """Return the IPv4 address that ``127.1`` or ``0x7f000001`` is short for.

    None for everything else: names, addresses in full, numbers that are no address.
    """
    if not _NUMERIC.fullmatch(host):
        return None
    try:
        address = str(IPv4Address(inet_aton(host.rstrip("."))))
    except OSError:
        return None
    return None if address == host else address


def check_host(host: str) -> str:
    """Return a destination's host unchanged.

    Raises:
        ValueError: Nothing could be connected to there; says what to write.
    """
    try:
        address = ip_address(host)
    except ValueError:
        full = spelled_out(host)
        if full is not None and names_loopback(full):
            raise ValueError(
                f"is read as {full}, the target's own loopback: leave out host, and "
                "the destination is the target itself"
            ) from None
        if full is not None:
            raise ValueError(f"is read as {full}: write it so") from None
        if _NUMERIC.fullmatch(host):
            raise ValueError(
                "is not an IP address: write four numbers up to 255, as in 10.0.0.5"
            ) from None
        if not _HOST_NAME.fullmatch(host):
            raise ValueError(
                "is not a host: write only a name or an IP address"
            ) from None
        return host
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(
            f"has a zone, which means nothing elsewhere: write {host.partition('%')[0]}"
        )
    if kind := _why_nobody(address):
        raise ValueError(f"is {kind}: write the address of one host, such as 10.0.0.5")
    return host


def _why_nobody(address: IPv4Address | IPv6Address) -> str:
    """Return what keeps everybody from connecting to ``address``; empty for nothing."""
    if address.is_unspecified:
        return "the address of no host"
    if address.is_multicast:
        return "a multicast address"
    return "the broadcast address" if address == _BROADCAST else ""


def parse_duration(value: object) -> float:
    """Return seconds from ``"1h30m"``, ``"500ms"`` or a bare number of seconds.

    Raises:
        ValueError: The value is neither, or longer than a year.
    """
    seconds = _seconds(value)
    # Written so that a NaN, which TOML can spell, fails as well.
    if not 0 <= seconds <= LONGEST_DURATION:
        raise ValueError("is not a duration between 0 and 366 days")
    return seconds


def format_duration(seconds: float) -> str | float:
    """Return how a person writes ``seconds``; whole milliseconds get units."""
    rest = round(seconds * 1000)
    if rest / 1000 != seconds:
        return seconds
    text = ""
    for unit, size in _DURATION_UNITS.items():
        count, rest = divmod(rest, int(size * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_keep_alive(value: object) -> float | Literal[False]:
    """Return seconds between two signs of life, or False for none.

    Raises:
        ValueError: The value is neither a duration above zero nor ``false``.
    """
    if value is False:
        return False
    if value is True:
        raise ValueError('should be a duration such as "5m", or false')
    seconds = parse_duration(value)
    if not seconds:
        raise ValueError("should be greater than 0, or false for none")
    return seconds


def format_keep_alive(value: float | Literal[False]) -> str | float | Literal[False]:
    """Return how a person writes a keep-alive interval."""
    return value if value is False else format_duration(value)


def parse_size(value: object) -> int:
    """Return bytes from ``"64KiB"``, ``"1MB"`` or a bare number of bytes.

    Raises:
        ValueError: The value is neither, or not a whole number of bytes.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('is not a size: write "64KiB", "8MiB", "1MB" or a number')
    size = Fraction(match["number"]) * _SIZE_UNITS[match["unit"] or "B"]
    if size.denominator != 1:
        raise ValueError("is not a whole number of bytes")
    return int(size)


def format_size(size_bytes: int) -> str:
    """Return how a person writes ``size_bytes``."""
    for unit in ("GiB", "MiB", "KiB"):
        count, rest = divmod(size_bytes, _SIZE_UNITS[unit])
        if count and not rest:
            return f"{count}{unit}"
    return f"{size_bytes}B"


def parse_mode(value: object) -> int:
    """Return permission bits from octal text such as ``"0600"``.

    Raises:
        ValueError: The value is not octal text, or would lock the owner out.
    """
    match = _MODE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('is not a mode: write it as octal text, such as "0660"')
    mode = int(match["bits"], 8)
    if mode & 0o600 != 0o600:
        raise ValueError("should let the owner read and write: 0600 or more")
    return mode


def format_mode(mode: int) -> str:
    """Return how a person writes permission bits."""
    return f"{mode:04o}"


def parse_network(value: object) -> IPv4Network | IPv6Network:
    """Return the network that ``"10.0.0.0/8"`` or a single address spells.

    Raises:
        ValueError: The value is neither, or has bits set after its prefix.
    """
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = value if isinstance(value, str) else ""
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError('is not a network: write "10.0.0.0/8" or "fd00::/8"') from None
    if meant.network_address != ip_address(text.partition("/")[0]):
        raise ValueError(f'has bits set after its prefix: write "{meant}"')
    return meant


def expand_variables(text: str, environ: Mapping[str, str]) -> str:
    """Return ``text`` with each ``${NAME}`` replaced; ``$${`` gives ``${``.

    Raises:
        ValueError: A variable is not set, or a ``${`` has no name or no end.
    """

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name: str | None = match["name"]
        if name is None:
            raise ValueError(
                "has a ${ without a name; write ${NAME}, or $${ for a literal ${"
            )
        if name not in environ:
            raise ValueError(f"the environment variable {name} is not set")
        return environ[name]

    return _VARIABLE.sub(replace, text)


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value:
        if re.fullmatch(_NUMBER, value):
            return float(value)
        if match := _DURATION.fullmatch(value):
            parts = zip(match.groups("0"), _DURATION_UNITS.values(), strict=True)
            return float(sum(Fraction(count) * unit for count, unit in parts))
    raise ValueError(
        'is not a duration: write "500ms", "30s", "5m", "1h30m" or a number of seconds'
    )


def _is_loopback(address: IPv4Address | IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _port(text: str) -> int:
    # The length goes first: int() refuses thousands of digits with its own message.
    if not _is_digits(text) or len(text) > 5 or int(text) > HIGHEST_PORT:
        raise ValueError("has no port between 0 and 65535")
    return int(text)


def _parse_tcp(text: str) -> TcpAddress:
    match = _TCP.fullmatch(text)
    if match is None:
        raise ValueError(_why_no_address(text))
    port = _port(match["port"])
    if (six := match["six"]) is not None:
        return TcpAddress(str(_literal(IPv6Address, six, port)), port)
    host: str = match["host"]
    if host == "localhost":
        return TcpAddress(host, port)
    if host in {"", "*"}:
        here = f'"{port}" for this machine alone, ' if not host else ""
        raise ValueError(
            f'is ambiguous: write {here}"0.0.0.0:{port}" for every IPv4 address '
            f'or "[::]:{port}" for every IPv6 address'
        )
    return TcpAddress(str(_literal(IPv4Address, host, port)), port)


def _literal(
    family: type[IPv4Address | IPv6Address], text: str, port: int
) -> IPv4Address | IPv6Address:
    try:
        address = family(text)
    except ValueError:
        if (full := spelled_out(text)) is not None:
            raise ValueError(
                f'is read as another address: write "{full}:{port}"'
            ) from None
        raise ValueError(
            "has a host that is neither localhost nor an IP address "
            f"(no names here, and IPv6 in brackets): {_SPELLINGS}"
        ) from None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if mapped is not None:
        raise ValueError(f'is an IPv4 address in IPv6: write "{mapped}:{port}"')
    kind = "" if address.is_unspecified else _why_nobody(address)
    if kind:
        raise ValueError(f"is {kind}, where nobody can listen: {_SPELLINGS}")
    return address


def _why_no_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if host.count(":") > 1 and _is_digits(port):
        return f'is ambiguous: write IPv6 addresses in brackets, "[{host}]:{port}"'
    return f"is not an address with a port: {_SPELLINGS}"


def _socket_path(text: str, home: Path | None) -> Path:
    path = expand_home(text, home)
    if not path.is_absolute() or "\0" in text:
        raise ValueError('should name an absolute path: "unix:/run/x.sock"')
    length = len(fsencode(path)) + 1
    if length > SOCKET_PATH_LIMIT:
        raise ValueError(
            f"is a path of {length} bytes with its final NUL, and this system's "
            f"sockets allow {SOCKET_PATH_LIMIT}: choose a shorter one"
        )
    return path


def expand_home(text: str, home: Path | None) -> Path:
    """Return ``text`` as a path, with a leading ``~/`` replaced by ``home``.

    Raises:
        ValueError: ``home`` is None.
    """
    if not text.startswith("~/"):
        return Path(text)
    if home is None:
        raise ValueError("starts with ~, but HOME is not set")
    return home / text[2:]


def check_proxy(text: str | Literal[False]) -> str | Literal[False]:
    """Return a proxy's URL unchanged, or False for none.

    Raises:
        ValueError: The URL is not a proxy, or has a password; shows nothing of it.
    """
    if text is False:
        return text
    if "@" in text:
        raise ValueError("must not contain a password: set that proxy in HTTPS_PROXY")
    if not _PROXY.fullmatch(text):
        raise ValueError(
            'is not a proxy: write "http://host:port" or "socks5h://host:port", '
            "or false for none"
        )
    return text
