"""Who holds a local address: for the error message that everybody meets (Linux).

Elsewhere, and where the kernel hides other users' processes, it is not known.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssmtunneld.listener.admission import user_name
from ssmtunneld.listener.proctable import (
    LISTENING,
    TABLES,
    Row,
    find_unix,
    read_table,
    spell,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# A few hundred ms of work at the most; a machine with more open files than that has an
# operator who knows `ss -tlnp`.
MOST_FILES: Final = 200_000

_PROC: Final = Path("/proc")
_ANY: Final = (IPv4Address(0), IPv6Address(0))


def tcp_holder(hosts: Collection[str], port: int) -> str:
    """Return who holds a port of one of ``hosts``, ``"sshd, pid 812"``, or ``""``.

    Blocks on the file system for as long as ``MOST_FILES`` allows: call it in a thread.
    """
    addresses = [ip_address(host.partition("%")[0]) for host in hosts]
    # A connection that left this machine by this port is in the way too, but seldom.
    rows = sorted(_in_the_way(addresses, port), key=lambda row: row.state != LISTENING)
    return next((_name(row.inode, row.uid) for row in rows if row.inode), "")


def unix_holder(path: Path) -> str:
    """Return who listens on a Unix socket, or ``""``; blocks likewise."""
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
