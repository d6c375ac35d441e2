"""The kernel's tables of sockets, and the processes and users behind them (Linux)."""

from __future__ import annotations

import pwd
import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


from ipaddress import ip_address
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


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


# A lookup can ask a directory service: once for each user, up to a limit.
@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """Return the name of a user, or its id in digits where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# A few hundred ms of work at the most; a machine with more open files than that has an
# operator who knows `ss -tlnp`.
MOST_FILES: Final = 200_000

_PROC: Final = Path("/proc")
_ANY: Final = (IPv4Address(0), IPv6Address(0))


def tcp_holder(hosts: Collection[str], port: int) -> str:
    """Return the holder of a port of one of ``hosts``, ``"sshd, pid 812"``, or ``""``.

    Blocks on the file system for as long as ``MOST_FILES`` allows: call it in a thread.
    """
    addresses = [ip_address(host.partition("%")[0]) for host in hosts]
    # A connection that left this machine by this port is in the way too, but seldom.
    rows = sorted(_in_the_way(addresses, port), key=lambda row: row.state != LISTENING)
    return next((_name(row.inode, row.uid) for row in rows if row.inode), "")


def unix_holder(path: Path) -> str:
    """Return the process that listens on a Unix socket, or ``""``; blocks likewise."""
    holders = (_process(inode) for inode in find_unix(str(path)))
    return next((holder for holder in holders if holder), "")


def _in_the_way(
    addresses: Collection[IPv4Address | IPv6Address], port: int
) -> Iterator[Row]:
    names = {name for other in (*addresses, *_ANY) for name in spell(other, port)}
    everywhere = any(address.is_unspecified for address in addresses)
    for table in TABLES:
        for row in read_table(table):
            if row.local in names or (
                everywhere and row.local.endswith(f":{port:04X}")
            ):
                yield row


def _name(inode: int, uid: int) -> str:
    return _process(inode) or f"a process of user {user_name(uid)}"


def _process(inode: int) -> str:
    wanted = f"socket:[{inode}]"
    for file in islice(_open_files(), MOST_FILES):
        try:
            if str(file.readlink()) == wanted:
                process = file.parent.parent
                command = (process / "comm").read_text().strip()
                return f"{command}, pid {process.name}"
        except OSError:
            continue  # closed meanwhile
    return ""


def _open_files() -> Iterator[Path]:
    for process in _PROC.glob("[0-9]*/fd"):
        try:
            yield from process.iterdir()
        except OSError:
            continue  # another user's, or ended meanwhile
