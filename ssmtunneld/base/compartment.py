"""Bulkheads between parts that must not sink together (design D18).

Whatever is raised inside a compartment ends there: it is logged once as ``defect``, by
its type and the places in the source, never by its text, which can quote a token. It is
counted for status and metrics, and the part is started again after a delay.

Only unforeseen exceptions come here. What is foreseen is an
``SsmtunneldError`` that the code below handles; one that arrives here anyway is a
defect like any other. Cancellation and the end of the process pass through.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from traceback import walk_tb
from typing import Any, Final, Protocol, TypeVar, cast

from typing_extensions import override

from ssmtunneld.base.record import Record

FIRST_DELAY: Final = 1.0
"""Seconds until what broke is started again, the first time."""
LAST_DELAY: Final = 60.0
"""Seconds that it takes at most, after it broke again and again."""
QUIET: Final = 60.0
"""Seconds without a defect after which the next one counts as the first."""

_PACKAGE: Final = Path(__file__).parents[1]
NOWHERE: Final = "unknown"
"""The place of what was never raised."""

_Result = TypeVar("_Result")


class DefectLog(Protocol):
    """The log that defects are written to."""

    def error(self, event: str, **facts: object) -> None:
        """Log an event that needs action."""
        ...


class Defect(Record):
    """An unforeseen exception, without its text.

    Attributes:
        kind: The exception's type.
        place: The innermost line of this package that it went through.
        origin: The line that raised it: the same, or one of a library.
    """

    kind: str
    place: str
    origin: str

    @classmethod
    def of(cls, error: BaseException) -> "Defect":
        """Return the harmless facts of ``error``: of a group, its first exception."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        frames = [
            (Path(frame.f_code.co_filename), line)
            for frame, line in walk_tb(error.__traceback__)
        ]
        ours = [f for f in frames if f[0].is_relative_to(_PACKAGE)]
        return cls(
            type(error).__name__,
            _place(*ours[-1]) if ours else NOWHERE,
            _place(*frames[-1]) if frames else NOWHERE,
        )

    @override
    def __str__(self) -> str:
        return f"defect: {self.kind} at {self.place}"


def _place(path: Path, line: int) -> str:
    if path.is_relative_to(_PACKAGE):
        return f"{path.relative_to(_PACKAGE)}:{line}"
    return f"{'/'.join(path.parts[-2:])}:{line}"


class DefectStatus(Record):
    """A part in which an unforeseen exception was raised."""

    compartment: str
    """The part: ``session``, ``listener``, ``probe``, ``http``, ..."""
    count: int
    """Number of times since the daemon's start."""
    last: str
    """The last defect: its kind and its place in the source, never a value."""
    age: float
    """Seconds since then."""
    restart_in: float | None
    """Seconds until the part is started again; null while it works."""

    @property
    def reason(self) -> str:
        """The text for people."""
        if self.restart_in is None:
            return self.last
        return f"{self.last}; restarted in {self.restart_in:.0f} s"


class _Record:
    """The defects of one compartment."""

    __slots__ = ("at", "count", "delay", "last", "restart_at")

    def __init__(self, last: Defect) -> None:
        self.last = last
        self.at = float("-inf")
        self.count = 0
        self.delay = FIRST_DELAY
        self.restart_at: float | None = None


_around: ContextVar["Defects | None"] = ContextVar("_around", default=None)
"""The compartment of the running code; callbacks inherit it."""


