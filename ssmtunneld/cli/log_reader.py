"""Lines of a daemon's log, wherever they are: a command's output, or its memory."""

import json
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.threads import start
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.terminal.text import visible

INTERVAL: Final = 1.0
"""Seconds between two looks at a daemon's memory."""
LONGEST_LOOK: Final = 10_000
"""Lines that are looked through for those of one tunnel."""
_SHARE: Final = 20
"""Lines that are looked through for each line of one tunnel."""


def look_back(lines: int, name: str | None) -> int:
    """Return how many lines to look through for ``lines`` of tunnel ``name``."""
    return lines if name is None else min(lines * _SHARE, LONGEST_LOOK)


def journal_command(
    unit: str, *, user: bool, lines: int, follow: bool
) -> list[str] | None:
    """Return what prints the journal of ``unit``; None if nothing can."""
    if shutil.which("journalctl") is None:
        return None
    scope = ["--user"] if user else []
    options = ["--no-pager", "--no-hostname", "--output=short-iso", f"--lines={lines}"]
    follows = ["--follow"] if follow else []
    return ["journalctl", *scope, *options, *follows, f"--unit={unit}"]


def file_command(file: str, *, lines: int, follow: bool) -> list[str]:
    """Return what prints the end of a file, also of the one that takes its place."""
    return ["tail", "-n", str(lines), *(["-F"] if follow else []), "--", file]


def of_tunnel(name: str | None) -> Callable[[str], bool]:
    """Return what says whether a line is of tunnel ``name``; None for any line."""
    if name is None:
        return lambda _: True
    # As text and in the journal, and as JSON.
    pattern = re.compile(rf'\btunnel(?:=|": "){re.escape(name)}(?![\w-])')
    return lambda line: pattern.search(line) is not None


def printed(command: list[str]) -> Iterator[str]:
    """Yield the lines that ``command`` prints; end it when they are not wanted.

    Raises:
        CommandError: It cannot be run, or has failed.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - fixed commands, and no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise CommandError(f"{command[0]} cannot be run: {error.strerror}") from None
    with process:
        assert process.stdout is not None, "asked for"
        assert process.stderr is not None, "asked for"
        # Or it would wait for somebody who reads what it complains of.
        complaints: deque[str] = deque(maxlen=1)
        reading = threading.Thread(
            target=complaints.extend, args=(process.stderr,), daemon=True
        )
        with on_error(process.terminate):
            start(reading)
        try:
            for line in process.stdout:
                yield visible(line.rstrip("\n"))
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            code = process.wait()
            reading.join()
    if code > 0:
        said = visible(" ".join(complaints).strip())
        raise CommandError(f"{command[0]} ended with status {code}: {said}")


def last(lines: Iterator[str], count: int) -> Iterator[str]:
    """Yield the last ``count`` of ``lines``."""
    yield from deque(lines, maxlen=count)


def remembered(
    ask: Callable[[int], dict[str, Any]],
    name: str | None,
    *,
    count: int,
    follow: bool,
    missed: Callable[[CommandError], None] = lambda _: None,
) -> Iterator[str]:
    """Yield what a daemon remembers of its log, at first the last ``count`` lines.

    Args:
        ask: Returns the daemon's answer with what came after a line of this number.
        name: Only the lines of this tunnel.
        count: Lines of the past.
        follow: Whether to go on, also with the daemon after this one.
        missed: Called when the daemon does not answer any more, and is asked again.

    Raises:
        CommandError: The daemon does not answer.
    """
    document = ask(0)
    events = document["events"]
    yield from last(map(event_line, _chosen(events, name)), count)
    newest = document["newest"]
    process = document.get("pid")
    answers = True
    while follow:
        threading.Event().wait(INTERVAL)
        try:
            document = ask(newest)
        except CommandError as error:  # it ends, or another one begins
            if answers:
                missed(error)
            answers = False
            continue
        answers = True
        if (document["newest"] < newest) or document.get("pid") != process:
            document = ask(0)  # another one, that counts anew
            newest, process = 0, document.get("pid")
        events = document["events"]
        missing = events[0]["number"] - newest - 1 if events else 0
        if missing > 0:
            yield f"({missing} more that are forgotten)"
        yield from map(event_line, _chosen(events, name))
        newest = document["newest"]


def _chosen(events: list[dict[str, Any]], name: str | None) -> list[dict[str, Any]]:
    return [event for event in events if name in {None, event["tunnel"]}]


def event_line(event: dict[str, Any]) -> str:
    """Return an event as people read it: its time in their own time zone."""
    shown = event_time(event, "%Y-%m-%d %H:%M:%S")
    tunnel = "" if event["tunnel"] is None else f" {event['tunnel']}"
    facts = event_facts(event)
    rest = f" {facts}" if facts else ""
    return visible(f"{shown} {event['level']:<7} {event['event']}{tunnel}{rest}")


def event_time(event: dict[str, Any], spelling: str) -> str:
    """Return an event's time in the reader's own time zone, as strftime spells it."""
    try:
        time = datetime.fromisoformat(event["time"]).astimezone()
    except ValueError:
        return visible(str(event["time"]))
    return time.strftime(spelling)


def event_facts(event: dict[str, Any]) -> str:
    """Return what an event says besides its name and its tunnel: ``key=value``."""
    return visible(" ".join(f"{k}={_fact(text)}" for k, text in event["facts"].items()))


def _fact(text: str) -> str:
    plain = bool(text) and not set(text) & set(' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)
