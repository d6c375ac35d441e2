"""The audit log: a line when a connection opens and one when it ends (``audit_log``).

The loop only notes what has happened, in a list of bounded length. A thread finds out
who the clients are, for all that came meanwhile together, and forms the lines; the
queue of ``log_queue.py`` and its thread write them. What is lost on the way is counted,
and told in the file before the next line.

Each run of the daemon begins with a line ``started`` and ends with one ``stopped``: if
the latter is missing, the daemon was killed, and lines can be missing too. The
docstrings of the fields below are the descriptions in the lines' JSON schema.
"""

import asyncio
import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.log import EventLog
from ssmtunneld.base.redaction import redact
from ssmtunneld.listener.client import Client, identify
from ssmtunneld.listener.connection import Connection
from ssmtunneld.listener.relay import Transfer
from ssmtunneld.observe.audit_file import AuditFile
from ssmtunneld.observe.connections import (
    TEXT_LIMIT,
    Carried,
    carried_by,
    destination_of,
)
from ssmtunneld.observe.log_output import LogOutput
from ssmtunneld.observe.log_queue import LogQueue
from ssmtunneld.version import __version__

NOTES_LIMIT: Final = 20_000
"""Begins and ends that wait for their lines: those of all connections at once."""
QUEUED_LINES: Final = 20_000
"""Lines that wait to be written."""
QUEUED_SIZE: Final = 16 << 20
"""Characters of these lines together; one has about 500."""
TOGETHER: Final = 100
"""Lines that are passed on, written and lost together."""
PAUSE: Final = 0.5
"""Seconds in which connections gather after a look at who they are: the first one after
a while is looked at at once. Shorter, and waking threads would cost more than lines."""
SHARE: Final = 100
"""Times that a look takes until the next one, ``LONG_PAUSE`` at most: 1 % of a
processor while a look takes less than 20 ms."""
LOOK_BUDGET: Final = 1.0
"""Seconds at the end for the last look at the clients and at the file's folder."""
LONG_PAUSE: Final = 2.0
"""Seconds between two looks, however long they take."""
CHECK_INTERVAL: Final = 5.0
"""Seconds between looks at whether the file can be written, where nothing happens."""
FLUSH_BUDGET: Final = 2.0
"""Seconds at the end of the daemon for what is still to be written."""
CACHED_TEXTS: Final = 1024
"""Programs, and sessions, whose part of a line is kept for the next one."""
REASON_LIMIT: Final = 300
"""Characters of the reason why a connection ended."""


@dataclass(frozen=True, slots=True)
class AuditStatus:
    """The audit log."""

    file: str
    """Path of the file."""
    waiting: int
    """Lines that have not been written yet."""
    lost: int
    """Lines that could not be written since the start of the daemon."""
    reason: str
    """Reason why it cannot be written now; empty if it can be."""


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of the audit log; which keys it has depends on its event."""

    time: str
    """Time of the event: ISO 8601, in UTC."""
    event: Literal["started", "opened", "ended", "lost", "stopped"]
    """``opened`` and ``ended``: a connection. ``started`` and ``stopped``: the daemon.
    ``lost``: lines are missing here."""
    connection: str | None = None
    """The connection's id, as in ``ssmtunneld connections``: pairs the two lines."""
    tunnel: str | None = None
    """The tunnel's name."""
    peer: str | None = None
    """The client's address; its user's id with a Unix socket."""
    user: str | None = None
    """Name of the local user; null if it comes from elsewhere or cannot be seen."""
    uid: int | None = None
    """The same user's id."""
    program: str | None = None
    """Name of the local program, as it calls itself; null if it cannot be seen."""
    pid: int | None = None
    """The same program's process. In ``started`` and ``stopped``, the daemon's."""
    target: str | None = None
    """The node whose agent the session uses; null if it never had a session."""
    destination: str | None = None
    """Host and port as the target reaches them."""
    session_id: str | None = None
    """The session's id at AWS, as in CloudTrail; null if it never had a session."""
    duration: float | None = None
    """Seconds since its accept. Only in ``ended``."""
    sent: int | None = None
    """Bytes from the client. Only in ``ended``."""
    received: int | None = None
    """Bytes to the client. Only in ``ended``."""
    ending: str | None = None
    """The result, in the words of the metrics. Only in ``ended``."""
    reason: str | None = None
    """Reason of the end; empty if nothing went wrong. Only in ``ended``."""
    version: str | None = None
    """The daemon's version. Only in ``started``."""
    lines: int | None = None
    """Number of missing lines. Only in ``lost`` and ``stopped``."""


