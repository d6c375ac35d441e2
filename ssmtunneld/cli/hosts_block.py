"""Our part of /etc/hosts: what belongs into it, and putting it there."""

from __future__ import annotations

import difflib
import errno
import os
import re
import stat
import tempfile
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssmtunneld.base.folders import read_now
from ssmtunneld.cli.destination import remote_host
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.file_change import take_after

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ssmtunneld.config import TunnelSettings

BEGIN: Final = "# BEGIN ssmtunneld (made by: ssmtunneld hosts --write)"
END: Final = "# END ssmtunneld"

HOSTS_FILE: Final = Path("/etc/hosts")

_SHARED: Final = frozenset({"127.0.0.1", "::1"})
"""Addresses that this machine's own services have."""
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")


def entries(tunnels: Sequence[TunnelSettings]) -> tuple[dict[str, str], list[str]]:
    """Return the addresses of real names, and the tunnels that could have one.

    The latter have a name behind them, but no loopback address of their own.

    Raises:
        CommandError: A name would have two addresses, so that it is not known which
            of them a program takes.
    """
    found: dict[str, tuple[str, str]] = {}
    without = []
    for tunnel in tunnels:
        name = _real_name(tunnel)
        if name is None:
            continue
        address = _own_address(tunnel)
        if address is None:
            without.append(tunnel.name)
            continue
        other, owner = found.setdefault(name, (address, tunnel.name))
        if other != address:
            raise CommandError(
                f"{owner} and {tunnel.name} lead to {name}, from {other} and {address}",
                "let both listen on the same address, on different ports",
                code=EXIT_USAGE,
            )
    return {name: address for name, (address, _) in found.items()}, without


def block(wanted: Mapping[str, str]) -> list[str]:
    """Return the lines of our block, without line ends; none for nothing."""
    if not wanted:
        return []
    names: dict[str, list[str]] = {}
    for name, address in wanted.items():
        names.setdefault(address, []).append(name)
    lines = [f"{address}\t{' '.join(names[address])}" for address in names]
    return [BEGIN, *lines, END]


def merge(text: str, wanted: Mapping[str, str], file: Path) -> str:
    """Return the file's ``text`` with our block for ``wanted`` in its old place.

    A first block goes to the end. Everything else stays byte for byte as it is.

    Raises:
        CommandError: The block that is there has no end, or other lines give a name
            another address.
    """
    lines = _LINE.findall(text)
    start, stop = _place(lines, file)
    rest = [*lines[:start], *lines[stop:]]
    _refuse_others(rest, wanted, file)
    ours = [f"{line}\n" for line in block(wanted)]
    before = lines[:start]
    if ours and before and not before[-1].endswith("\n"):
        before[-1] += "\n"
    return "".join([*before, *ours, *lines[stop:]])


def gives(text: str, name: str, address: str) -> bool:
    """Return True if a hosts file with this ``text`` gives ``name`` that ``address``.

    And no other one: a program could take either.
    """
    wanted, found = _plain(name), set()
    for place, names in _entries(_LINE.findall(text)):
        if wanted in map(_plain, names):
            found.add(place)
    return found == {address}


def difference(before: str, after: str, file: Path) -> str:
    """Return a unified diff; empty if nothing differs."""
    lines = difflib.unified_diff(
        _LINE.findall(before), _LINE.findall(after), str(file), f"{file} (new)"
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in lines
    )


def read(file: Path) -> str:
    """Return what the file holds, such that ``replace`` gives the same bytes back.

    Raises:
        CommandError: It cannot be read, or is not a regular file.
    """
    try:
        # Opening a FIFO would wait for somebody who writes.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CommandError(
                    f"{file} is not a regular file",
                    "name a hosts file",
                    code=EXIT_USAGE,
                )
            return read_now(opened).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from None


def replace(file: Path, text: str) -> None:
    """Replace the file at once, with its mode, owner and attributes.

    What is mounted at this place cannot be replaced and is written to, as in most
    containers.

    Raises:
        OSError: It cannot be written.
    """
    target = Path(os.path.realpath(file))
    data = text.encode("utf-8", "surrogateescape")
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            opened.flush()
            take_after(target, descriptor)
            os.fsync(opened.fileno())
        new.replace(target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        target.write_bytes(data)
    finally:
        with suppress(FileNotFoundError):
            new.unlink()


def _real_name(tunnel: TunnelSettings) -> str | None:
    host = remote_host(tunnel)
    if host is None:
        return None
    try:
        ip_address(host)
    except ValueError:
        return _plain(host)
    return None


def _own_address(tunnel: TunnelSettings) -> str | None:
    from ssmtunneld.config import TcpAddress

    for address in tunnel.listen:
        if not isinstance(address, TcpAddress) or address.host in _SHARED:
            continue
        if address.is_loopback and address.host != "localhost":
            return address.host
    return None


def _place(lines: Sequence[str], file: Path) -> tuple[int, int]:
    """Return where our block is, or should be: its first line, and that after it."""
    bare = [line.strip() for line in lines]
    begins = [at for at, line in enumerate(bare) if line == BEGIN]
    ends = [at for at, line in enumerate(bare) if line == END]
    if not begins and not ends:
        return len(lines), len(lines)
    if len(begins) == len(ends) == 1 and begins[0] < ends[0]:
        return begins[0], ends[0] + 1
    raise CommandError(
        f"the block of ssmtunneld in {file} is damaged",
        f"delete the lines from {BEGIN!r} to {END!r}",
    )


def _refuse_others(lines: Sequence[str], wanted: Mapping[str, str], file: Path) -> None:
    for address, names in _entries(lines):
        for name in names:
            if wanted.get(_plain(name), address) != address:
                raise CommandError(
                    f"{file} already gives {name} the address {address}",
                    "remove that line",
                )


def _entries(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of each line, and the names that it gets."""
    for line in lines:
        address, *names = line.partition("#")[0].split() or [""]
        yield address, names


def _plain(name: str) -> str:
    return name.rstrip(".").lower()
