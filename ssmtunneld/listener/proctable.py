"""The kernel's tables of TCP and Unix sockets, as ``/proc/net`` prints them (Linux)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Through "self" they are there also where /proc shows nothing but processes.
TABLES: Final = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
"""The tables of IPv4 and IPv6 sockets, in the order that :func:`spell` keeps."""
UNIX_TABLE: Final = Path("/proc/self/net/unix")
LISTENING: Final = "0A"


@dataclass(frozen=True, slots=True)
class Row:
    """One TCP socket; addresses are spelled as in the table."""

    local: str
    remote: str
    state: str
    uid: int
    inode: int


def spell(address: IPv4Address | IPv6Address, port: int) -> tuple[str, str]:
    """Return an address as the IPv4 and the IPv6 table spell it.

    An IPv6 address is in the IPv6 table only; the first spelling is then empty.
    """
    if isinstance(address, IPv4Address):
        mapped = IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
        return f"{_words(address)}:{port:04X}", f"{_words(mapped)}:{port:04X}"
    return "", f"{_words(address)}:{port:04X}"


def read_table(table: Path) -> Iterator[Row]:
    """Yield the sockets of ``table``; none where it cannot be read."""
    for line in _lines(table):
        fields = line.split()
        if len(fields) >= 10:
            yield Row(
                local=fields[1],
                remote=fields[2],
                state=fields[3],
                uid=int(fields[7]),
                inode=int(fields[9]),
            )


def find_unix(path: str, table: Path = UNIX_TABLE) -> Iterator[int]:
    """Yield the inodes of the Unix sockets that are bound to ``path``."""
    for line in _lines(table):
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == path:
            yield int(fields[6])


def _lines(table: Path) -> list[str]:
    try:
        return table.read_text(errors="surrogateescape").splitlines()[1:]
    except OSError:
        return []  # not Linux, or hidden by a sandbox


def _words(address: IPv4Address | IPv6Address) -> str:
    """Print each 32-bit word as a number of this machine, as the kernel does."""
    packed = address.packed
    return "".join(
        f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed)
    )
