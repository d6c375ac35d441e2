"""Formats of log lines: for a terminal, for the journal, or as JSON (design D16).

Everything goes to standard error. Other libraries' loggers are held at WARNING whatever
our own level is: at DEBUG they print requests, responses and frames, tokens included.

A fault that repeats must not fill a disk: of each kind of warning and error a tunnel
writes a few at once and then one now and then, which says how many were left out.

A log that cannot be written does not end the process (``observe/log_output.py``), and
one that blocks does not stop it (``observe/log_queue.py``). A line that cannot be
formed is replaced by one that says so: the log is a compartment too (design D18). No
line is longer than ``LINE_LIMIT``, and none has a secret, in whatever spelling
(``base/redaction.py``).
"""

import atexit
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any, Final, TextIO, cast

from typing_extensions import override

from ssmtunneld.base.compartment import Defect, Defects
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.lean_imports import hidden
from ssmtunneld.base.redaction import redact, redact_document
from ssmtunneld.observe.log_output import LogOutput
from ssmtunneld.observe.log_queue import LogQueue
from ssmtunneld.observe.log_sentences import Sentences
from ssmtunneld.observe.recent_events import RecentEvents

with hidden("rich"):  # as in ``base/log.py``: whichever comes first
    import structlog

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

# Of sd-daemon(3): the journal takes the level from the start of each line.
_PREFIX: Final = {
    "debug": "<7>",
    "info": "<6>",
    "warning": "<4>",
    "error": "<3>",
}

BURST: Final = 10
"""Warnings of one kind that one tunnel writes at once: an outage and its end."""
REFILL: Final = 10.0
"""Seconds until it can write another one."""

LINE_LIMIT: Final = 8192
"""Bytes of a line, with its end."""
FACT_LIMIT: Final = 2000
"""Characters of one fact; fewer where a line would become too long."""
FLUSH_BUDGET: Final = 1.0
"""Seconds that the end of the process waits for what is still to be written."""

_threshold = logging.INFO
_hushed = False
_queue: LogQueue | None = None
_stream: TextIO | None = None

_Event = MutableMapping[str, Any]


class _Nowhere:
    """Writes nothing: what broke is the log."""

    def error(self, event: str, **facts: object) -> None:
        """Leave it out."""


defects: Final = Defects(_Nowhere())
"""Lines that could not be formed: there is one log, so there is one account of it."""


def set_level(level: str) -> None:
    """Change what is written, at once and for every logger: a key of ``LEVELS``.

    It ends what ``hush_tunnels`` has begun.
    """
    global _threshold, _hushed
    _threshold, _hushed = LEVELS[level], False


def hush_tunnels() -> None:
    """Leave out warnings of tunnels and logins until ``set_level``.

    For the start of a daemon whose starter tells how its tunnels are.
    """
    global _hushed  # noqa: PLW0603 - one process has one level
    _hushed = True


