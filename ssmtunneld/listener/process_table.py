"""The kernel's tables of sockets, and the processes and users behind them (Linux)."""

from __future__ import annotations

import os
import pwd
import re
import struct
import time
from collections import deque
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.record import Record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


# Through "self" they are there also where /proc shows nothing but processes.
TABLES: Final = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
"""The tables of IPv4 and IPv6 sockets, in the order that :func:`spell` keeps."""
UNIX_TABLE: Final = Path("/proc/self/net/unix")
LISTENING: Final = "0A"
_INODE: Final = re.compile(r"[0-9]{1,20}")


class Row(Record):
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
    """Yield the inodes of the Unix sockets that are bound to ``path``.

    The kernel writes a name as it is: any user's socket can be called such that it
    looks like further lines, which is why each is taken for what it says and no more.
    """
    for line in _lines(table):
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == path and _INODE.fullmatch(fields[6]):
            yield int(fields[6])


def _lines(table: Path) -> list[str]:
    try:
        # Not splitlines(): a name can have what else ends a line to Python.
        return table.read_text(errors="surrogateescape").split("\n")[1:]
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
LONGEST_LOOK: Final = 2.0
"""Seconds after which a look ends. In a thread beside a busy loop, which keeps the
interpreter's lock for 5 ms at a time, each file can take as long."""
REMEMBERED: Final = 8
"""Processes whose files are looked through first: who has connected does so again."""
_recent: Final[deque[int]] = deque(maxlen=REMEMBERED)

_PROC: Final = Path("/proc")
_ANY: Final = (IPv4Address(0), IPv6Address(0))


def tcp_holder(hosts: Collection[str], port: int) -> str:
    """Return the holder of a port of one of ``hosts``, ``"sshd, pid 812"``, or ``""``.

    Blocks on the file system for ``LONGEST_LOOK`` at most: call it in a thread.
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
    found = find_processes({inode}).get(inode)
    return f"{found.program}, pid {found.pid}" if found else ""


class Process(Record):
    """A process of this machine.

    Attributes:
        pid: Its id.
        program: Its name as the kernel keeps it, 15 bytes at most: a process can choose
            any, so it says who somebody claims to be. Cleaned.
    """

    pid: int
    program: str


def find_processes(inodes: Collection[int]) -> dict[int, Process]:
    """Return the processes that hold sockets, by the inodes of these.

    One look through the files of all processes, for all of ``inodes`` together; it ends
    once all are found. Those that had connections the last times come first, then the
    newest ones. What another user's process holds
    is not seen without privileges. Blocks for ``LONGEST_LOOK`` at most: call it in a
    thread.
    """
    return _find(inodes, _open_files())


def find_recent(inodes: Collection[int]) -> dict[int, Process]:
    """Return those of the processes of :func:`find_processes` that it looks at first.

    Takes a few hundred us, however many processes there are.
    """
    return _find(inodes, _open_files(tuple(_recent)))


def _find(
    inodes: Collection[int], files: Iterable[tuple[int, str]]
) -> dict[int, Process]:
    end = _clock() + LONGEST_LOOK
    missing = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, Process] = {}
    # One program often holds many of them.
    seen: dict[int, Process | None] = {}
    for pid, link in islice(files, MOST_FILES):
        if _clock() >= end:
            break
        if link not in missing:
            continue
        if pid not in seen:
            seen[pid] = process_of(pid)
        process = seen[pid]
        if process is None:
            continue
        found[missing.pop(link)] = process
        if pid not in _recent and pid != os.getpid():
            _recent.append(pid)
        if not missing:
            break
    return found


def process_of(pid: int) -> Process | None:
    """Return the process ``pid``; None if there is none that can be seen."""
    try:
        name = (_PROC / str(pid) / "comm").read_bytes()
    except OSError:
        return None  # it has ended, or this is not Linux
    return Process(pid, clean(name) or str(pid))


def _open_files(pids: Iterable[int] | None = None) -> Iterator[tuple[int, str]]:
    """Yield what the open files of processes are, each with its process.

    By descriptors, not by paths: 2 us for each file instead of 15.
    """
    for pid in _processes() if pids is None else pids:
        try:
            folder = os.open(_PROC / str(pid) / "fd", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue  # another user's, or ended meanwhile
        try:
            with os.scandir(folder) as files:
                for file in files:
                    yield pid, _link(folder, file.name)
        except OSError:
            continue  # it has ended meanwhile
        finally:
            os.close(folder)


def _processes() -> list[int]:
    try:
        with os.scandir(_PROC) as entries:
            pids = [int(each.name) for each in entries if each.name.isdecimal()]
    except OSError:
        return []  # not Linux, or hidden by a sandbox
    # A client is often new. We come last: we hold a socket for each connection.
    recent, ours = frozenset(_recent), os.getpid()
    return sorted(pids, key=lambda pid: (pid in recent, pid != ours, pid), reverse=True)


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 - a thread has no loop


def _link(folder: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return ""  # closed meanwhile