class Defects:
    """The defects of one tunnel, or of the process's own services.

    May be used by any thread, except what starts something again.

    Args:
        log: Bound to the tunnel.
    """

    def __init__(self, log: DefectLog) -> None:
        self._log = log
        self._records: dict[str, _Record] = {}
        self._guard = threading.Lock()

    def note(self, compartment: str, error: BaseException) -> Defect:
        """Log and count an exception that was caught at the boundary of a compartment.

        Args:
            compartment: Its name: one of those that the source has, never a value.
            error: The exception.

        Returns:
            What may be said of it.
        """
        defect = self.count(compartment, error)
        self._write(compartment, defect)
        return defect

    def count(self, compartment: str, error: BaseException) -> Defect:
        """Do the same without a line in the log: where the log itself has failed."""
        defect = Defect.of(error)
        self._record(compartment, defect)
        return defect

    def note_restart(self, compartment: str, error: BaseException) -> float:
        """Do the same for a compartment that is started again.

        Returns:
            Seconds until then: more each time, until it was quiet for some time.
        """
        defect = Defect.of(error)
        before = self._records.get(compartment)
        now = asyncio.get_running_loop().time()
        delay = FIRST_DELAY
        if before is not None and before.restart_at is not None:
            quiet = now >= before.restart_at + QUIET
            delay = FIRST_DELAY if quiet else min(2 * before.delay, LAST_DELAY)
        record = self._record(compartment, defect)
        record.delay = delay
        record.restart_at = now + delay
        self._write(compartment, defect, restart_in=round(delay, 1))
        return delay

    def _record(self, compartment: str, defect: Defect) -> _Record:
        with self._guard:
            record = self._records.setdefault(compartment, _Record(defect))
            record.last = defect
            record.at = _now()
            record.count += 1
            return record

    def _write(self, compartment: str, defect: Defect, **facts: object) -> None:
        self._log.error(
            "defect",
            compartment=compartment,
            kind=defect.kind,
            place=defect.place,
            origin=defect.origin,
            **facts,
            advice="this is a defect of ssmtunneld, please report it with this line",
        )

    def complain(self, what: str) -> None:
        """Log a complaint of the event loop that comes without an exception."""
        self._log.error("defect", compartment="loop", what=what)

    def snapshot(self, now: float) -> tuple[DefectStatus, ...]:
        """Return what there is to see at ``now``, on the loop's clock."""
        with self._guard:
            records = list(self._records.items())
        return tuple(
            DefectStatus(
                compartment=name,
                count=record.count,
                last=str(record.last),
                age=round(now - record.at, 1),
                restart_in=(
                    round(record.restart_at - now, 1)
                    if record.restart_at is not None and record.restart_at > now
                    else None
                ),
            )
            for name, record in records
        )

    @contextmanager
    def guard(self, compartment: str) -> Iterator[None]:
        """End here what a block that awaits nothing raises: a callback's boundary."""
        token = _around.set(self)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            self.note(compartment, error)
        finally:
            _around.reset(token)

    async def attempt(
        self, compartment: str, work: Callable[[], Awaitable[_Result]]
    ) -> _Result | None:
        """Do ``work`` once, as a compartment that is not started again.

        Cancelling is safe if ``work`` is.

        Returns:
            Its result; ``None`` after a defect.
        """
        result, error = await _enclose(compartment, work, self)
        if error is not None:
            self.note(compartment, error)
        return result


def _now() -> float:
    """Return the loop's time; in another thread, what the loops' clocks show."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()  # noqa: TID251 - a thread has no loop


def defects_here() -> Defects | None:
    """Return whose compartment the running code is in, if anybody's.

    A thread is in one if it runs in a copy of the context of whoever started it.
    """
    return _around.get()


def note_here(compartment: str, error: BaseException, log: DefectLog) -> Defect:
    """Note an exception for whoever's compartment the running code is in.

    Args:
        compartment: See :meth:`Defects.note`.
        error: The exception.
        log: Where to tell it if the code is in nobody's.
    """
    return (defects_here() or Defects(log)).note(compartment, error)


async def run_compartment(
    name: str,
    work: Callable[[], Awaitable[_Result]],
    defects: Defects,
    *,
    broke: Callable[[], None] = lambda: None,
) -> _Result:
    """Do ``work`` until it returns; start it again after every defect.

    What is called back for it later is taken for a part of it. Cancelling is safe if
    ``work`` is.

    Args:
        name: The compartment's, for the log, status and metrics.
        work: Starts it.
        defects: The record of its defects.
        broke: Called after each defect: a part must not be waited for then.
    """
    while True:
        result, error = await _enclose(name, work, defects)
        if error is None:
            return cast("_Result", result)
        delay = defects.note_restart(name, error)
        broke()
        await asyncio.sleep(delay)


async def _enclose(
    name: str, work: Callable[[], Awaitable[_Result]], defects: Defects
) -> tuple[_Result | None, BaseException | None]:
    """Do ``work`` in a task of its own; return its result and what it raised.

    In our own task, what ``work`` raises while it is cancelled would hide that we are:
    a task group that fails meanwhile raises only its failures. Here it is noted.
    """
    working: asyncio.Task[tuple[_Result | None, Exception | None]] | None = None
    token = _around.set(defects)
    try:
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(_catch(work), name=f"compartment {name}")
    except asyncio.CancelledError:
        if working is not None and not working.cancelled():
            _, error = working.result()
            if error is not None:
                defects.note(name, error)
        raise
    finally:
        _around.reset(token)
    if working.cancelled():
        # Not our task was cancelled, but something that the work waited for.
        return None, asyncio.CancelledError()
    return working.result()


async def _catch(
    work: Callable[[], Awaitable[_Result]],
) -> tuple[_Result | None, Exception | None]:
    try:
        return await work(), None
    except Exception as error:  # noqa: BLE001 - the boundary of a compartment
        return None, error


def catch_callbacks(loop: asyncio.AbstractEventLoop, defects: Defects) -> None:
    """Make the loop report what callbacks raise as defects, without tracebacks.

    Args:
        loop: The event loop.
        defects: For callbacks that belong to no compartment.
    """

    def report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and "transport" in context:
            return  # its protocol is called: a connection broke
        owner = _owner(context) or defects
        if error is None:
            # asyncio's message, without the objects that it adds.
            owner.complain(str(context.get("message", "")).partition(" <")[0])
        else:
            owner.note("callback", error)

    loop.set_exception_handler(report)


def _owner(context: dict[str, Any]) -> Defects | None:
    inherited = getattr(context.get("handle"), "_context", None)
    # uvloop, and asyncio since Python 3.12, report from within the callback's context.
    return _around.get() if inherited is None else inherited.get(_around)