def configure(
    level: str,
    form: str,
    *,
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> None:
    """Choose level and form for the whole process.

    ``level`` is a key of ``LEVELS``; ``form`` is ``auto``, ``text``, ``json``, or
    ``short``, which leaves most facts out (``observe/log_sentences.py``).
    ``auto`` is text: with colour on a terminal unless ``NO_COLOR`` is set, with the
    journal's level prefixes and no time stamp under systemd. ``clock_ns`` paces the
    lines of a fault that repeats.
    """
    global _threshold  # noqa: PLW0603 - one process has one level
    stream = stream or sys.stderr or _nowhere()
    environ = os.environ if environ is None else environ
    _threshold = LEVELS[level]
    renderers = _renderers(form, stream, environ)
    deciding: list[structlog.typing.Processor] = [
        _Restraint(clock_ns),
        recent,
        _drop_unimportant,
    ]
    contained = _Contained(deciding, _Rendering(renderers))
    file = _open(stream, contained.tell_loss)
    structlog.configure(
        processors=[contained],
        # It only ever writes and flushes.
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", file)),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge(logging.WARNING)]
    root.setLevel(logging.WARNING)


def _open(stream: TextIO, notice: Callable[[int], str]) -> LogOutput | LogQueue:
    """Return what writes to ``stream``: by a thread where writing can block."""
    global _queue, _stream  # noqa: PLW0603 - one process has one log
    if _queue is not None and _stream is stream:
        # What waits in it comes first, and only one thread may write.
        _queue.outlet.notice = notice
        return _queue
    if _queue is not None:
        _queue.close()
    outlet = LogOutput(stream, notice)
    _queue = LogQueue(outlet) if outlet.is_file else None
    _stream = stream
    return outlet if _queue is None else _queue


def say(line: str) -> bool:
    """Write ``line`` as it is behind all that was logged, without waiting for it.

    Returns:
        Whether there is a log that takes it; if not, nothing has been written.
    """
    if _queue is None or _stream is not sys.stderr:
        return False
    _queue.write(f"{line}\n")
    return True


def flush(budget: float = FLUSH_BUDGET) -> bool:
    """Wait until all lines are written, for ``budget`` seconds at most.

    Called automatically when the interpreter ends; call it before any other exit
    (``os._exit``, ``os.execv``).

    Returns:
        Whether all are.
    """
    return _queue is None or _queue.drain(budget)


atexit.register(flush)


@cache
def _nowhere() -> TextIO:
    """Return what to write to in a process that was started without standard error."""
    return Path(os.devnull).open("w", encoding="utf-8")


def _renderers(
    form: str, stream: TextIO, environ: Mapping[str, str]
) -> list[structlog.typing.Processor]:
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")
    if form == "json":
        return [stamp, _as_json]
    if "JOURNAL_STREAM" in environ:
        return [_for_journal]
    colors = stream.isatty() and not environ.get("NO_COLOR")
    if form == "short":
        clock = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="time")
        return [clock, Sentences(colors=colors, visible=_visible)]
    console = structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="time")
    return [stamp, _without_controls, console]


class _Contained:
    """Forms lines; an exception in doing so never reaches the code that logs.

    Args:
        processors: Decide about an event and keep it: drop it, or return it.
        rendering: Makes a line of it.
    """

    def __init__(
        self, processors: list[structlog.typing.Processor], rendering: "_Rendering"
    ) -> None:
        self._processors: list[structlog.typing.Processor] = [
            structlog.processors.add_log_level,
            *processors,
            rendering,
        ]
        # Around the restraint and the level: what it says comes once in a long while.
        self._texts = structlog.wrap_logger(
            structlog.ReturnLogger(),
            processors=[structlog.processors.add_log_level, rendering],
        )

    def __call__(self, logger: object, method: str, event: _Event) -> str:
        """Return the line without its end."""
        name = event.get("event")
        line: Any = event
        try:
            for process in self._processors:
                line = process(logger, method, line)
            return str(line)
        except structlog.DropEvent:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            return self._apologize(name, defects.count("log", error))

    def tell_loss(self, lost: int) -> str:
        """Return the line for what nobody could read."""
        try:
            return str(self._texts.warning("log.resumed", lost=lost))
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            return self._apologize("log.resumed", defects.count("log", error))

    def _apologize(self, name: object, defect: Defect) -> str:
        # Names of events are ours; a fact may be what has broken it.
        about = name if type(name) is str else ""
        try:
            return str(self._texts.error("log.failed", about=about, defect=str(defect)))
        except Exception:  # noqa: BLE001 - the boundary of a compartment
            return f"log.failed about={_visible(about)} defect={defect.kind}"


class _Rendering:
    """Forms a line, without secrets and of bounded length.

    Text from elsewhere is bounded where it enters; this is for unexpected text.
    """

    def __init__(self, renderers: list[structlog.typing.Processor]) -> None:
        self._renderers = renderers

    def __call__(self, logger: object, method: str, event: _Event) -> str:
        """Return the line without its end."""
        # Before a renderer spells them its way: that would spoil JSON, for example.
        facts = {key: _without_secrets(value) for key, value in event.items()}
        limit = FACT_LIMIT
        while True:
            shown = {key: _cut(value, limit) for key, value in facts.items()}
            line: Any = shown
            for renderer in self._renderers:
                line = renderer(logger, method, line)
            if len(str(line).encode("utf-8", "backslashreplace")) < LINE_LIMIT:
                return str(line)
            limit //= 2
            if not limit:  # no event of ours has hundreds of facts
                facts = {k: v for k, v in facts.items() if k in {"event", "level"}}
                limit = FACT_LIMIT


