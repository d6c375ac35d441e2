"""The process that starts a sleeping target for one connection, and stops it again.

``ssh`` and ``proxy`` end with their connection, and may be killed at any moment. So
the marks, the start and the stop (``sessions/bastion_plan.py``) are the work of a
process of its own, which is started before the first of them. It knows by its standard
input, a socket, what to keep, and, by the end of that socket, that the connection is
over, however that came about.

The first line there is the tunnel, as JSON. It answers with a line whenever the
target's condition changes: `Report`.
"""

import asyncio
import fcntl
import json
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ssmtunneld.base.aio import run_until
from ssmtunneld.base.folders import make_private_folder
from ssmtunneld.base.interpreter import interpreter
from ssmtunneld.config import TunnelSettings
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.instance_lock import state_directory
from ssmtunneld.errors import AwsError
from ssmtunneld.sessions.backoff import passes
from ssmtunneld.sessions.bastion import STOP_IT, Bastion
from ssmtunneld.ssh.stop_duty import StopDuty, duty_name
from ssmtunneld.ssh.stop_trouble import StopTrouble

LINE_LIMIT: Final = 1 << 20
"""Bytes of a line: settings are a few kilobytes."""
PATIENCE: Final = 8 * 3600.0
"""Seconds for the stop, from the moment when nobody needs the target any more: a login
that has expired may come again, but not for ever."""

_SLOTS: Final = 64
_NAME: Final = 32
_IS_NAME: Final = re.compile(rf"[0-9a-f]{{{_NAME}}}")
_STDIN: Final = 0

_LABEL: Final = "ssmtunneld-bastion-keeper"
"""The process in the list of processes, before the target's name."""
_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from ssmtunneld.ssh.bastion_keeper import main; main()"
)


@dataclass(frozen=True, slots=True)
class Report:
    """The condition of a target that is being started."""

    awake: bool
    """True if sessions can be started."""
    instance: str | None
    """Its id, where that is known."""
    reason: str
    """The reason why not, for people; empty if it is awake."""
    advice: str
    """The cure; empty for none."""
    final: bool
    """True if waiting is in vain."""


