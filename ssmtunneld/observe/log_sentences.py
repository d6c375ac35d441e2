"""Log lines for a person who looks on: short, with local time, each hint once.

What `ssmtunneld run` writes on a terminal. All facts are in the other forms.
"""

from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from ssmtunneld.base.lean_imports import hidden
from ssmtunneld.base.sentences import with_advice

with hidden("rich"):  # as in ``base/log.py``
    import structlog

HINTS: Final = 64
"""Hints that are remembered: a tunnel has one at a time, rarely two that alternate."""

_SENTENCES: Final[Mapping[str, str]] = {
    "daemon.started": "ssmtunneld {version}",
    "daemon.ready": "ready",
    "daemon.draining": "ending: {connections} connections have {budget} s to finish",
    "daemon.stopped": "ended",
    "http.bound": "status page at http://{address}/",
    "listener.bound": "listens on {address}",
    "session.failed": "could not start a session",
    "connection.refused": "a connection to {destination} was refused",
    "session.ready": "session {session} is ready",
    "session.resumed": "session {session} goes on, with {streams} connections",
    "link.lost": "session {session} lost its websocket and is resumed",
    "reload.applied": "the file was read again: {added} added, {changed} changed, "
    "{removed} removed; changed in [daemon]: {daemon}",
    "access.requested": "access request {request} for {target} awaits approval",
    "access.granted": "access request {request} is approved, with keys for {seconds} s",
    "access.rejected": "access request {request} was rejected",
    "access.revoked": "access request {request} was revoked",
    "access.expired": "access request {request} has expired",
    "bastion.started": "bastion {target} is being started",
    "bastion.running": "bastion {target} runs; its agent is awaited",
    "bastion.ready": "bastion {target} is ready",
    "bastion.kept": "bastion {target} stays up: somebody else has {sessions} sessions",
    "bastion.stopped": "bastion {target} is stopped: nobody needs it",
    "target.resolved": "the target is {targets}",
}
_UNTOLD: Final = frozenset({"control.bound", "session.started"})
"""Events that are not shown to a person."""
_ASIDE: Final = frozenset(
    {"time", "level", "event", "tunnel", "session", "session_id", "reason", "advice"}
)
_COLOURS: Final = {"warning": "\x1b[33m", "error": "\x1b[31m", "debug": "\x1b[2m"}
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Sentences:
    """Makes a short line of an event; a processor of structlog.

    Args:
        colors: Whether the terminal shows colours.
        visible: Returns a text without what a terminal would obey.
    """

    def __init__(self, *, colors: bool, visible: Callable[[str], str]) -> None:
        self._colors = colors
        self._visible = visible
        self._hints: deque[tuple[object, str]] = deque(maxlen=HINTS)

    def __call__(self, _: object, __: str, event: MutableMapping[str, Any]) -> str:
        """Return the line without its end.

        Raises:
            structlog.DropEvent: The event is not shown to a person.
        """
        name, level = str(event.get("event")), str(event.get("level"))
        if name in _UNTOLD and level == "info":
            raise structlog.DropEvent
        who = f"{event['tunnel']}: " if event.get("tunnel") else ""
        said = with_advice(_sentence(name, event), self._hint(event))
        words = self._visible(f"{who}{said}")
        time = str(event.get("time", ""))
        if not self._colors:
            return f"{time} {words}"
        return f"{_DIM}{time}{_PLAIN} {_COLOURS.get(level, '')}{words}{_PLAIN}"

    def _hint(self, event: Mapping[str, Any]) -> str:
        advice = str(event.get("advice") or "")
        key = (event.get("tunnel"), advice)
        if not advice or key in self._hints:
            return ""
        self._hints.append(key)
        return advice


def _sentence(name: str, event: Mapping[str, Any]) -> str:
    if name == "daemon.draining" and not event.get("connections"):
        return "ending"
    said = _said(name, event)
    # Or whoever looks on takes the silence after the last of them for the end.
    retry = event.get("retry_in") or 0.0
    return f"{said} (next attempt in {retry:.0f} s)" if retry >= 1 else said


def _said(name: str, event: Mapping[str, Any]) -> str:
    if name == "session.ended" and not event.get("ready", True):
        name = "session.failed"
    told = {key: _spelled(value) for key, value in event.items()}
    try:
        said = _SENTENCES[name].format_map(told)
    except KeyError:
        said = name.replace(".", " ").replace("_", " ")
        if not told.get("reason"):
            facts = (f"{k}={v}" for k, v in told.items() if k not in _ASIDE)
            said = " ".join([said, *facts])
    reason = told.get("reason", "").rstrip(".")
    return f"{said}: {reason}" if reason else said


def _spelled(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