def _without_secrets(value: object) -> object:
    """Return ``value``, or a text or container without the secrets in it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | dict | list | tuple):
        return redact_document(value)
    # Renderers show other things as one or the other.
    shown = f"{value} {value!r}"
    return value if redact(shown) == shown else redact(str(value))


def _cut(value: object, limit: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return value if len(text) <= limit else f"{text[: limit - 1]}…"


def _drop_unimportant(_: object, method: str, event: _Event) -> _Event:
    level = LEVELS.get(method, logging.ERROR)
    if level < _threshold or (_hushed and level < logging.ERROR and _is_told(event)):
        raise structlog.DropEvent
    return event


def _is_told(event: _Event) -> bool:
    """Return True for what the status of tunnels says as well."""
    return "tunnel" in event or event.get("event") == "login.needed"


class _Restraint:
    """Lets a few alike warnings pass at once, and then one in ``REFILL`` seconds.

    Alike are those of one event and one tunnel, or of one library: as many as the
    source and the configuration have, not as many as a peer causes.
    """

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._buckets: dict[tuple[object, ...], _Bucket] = {}

    def __call__(self, _: object, method: str, event: _Event) -> _Event:
        """Pass the line on, or count it for the next one that passes."""
        if LEVELS.get(method, logging.ERROR) < logging.WARNING:
            return event
        key = (event.get("event"), event.get("tunnel"), event.get("library"))
        bucket = self._buckets.setdefault(key, _Bucket())
        if not bucket.take(self._clock_ns() / 1e9):
            raise structlog.DropEvent
        if bucket.suppressed:
            event["suppressed"] = event.get("suppressed", 0) + bucket.suppressed
            bucket.suppressed = 0
        return event


class _Bucket:
    """A token bucket for log lines of one kind."""

    __slots__ = ("_at", "_left", "suppressed")

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = float("-inf")
        self.suppressed = 0

    def take(self, now: float) -> bool:
        """Return whether a line may be written at ``now``; if not, count it."""
        self._left = min(BURST, self._left + (now - self._at) / REFILL)
        self._at = now
        if self._left < 1:
            self.suppressed += 1
            return False
        self._left -= 1
        return True


def _as_json(_: object, __: str, event: _Event) -> str:
    ordered = {
        "time": event.pop("time"),
        "level": event.pop("level"),
        "event": event.pop("event"),
    }
    return _visible(json.dumps({**ordered, **event}, default=str, ensure_ascii=False))


def _without_controls(_: object, __: str, event: _Event) -> _Event:
    # The renderer shows whatever is not text by its repr, which has none of them.
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _visible(value)
    return event


def _for_journal(_: object, method: str, event: _Event) -> str:
    event.pop("level", None)
    name = event.pop("event")
    facts = " ".join(f"{key}={_quoted(value)}" for key, value in event.items())
    line = f"{name} {facts}" if facts else str(name)
    return _PREFIX.get(method, "<3>") + line


def _quoted(value: object) -> str:
    text = str(value)
    plain = bool(text) and text.isprintable() and not set(text) & set(' "=')
    return text if plain else _visible(json.dumps(text, ensure_ascii=False))


def _visible(text: str) -> str:
    """Return ``text`` with escapes, as in JSON, for all that a terminal would obey.

    Much of what is logged comes from the service, from agents and from other libraries:
    it must neither end a line nor move the cursor.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _presentable(text: str) -> str:
    return redact(_visible(text))


recent: Final = RecentEvents(_presentable)
"""The last lines of this process: there is one log, so there is one memory of it."""


class _Bridge(logging.Handler):
    """Carries what other libraries say into our log."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, without its arguments' repr and without a traceback.

        A traceback shows source lines, not values; but an exception's own text can
        quote a request, so only its type is told. A library's words can be those of
        whom it talks to: they are cut like theirs.
        """
        log = structlog.get_logger("ssmtunneld")
        facts: dict[str, object] = {"library": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            # Not "exception": the library would give that a line of its own, and warn.
            facts["caught"] = record.exc_info[0].__name__
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = str(
                record.msg
            )  # the library's mistake; it must not become its end
        level = "error" if record.levelno >= logging.ERROR else "warning"
        getattr(log, level)("library.said", message=clean(message), **facts)
