"""A daemon as ``top`` sees it: what it tells once a second, and what it is asked to do.

Everything here blocks, so it runs in threads of its own: nobody waits at the terminal.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ssmtunneld.base.threads import start
from ssmtunneld.cli.daemon_client import Daemon, find
from ssmtunneld.cli.daemon_requests import ask_connections, ask_log, kill_connection
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.terminal.text import counted

INTERVAL: Final = 1.0
"""Seconds between two looks at a daemon."""
SHARE: Final = 4
"""Times as long as a look has taken that passes before the next one, at least."""
EVENTS: Final = 1000
"""Events that are kept; a daemon itself remembers 200."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a daemon has told at one moment."""

    status: Document
    """The status document."""
    connections: Document
    """The document of connections."""
    events: tuple[Document, ...]
    """Its log as far as it is known, oldest first; each has the process's ``pid``."""
    at: float
    """The moment, in seconds on any clock."""


def _clock() -> float:
    return time.monotonic_ns() / 1e9


class DaemonSource:
    """The daemon that runs, and the one after it.

    Args:
        config: Selects the daemon, as for every command.
        clock: Tells the time in seconds.
    """

    def __init__(
        self, config: Path | None, clock: Callable[[], float] = _clock
    ) -> None:
        self.config = config
        self.clock = clock
        self._events: deque[Document] = deque(maxlen=EVENTS)
        self._newest = 0
        self._pid: int | None = None

    def look(self) -> Snapshot:
        """Return what the daemon tells now; for one thread at a time.

        Raises:
            CommandError: There is no daemon, or it does not answer, or it is too old.
        """
        daemon = find(self.config)
        connections = ask_connections(daemon, None)
        self._read_log(daemon)
        return Snapshot(daemon.document, connections, tuple(self._events), self.clock())

    def _read_log(self, daemon: Daemon) -> None:
        document = ask_log(daemon, self._newest)
        if document.get("pid") != self._pid or document["newest"] < self._newest:
            if self._newest:
                document = ask_log(daemon, 0)  # another one, that counts anew
            self._newest, self._pid = 0, document.get("pid")
        events = document["events"]
        missing = events[0]["number"] - self._newest - 1 if events else 0
        # What came before the first look is not missed.
        if self._newest and missing > 0:
            self._events.append(_gap(events[0], missing, self._pid))
        self._events += [{**event, "pid": self._pid} for event in events]
        self._newest = document["newest"]

    def pause(self, tunnel: str) -> str:
        """Let a tunnel take no connections; return what has happened.

        Raises:
            CommandError: The daemon refuses, or does not answer.
        """
        self._tell(tunnel, "pause")
        return f"{tunnel}: paused"

    def resume(self, tunnel: str) -> str:
        """Let a tunnel take connections again; else as `pause`."""
        self._tell(tunnel, "resume")
        return f"{tunnel}: resumed"

    def drain(self, tunnel: str) -> str:
        """Wait until a tunnel's connections have ended or were cut; else as `pause`."""
        # The daemon keeps the time: no limit of ours could be right.
        cut = self._tell(tunnel, "drain", waits=True).get("cut", 0)
        reset = f"; {counted(cut, 'connection')} had to be reset" if cut else ""
        return f"{tunnel}: drained{reset}"

    def kill(self, connection: str) -> str:
        """Reset a connection; else as `pause`."""
        tunnel = kill_connection(find(self.config), connection)
        return f"{connection}: ended a connection of {tunnel}"

    def _tell(self, tunnel: str, what: str, *, waits: bool = False) -> Document:
        daemon = find(self.config)
        path = f"/tunnels/{quote(tunnel, safe='')}/{what}"
        return (
            daemon.ask("POST", path, timeout=None)
            if waits
            else daemon.ask("POST", path)
        )


def _gap(after: Document, missing: int, pid: int | None) -> Document:
    """Return what stands for lines that the daemon forgot before they were read."""
    return {
        "number": after["number"] - 1,
        "time": after["time"],
        "level": "",
        "event": f"({missing} more that are forgotten)",
        "tunnel": None,
        "facts": {},
        "pid": pid,
    }


class Feed:
    """Looks at a daemon again and again, in a thread of its own.

    A daemon that takes long to answer is asked less often.

    Args:
        source: What to look at.
        tell: Called in that thread with each snapshot, or with why there is none.
        interval: Seconds between two looks.
    """

    def __init__(
        self,
        source: DaemonSource,
        tell: Callable[[Snapshot | CommandError], None],
        interval: float = INTERVAL,
    ) -> None:
        self._source = source
        self._tell = tell
        self._interval = interval
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        # Nobody waits for a daemon that does not answer in order to end.
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        """Begin, with a pause: whoever starts this has just looked.

        Raises:
            NoThread: The system allows no further thread.
        """
        start(self._thread)

    def hurry(self) -> None:
        """Look now: something has just been changed."""
        self._wanted.set()

    def stop(self) -> None:
        """Look no more, and tell nothing more."""
        self._stopped.set()
        self._wanted.set()

    def _run(self) -> None:
        took = 0.0
        while True:
            self._wanted.wait(max(self._interval, SHARE * took))
            self._wanted.clear()
            if self._stopped.is_set():
                return
            begun = self._source.clock()
            told: Snapshot | CommandError
            try:
                told = self._source.look()
            except CommandError as error:
                told = error
            took = self._source.clock() - begun
            if self._stopped.is_set():
                return
            self._tell(told)