class _End(NamedTuple):
    duration: float
    transfer: Transfer


class _Note(NamedTuple):
    """A begin or an end, until its line is formed."""

    at: float
    connection: str
    tunnel: str
    peer: str
    client: Client
    carried: Carried
    destination: str
    end: _End | None


class _Output:
    """A file with its queue."""

    def __init__(self, path: Path, notice: Callable[[int], str]) -> None:
        self.path = path
        self.file = AuditFile(path)
        # Their buffers are passed by: the output writes to the file below them.
        stream = io.TextIOWrapper(io.BufferedWriter(self.file), "utf-8")
        outlet = LogOutput(stream, notice)
        self.queue = LogQueue(outlet, lines=QUEUED_LINES, size=QUEUED_SIZE)

    def close(self, budget: float) -> int:
        """Write what waits, for ``budget`` seconds at most; return what never was."""
        if self.queue.drain(budget):
            self.queue.close()
            self.file.close()
            return self.queue.lost
        self.queue.close()
        return self.queue.lost + self.queue.waiting


class AuditLog:
    """Writes down who connects, through which tunnel, and how that ends.

    Args:
        path: The file; None to write nothing.
        log: Where to say that it cannot be written.
        pid: The daemon's process.
        wall_clock: Returns the time in Unix seconds.
        find_out: Finds out who clients are; can block, and runs in a thread.
    """

    def __init__(
        self,
        path: Path | None,
        log: EventLog,
        *,
        pid: int,
        wall_clock: Callable[[], float],
        find_out: Callable[[Sequence[Client]], None] = identify,
    ) -> None:
        self._path = path
        self._log = log
        self._pid = pid
        self._wall_clock = wall_clock
        self._find_out = find_out
        self._notes: deque[_Note] = deque()
        self._taken: deque[_Note] = deque()
        self._opened: set[str] = set()
        self._lost_notes = 0
        self._lost_before = 0
        self._output: _Output | None = None
        self._writing: asyncio.Future[None] | None = None
        self._changed = asyncio.Event()
        self._told = ""

    @property
    def path(self) -> Path | None:
        """The file; can be replaced while running, None ends it."""
        return self._path

    @path.setter
    def path(self, path: Path | None) -> None:
        self._path = path
        self._changed.set()

    def status(self) -> AuditStatus | None:
        """Return how it is; None while nothing is written down."""
        if self._path is None:
            return None
        output = self._output
        queue = None if output is None else output.queue
        return AuditStatus(
            file=str(self._path),
            waiting=len(self._notes)
            + len(self._taken)
            + (0 if queue is None else queue.waiting),
            lost=self._lost_ever + (0 if queue is None else queue.lost_ever),
            reason="" if output is None else output.file.trouble,
        )

    @property
    def _lost_ever(self) -> int:
        return self._lost_before + self._lost_notes

    # Called on the loop, for every connection: never waits.

    def note_begin(
        self, connection: Connection, tunnel: str, fixed: str | None
    ) -> None:
        """Note that a connection has its stream.

        Args:
            connection: It.
            tunnel: The tunnel's name.
            fixed: Where the tunnel leads; None if its clients say.
        """
        if self._path is not None:
            self._opened.add(connection.name)
            self._note(connection, tunnel, fixed, None)

    def note_end(
        self,
        connection: Connection,
        tunnel: str,
        fixed: str | None,
        transfer: Transfer,
    ) -> None:
        """Note that a connection has ended, and before that its begin if nobody did."""
        begun = connection.name in self._opened
        self._opened.discard(connection.name)
        if self._path is None:
            return
        if not begun:
            # It never had a stream, or came before there was this log.
            self._note(connection, tunnel, fixed, None)
        now = asyncio.get_running_loop().time()
        end = _End(max(0.0, now - connection.since), transfer)
        self._note(connection, tunnel, fixed, end)

    def _note(
        self, connection: Connection, tunnel: str, fixed: str | None, end: _End | None
    ) -> None:
        if len(self._notes) >= NOTES_LIMIT:
            self._lost_notes += 1
            return
        self._notes.append(
            _Note(
                self._wall_clock(),
                connection.name,
                tunnel,
                connection.peer,
                connection.client,
                carried_by(connection),
                destination_of(connection, fixed),
                end,
            )
        )
        self._changed.set()

    # Its own task and threads.

    async def run(self) -> None:
        """Write down what was noted until cancelled; :meth:`close` writes the rest.

        Cancelling is safe: nothing is lost by it.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._follow_path()
            began = loop.time()
            await self._write_notes()
            self._tell_trouble()
            took = loop.time() - began
            await asyncio.sleep(min(LONG_PAUSE, max(PAUSE, SHARE * took)))
            # The thread that writes may meet trouble after the last look at it.
            interval = None if self._output is None else CHECK_INTERVAL
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._changed.wait()

    async def close(self, budget: float = FLUSH_BUDGET) -> None:
        """Write down all that is left, for ``budget`` seconds after the last look.

        Says in the log how many lines are missing, if any.
        """
        if self._output is None and not self._notes:
            return  # it has never run
        try:
            # A folder or a list of users on a server can be slow for ever.
            async with asyncio.timeout(LOOK_BUDGET):
                await self._follow_path()
                await self._write_notes()
        except TimeoutError:
            missing = len(self._notes) + len(self._taken)
            reason = "the file, or who the clients are, could not be looked at in time"
            self._log.error("audit.incomplete", lost=missing, reason=reason)
        if self._output is not None:
            await self._end(self._output, budget)

    async def _follow_path(self) -> None:
        """Use the file that is wanted now."""
        output = self._output
        if output is not None and output.path != self._path:
            await self._write_notes()
            await self._end(output, FLUSH_BUDGET)
        if self._output is None and self._path is not None:
            output = _Output(self._path, self._lost_line)
            await asyncio.to_thread(output.file.look)
            self._output = output
            self._say("started", pid=self._pid, version=__version__)

    async def _end(self, output: _Output, budget: float) -> None:
        self._say("stopped", pid=self._pid, lines=self._lost_of(output))
        # At once: it is ended once, even if this is cancelled.
        self._output = None
        missing = await asyncio.to_thread(output.close, budget)
        lost = self._lost_of(output) + output.queue.waiting
        self._lost_before, self._lost_notes = lost, 0
        if missing:
            reason = output.file.trouble or "the file could not be written in time"
            self._log.error("audit.incomplete", lost=missing, reason=reason)

    def _lost_of(self, output: _Output) -> int:
        return self._lost_ever + output.queue.lost_ever

    async def _write_notes(self) -> None:
        self._changed.clear()
        if self._writing is not None:
            # Of a task that was cancelled: its lines come first.
            await asyncio.wait([self._writing])
            self._writing.exception()  # what was lost by it is counted
            self._writing = None
        output = self._output
        if output is None or not (self._notes or self._lost_notes):
            return
        self._taken, self._notes = self._notes, deque()
        lost, self._lost_notes = self._lost_notes, 0
        output.queue.lose(lost)
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(
            None, self._write, output.queue, self._taken
        )
        await asyncio.shield(self._writing)
        self._writing = None

    def _write(self, queue: LogQueue, notes: deque[_Note]) -> None:
        """Form the lines of ``notes`` and pass them on; in a thread."""
        try:
            self._find_out([note.client for note in notes if not note.client.settled])
            while notes:
                some = list(islice(notes, TOGETHER))
                # With one call: to wake a thread for each costs more than the line.
                queue.write("".join(_lines_of(some)))
                for _ in some:
                    notes.popleft()
        finally:
            # None, unless there was a defect, which the compartment tells.
            queue.lose(len(notes))

    def _say(self, event: str, **facts: Any) -> None:
        assert self._output is not None, "said before there is a file"
        self._output.queue.write(_formed(event, self._wall_clock(), facts))

    def _lost_line(self, lost: int) -> str:
        return _formed("lost", self._wall_clock(), {"lines": lost}).removesuffix("\n")

    def _tell_trouble(self) -> None:
        """Say once that the file cannot be written, and once that it can be again."""
        output = self._output
        trouble = "" if output is None else output.file.trouble
        if trouble == self._told or output is None:
            return
        self._told = trouble
        if trouble:
            self._log.error(
                "audit.failed",
                path=str(output.path),
                reason=trouble,
                advice="connections go on unrecorded until it can be written",
            )
        else:
            self._log.info("audit.resumed", path=str(output.path))


class TunnelAudit:
    """The ear of the audit log at one tunnel's server (``ConnectionObserver``).

    Args:
        audit: Where it is written down.
        name: The tunnel's name.
        fixed: Where the tunnel leads; None if its clients say.

    Attributes:
        fixed: The same; can be replaced.
    """

    def __init__(self, audit: AuditLog, name: str, fixed: str | None) -> None:
        self._audit = audit
        self._name = name
        self.fixed = fixed

    def opened(self, connection: Connection) -> None:
        """Note that a connection has its stream."""
        self._audit.note_begin(connection, self._name, self.fixed)

    def ended(self, connection: Connection, transfer: Transfer) -> None:
        """Note that a connection has ended."""
        self._audit.note_end(connection, self._name, self.fixed, transfer)


def _lines_of(notes: Iterable[_Note]) -> Iterator[str]:
    # Of a short connection begin and end come together, and differ in little.
    known: dict[tuple[str, str, Carried], str] = {}
    for note in notes:
        key = note.connection, note.destination, note.carried
        same = known.pop(key, None)
        if same is None:
            same = _same_of(note)
            if note.end is None:
                known[key] = same
        yield _line_of(note, same)


def _same_of(note: _Note) -> str:
    """Return the part of a connection's lines that its begin and its end share."""
    # The texts of one session and of one program are the same for thousands of lines.
    client, carried = note.client, note.carried
    return (
        f'"connection": "{note.connection}", "tunnel": "{note.tunnel}", '
        f'"peer": {_quoted(note.peer)}, '
        f"{_who(redact(client.user), client.uid, redact(client.program), client.pid)}, "
        f"{_where(*map(_told, (carried.target, note.destination, carried.session_id)))}"
    )


