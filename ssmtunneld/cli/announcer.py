"""Lines about tunnels as they come up, and a live line with what moves through them."""

from collections.abc import Sequence
from typing import Any, Final, TextIO

from ssmtunneld.cli.exit_codes import EXIT_FAILED, EXIT_REFUSED, CommandError
from ssmtunneld.cli.terminal.text import counted, size
from ssmtunneld.cli.terminal.tunnel_line import describe

_ERASE: Final = "\r\x1b[K"
_HOPELESS: Final = {"failed": EXIT_REFUSED, "unbound": EXIT_FAILED}
"""States that nobody will mend while a command runs that has no file."""

_Tunnel = dict[str, Any]


class Announcer:
    """Says once of each tunnel that it listens, and that it is ready.

    Args:
        stream: Where to say it.
        live: Whether to keep a line with the throughput below; for a terminal.
    """

    def __init__(self, stream: TextIO, *, live: bool) -> None:
        self._stream = stream
        self._live = live
        self._listening: set[str] = set()
        self._said: dict[str, str] = {}
        self._before: tuple[float, int, int] | None = None
        self._line = ""

    def observe(self, document: dict[str, Any], now: float) -> bool:
        """Say what is new in a status document; tell whether all tunnels are ready.

        Args:
            document: The status.
            now: Seconds on any clock.

        Raises:
            CommandError: A tunnel can never be ready.
        """
        tunnels: Sequence[_Tunnel] = document["tunnels"]
        for tunnel in tunnels:
            self._tell_of(tunnel)
        # Before it has tried to listen, a tunnel is unbound without a reason.
        hopeless = [m for m in tunnels if m["state"] in _HOPELESS and m["reason"]]
        if hopeless:
            raise CommandError(
                describe(hopeless[0]), code=_HOPELESS[hopeless[0]["state"]]
            )
        if self._live:
            self._draw(_throughput(tunnels, self._advance(tunnels, now)))
        return all(_is_ready(tunnel) for tunnel in tunnels)

    def close(self) -> None:
        """Remove the live line."""
        self._draw("")

    def _tell_of(self, tunnel: _Tunnel) -> None:
        name = tunnel["name"]
        if tunnel["listen"] and name not in self._listening:
            self._listening.add(name)
            addresses = ", ".join(tunnel["listen"])
            way = f"{tunnel['target']} -> {tunnel['destination']}"
            self._say(f"{name}: listening on {addresses} -> {way}")
        if _is_ready(tunnel):
            words = f"{name}: ready"
        elif tunnel["reason"]:
            words = describe(tunnel)
        else:
            return
        if self._said.get(name) != words and tunnel["listen"]:
            self._said[name] = words
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

    def _say(self, words: str) -> None:
        line, self._line = self._line, ""
        self._stream.write(f"{_ERASE if line else ''}{words}\n{line}")
        self._line = line
        self._stream.flush()

    def _draw(self, line: str) -> None:
        if line != self._line:
            self._line = line
            self._stream.write(f"{_ERASE}{line}")
            self._stream.flush()


def _is_ready(tunnel: _Tunnel) -> bool:
    return bool(tunnel["usable"]) or tunnel["state"] == "idle"


def _throughput(tunnels: Sequence[_Tunnel], rates: tuple[float, float] | None) -> str:
    count = counted(sum(m["connections"] for m in tunnels), "connection")
    if rates is None:
        return ""
    up, down = rates
    return f"up {size(up)}/s  down {size(down)}/s  {count}  (Ctrl-C ends)"