def spawn_keeper(tunnel: TunnelSettings) -> socket.socket:
    """Start the process for the target of ``tunnel``; return our end of its socket.

    Close that once the connection is over.

    Raises:
        OSError: No process can be started.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        argv = interpreter("-c", _BOOT, json.dumps(sys.path), _LABEL, tunnel.target)
        # Nothing of ours is open there: descriptors are not inherited.
        os.posix_spawn(
            argv[0],
            argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), _STDIN),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
        )
    ours.sendall(tunnel.model_dump_json().encode() + b"\n")
    return ours


def trouble_of(tunnel: TunnelSettings) -> StopTrouble:
    """Return what went wrong last with the stop of the target of ``tunnel``."""
    return StopTrouble(state_directory() / "troubles", tunnel.target)


def main() -> None:
    """Do what the socket at standard input says; return once nothing is left to do."""
    with suppress(PermissionError):
        os.setsid()  # the end of a terminal is nothing to us
    with _slot(state_directory() / "keepers") as name:
        asyncio.run(_run(socket.socket(fileno=_STDIN), name))


@contextmanager
def _slot(folder: Path) -> Iterator[str | None]:
    """Yield a name that no other process has, and the next one in its place has again.

    By it a mark is known that a process before this one has left behind. Where it
    cannot be written, as on a full disk, the next one has another. None if there is no
    place for it.
    """
    handle = _lock_one(folder)
    if handle is None:
        yield None
        return
    try:
        yield _name_in(handle)
    finally:
        os.close(handle)


def _name_in(handle: int) -> str:
    with suppress(OSError):
        name = os.pread(handle, _NAME, 0).decode("ascii", "replace")
        if _IS_NAME.fullmatch(name):
            return name
    name = secrets.token_hex(_NAME // 2)
    with suppress(OSError):
        os.pwrite(handle, name.encode(), 0)
    return name


def _lock_one(folder: Path) -> int | None:
    with suppress(OSError):
        make_private_folder(folder)
        for number in range(_SLOTS):
            handle = os.open(folder / str(number), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
            else:
                return handle
    return None


async def _run(sock: socket.socket, name: str | None) -> None:
    reader, writer = await asyncio.open_connection(sock=sock, limit=LINE_LIMIT)
    try:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            return  # nobody is there any more
        tunnel = TunnelSettings.model_validate_json(line)
        context = DaemonContext(
            start_rate=1.0, start_burst=1, instance=name, named=False
        )
        try:
            bastion = context.bastions.get(tunnel)
            assert bastion is not None, "only for targets that are started on demand"
            path = state_directory() / "duties" / duty_name(tunnel, os.environ)
            duty = StopDuty(path, asyncio.get_running_loop().time)
            await keep(bastion, duty, trouble_of(tunnel), reader, writer)
        finally:
            await context.controls.close()
    finally:
        writer.close()


class _Connection:
    """The one connection that needs the target."""

    busy = True


async def keep(
    bastion: Bastion,
    duty: StopDuty,
    trouble: StopTrouble,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Wake ``bastion``, keep it until ``reader`` ends, and see it off.

    SIGTERM and SIGINT are the end of the connection, and of all patience.

    Args:
        bastion: The target.
        duty: The duty to stop it.
        trouble: Where it is written down that it cannot be stopped.
        reader: Ends with the connection.
        writer: Where changes are reported.
    """
    told: Report | None = None
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def tell() -> None:
        nonlocal told
        report = _report(bastion)
        if report != told:
            told = report
            writer.write(json.dumps(asdict(report)).encode() + b"\n")

    async with asyncio.TaskGroup() as tasks:
        with bastion.used_by(_Connection()), bastion.telling(tell):
            bastion.ask()
            tell()
            attending = tasks.create_task(bastion.attend(), name="bastion")
            await run_until(_drain(reader), ended)
        attending.cancel()
    try:
        if bastion.is_stopped_by_us and not ended.is_set():
            await run_until(_outlast(bastion, duty, trouble), ended)
    finally:
        # Before the last look: whoever comes now does not count on this process.
        duty.release()
    if not ended.is_set():
        return
    if await bastion.leave():
        trouble.clear()
    else:
        trouble.note(bastion.instance or "", "its process had to end", STOP_IT)


async def _outlast(bastion: Bastion, duty: StopDuty, trouble: StopTrouble) -> None:
    """Stop the target in time, or leave that to the process that waits to do so.

    That one is told twice. Before the lease goes: without it the target must not be
    stopped too early. And after that: while the lease was there, that process could
    have left the target to this one.
    """
    if duty.leave_to_holder():
        await bastion.hand_over()
    while not duty.leave_to_holder():
        with bastion.telling(partial(_note_trouble, bastion, trouble)):
            await _see_off(bastion, duty)
        _note_trouble(bastion, trouble)
        if not duty.release():
            return


def _note_trouble(bastion: Bastion, trouble: StopTrouble) -> None:
    failure = bastion.failure
    if failure is None:
        trouble.clear()
    elif bastion.instance is not None and bastion.kept_for <= 0:
        trouble.note(bastion.instance, str(failure), failure.advice)


async def _see_off(bastion: Bastion, duty: StopDuty) -> None:
    # Others can extend the time.
    while (left := bastion.kept_for + PATIENCE) > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await bastion.see_off(duty.last_use)
                return


async def _drain(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(LINE_LIMIT):
            pass


def _report(bastion: Bastion) -> Report:
    hindrance, failure = bastion.hindrance, bastion.failure
    if hindrance is None:
        return Report(
            awake=True, instance=bastion.instance, reason="", advice="", final=False
        )
    return Report(
        awake=False,
        instance=bastion.instance,
        reason=str(hindrance),
        advice=hindrance.advice,
        final=isinstance(failure, AwsError) and not passes(failure),
    )