def _told(text: str | None) -> str | None:
    # Before it is JSON: a secret that looks like a part of that would spoil the line.
    return None if text is None else redact(text)


def _line_of(note: _Note, same: str) -> str:
    time = _time(note.at)
    if note.end is None:
        return f'{{"time": "{time}", "event": "opened", {same}}}\n'
    duration, transfer = note.end
    cause = transfer.cause
    reason = '""' if cause is None else _quoted(redact(str(cause)), REASON_LIMIT)
    return (
        f'{{"time": "{time}", "event": "ended", {same}, "duration": {duration:.3f}, '
        f'"sent": {transfer.sent}, "received": {transfer.received}, '
        f'"ending": "{transfer.ending.value}", "reason": {reason}}}\n'
    )


_PLAIN: Final = re.compile(r"[A-Za-z0-9.:\[\]]*")
"""Addresses, for example."""


@lru_cache(maxsize=CACHED_TEXTS)
def _who(user: str, uid: int | None, program: str, pid: int | None) -> str:
    shown = clean(user, TEXT_LIMIT) or None
    return _inner(user=shown, uid=uid, program=program or None, pid=pid)


@lru_cache(maxsize=CACHED_TEXTS)
def _where(target: str | None, destination: str | None, session_id: str | None) -> str:
    return _inner(target=target, destination=destination, session_id=session_id)


def _inner(**facts: object) -> str:
    """Return an object of JSON without its braces."""
    return json.dumps(facts)[1:-1]


def _quoted(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return ``text`` as JSON, cleaned; most has nothing to be cleaned."""
    if len(text) <= limit and _PLAIN.fullmatch(text):
        return f'"{text}"'
    return json.dumps(clean(text, limit))


@lru_cache(maxsize=2)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _time(at: float) -> str:
    """Return Unix time ``at`` as ISO 8601 in UTC, with milliseconds."""
    milliseconds = int(at * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


def _formed(event: str, at: float, facts: dict[str, Any]) -> str:
    """Return a line of which there are few."""
    return json.dumps({"time": _time(at), "event": event, **facts}) + "\n"
