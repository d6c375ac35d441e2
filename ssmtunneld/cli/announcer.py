"""Lines about tunnels as they come and go, and a live line with what they carry."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ssmtunneld.cli.exit_codes import EXIT_FAILED, EXIT_REFUSED, CommandError
from ssmtunneld.cli.refusals import describe_refusals
from ssmtunneld.cli.terminal.text import counted, printable, size
from ssmtunneld.cli.terminal.tunnel_line import describe

_ERASE: Final = "\r\x1b[K"
_HOPELESS: Final = ("failed", "unbound")
"""States that nobody will mend while a command runs that has no file."""
_REASONS: Final = 4
"""Latest reasons of a tunnel that are not told again: two of them can alternate."""
_REFUSAL_PAUSE: Final = 30.0
"""Seconds until the same reason of a refusal is told again: programs try again soon."""

_Tunnel = dict[str, Any]


class Output(Protocol):
    """Takes what is said."""

    def write(self, text: str, /) -> object:
        """Take ``text``."""
        ...

    def flush(self) -> None:
        """Let it be seen now."""
        ...


@dataclass(slots=True)
class _Refusals:
    """The refused connections of a tunnel, as far as they were told."""

    count: int = 0
    words: str = ""
    told_at: float = 0.0


class Announcer:
    """Says of each tunnel that it listens, and whenever it is ready again.

    Also, why connections did not reach their destination: their clients only see them
    closed.

    Args:
        stream: Where to say it.
        live: Whether to keep a line with the throughput below; for a terminal.
        quiet: Whether to say only what is wrong, and when it is right again.
        notes: By tunnel, why it does not listen where it could be expected.
    """

    def __init__(
        self,
        stream: Output,
        *,
        live: bool,
        quiet: bool = False,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self._stream = stream
        self._live = live
        self._quiet = quiet
        self._notes = notes or {}
        self._listening: set[str] = set()
        self._said: dict[str, deque[str]] = {}
        self._troubled: set[str] = set()
        self._refusals: dict[str, _Refusals] = {}
        self._was_ready = False
        self._before: tuple[float, int, int] | None = None
        self._line = ""

    def observe(self, document: dict[str, Any], now: float) -> bool:
        """Say what is new in a status document; tell whether all tunnels are ready.

        Args:
            document: The status.
            now: Seconds on any clock.

        Raises:
            CommandError: A tunnel can never be ready; or, before all of them have been,
                only somebody's action can help it. Later on, open connections can
                outlast a login.
        """
        tunnels: Sequence[_Tunnel] = document["tunnels"]
        for tunnel in tunnels:
            self._tell_of(tunnel)
        self.tell_refusals(document, now)
        if hopeless := [tunnel for tunnel in tunnels if self._is_hopeless(tunnel)]:
            raise _given_up(hopeless[0])
        if self._live:
            self._draw(_throughput(tunnels, self._advance(tunnels, now)))
        are_ready = all(is_ready(tunnel) for tunnel in tunnels)
        self._was_ready = self._was_ready or are_ready
        return are_ready

    def tell_refusals(self, document: dict[str, Any], now: float) -> None:
        """Say why connections were refused since the last time.

        Args:
            document: The status.
            now: Seconds on any clock.
        """
        for tunnel in document["tunnels"]:
            told = self._refusals.setdefault(tunnel["name"], _Refusals())
            new = tunnel["refused"] - told.count
            if not new:
                continue
            words = describe_refusals(tunnel, 1)
            if words == told.words and now < told.told_at + _REFUSAL_PAUSE:
                continue  # with their number, when it is time
            told.count, told.words, told.told_at = tunnel["refused"], words, now
            self._say(describe_refusals(tunnel, new))

    def close(self) -> None:
        """Remove the live line."""
        self._draw("")

    def _is_hopeless(self, tunnel: _Tunnel) -> bool:
        if not tunnel["lasting"]:
            return False
        return not self._was_ready or tunnel["state"] in _HOPELESS

    def _tell_of(self, tunnel: _Tunnel) -> None:
        name = tunnel["name"]
        if tunnel["listen"] and name not in self._listening:
            self._listening.add(name)
            addresses = ", ".join(tunnel["listen"])
            way = f"{tunnel['target']} -> {tunnel['destination']}"
            self._welcome(f"{name}: listening on {addresses} -> {way}")
            if note := self._notes.get(name):
                self._welcome(f"{name}: any port, because {note}; --listen chooses")
        said = self._said.setdefault(name, deque(maxlen=_REASONS))
        words = ready = f"{name}: ready"
        if not is_ready(tunnel):
            # Before it was ready, what has no reason is only its start.
            if self._is_hopeless(tunnel) or not (tunnel["reason"] or ready in said):
                return
            words = describe(tunnel)
        if (words == ready) is not (ready in said):
            said.clear()  # what comes back is news again
        if words not in said and tunnel["listen"]:
            said.append(words)
            if words == ready and name not in self._troubled:
                self._welcome(words)
            else:
                self._troubled.add(name)
                self._say(words)

    def _advance(
        self, tunnels: Sequence[_Tunnel], now: float
    ) -> tuple[float, float] | None:
        """Return bytes per second, up and down; None at the first look."""
        sent = sum(tunnel["sent"] for tunnel in tunnels)
        received = sum(tunnel["received"] for tunnel in tunnels)
        before, self._before = self._before, (now, sent, received)
        if before is None:
            return None
        elapsed = max(now - before[0], 0.001)
        return (sent - before[1]) / elapsed, (received - before[2]) / elapsed

    def _welcome(self, words: str) -> None:
        """Say what goes as it should."""
        if not self._quiet:
            self._say(words)

    def _say(self, words: str) -> None:
        # The line is known all the while: Ctrl-C may come in between.
        erase = _ERASE if self._line else ""
        self._stream.write(f"{erase}{words}\n{self._line}")
        self._stream.flush()

    def _draw(self, line: str) -> None:
        if line != self._line:
            self._line = line
            self._stream.write(f"{_ERASE}{line}")
            self._stream.flush()


def _given_up(tunnel: _Tunnel) -> CommandError:
    """Return why a tunnel is not waited for, in other words than a state's.

    A daemon goes on in most of these states, and says there that it retries or waits.
    """
    is_ours = tunnel["state"] == "unbound"
    reason = printable(tunnel["reason"]) or f"it is {tunnel['state']}"
    return CommandError(
        f"{tunnel['name']}: giving up: {reason}",
        printable(tunnel["advice"]),
        code=EXIT_FAILED if is_ours else EXIT_REFUSED,
    )


def is_ready(tunnel: _Tunnel) -> bool:
    """Return True if a tunnel serves connections, or waits for the first one."""
    return bool(tunnel["usable"]) or tunnel["state"] == "idle"


def _throughput(tunnels: Sequence[_Tunnel], rates: tuple[float, float] | None) -> str:
    count = counted(sum(m["connections"] for m in tunnels), "connection")
    if rates is None:
        return ""
    up, down = rates
    return f"up {size(up)}/s  down {size(down)}/s  {count}  (Ctrl-C ends)"
