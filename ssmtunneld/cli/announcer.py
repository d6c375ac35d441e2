"""Lines about tunnels as they come up, and a live line with what moves through them."""

from collections.abc import Sequence
from typing import Any, Final, TextIO

from ssmtunneld.cli.exits import EXIT_FAILED, EXIT_REFUSED, CommandError
from ssmtunneld.cli.readiness import describe
from ssmtunneld.cli.wording import counted, size

_ERASE: Final = "\r\x1b[K"
_HOPELESS: Final = {"failed": EXIT_REFUSED, "unbound": EXIT_FAILED}
"""States that nobody will mend while a command runs that has no file."""

_Mapping = dict[str, Any]


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
        mappings: Sequence[_Mapping] = document["mappings"]
        for mapping in mappings:
            self._tell_of(mapping)
        # Before it has tried to listen, a tunnel is unbound without a reason.
        hopeless = [m for m in mappings if m["state"] in _HOPELESS and m["reason"]]
        if hopeless:
            raise CommandError(
                describe(hopeless[0]), code=_HOPELESS[hopeless[0]["state"]]
            )
        if self._live:
            self._draw(_throughput(mappings, self._advance(mappings, now)))
        return all(_is_ready(mapping) for mapping in mappings)

    def close(self) -> None:
        """Remove the live line."""
        self._draw("")

    def _tell_of(self, mapping: _Mapping) -> None:
        name = mapping["name"]
        if mapping["listen"] and name not in self._listening:
            self._listening.add(name)
            addresses = ", ".join(mapping["listen"])
            way = f"{mapping['target']} -> {mapping['destination']}"
            self._say(f"{name}: listening on {addresses} -> {way}")
        if _is_ready(mapping):
            words = f"{name}: ready"
        elif mapping["reason"]:
            words = describe(mapping)
        else:
            return
        if self._said.get(name) != words and mapping["listen"]:
            self._said[name] = words
            self._say(words)

    def _advance(
        self, mappings: Sequence[_Mapping], now: float
    ) -> tuple[float, float] | None:
        """Return bytes per second, up and down; None at the first look."""
        sent = sum(mapping["sent"] for mapping in mappings)
        received = sum(mapping["received"] for mapping in mappings)
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


def _is_ready(mapping: _Mapping) -> bool:
    return bool(mapping["usable"]) or mapping["state"] == "idle"


def _throughput(mappings: Sequence[_Mapping], rates: tuple[float, float] | None) -> str:
    count = counted(sum(m["connections"] for m in mappings), "connection")
    if rates is None:
        return ""
    up, down = rates
    return f"up {size(up)}/s  down {size(down)}/s  {count}  (Ctrl-C ends)"
