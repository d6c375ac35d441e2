"""The steps of a comparison: work for a forwarder, and the rows that it fills."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import bursts, clients
from benchmarks.beside.forwarder import Forwarder

MIB = 1 << 20
SETTLING = 1.5
"""Seconds after which something new has got going, or something old has gone."""
LEAD = 8 * MIB
"""Bytes that a client is ahead of the destination at most, as one that sends a file of
that size; on a fast path as much as arrives in :data:`LEAD_TIME`, if that is more."""
LEAD_TIME = 0.5
LOOK = 0.02
"""Seconds between two looks at what has arrived."""
ECHO_INTERVAL = 0.1
LEAST_ECHOES = 5
TURNS, EACH = 10, 5
"""Turns of what is short, and the samples of each turn."""
_ENDLESS = 1 << 40

Samples = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; where ``more`` is better, less is not."""

    key: str
    title: str
    more: bool = False


ROWS = [
    Row("download", "download, MB/s", more=True),
    Row("download cpu", "processor time of a download, ms/MiB"),
    Row("upload", "upload, MB/s", more=True),
    Row("upload cpu", "processor time of an upload, ms/MiB"),
    Row("first byte", "connect to first byte, ms"),
    Row("bulk first byte", "first byte of a download that goes on, ms"),
    Row("keystroke", "echo of a keystroke, ms"),
    Row("keystroke beside", "echo of a keystroke beside an upload, ms"),
    Row("burst", "4 downloads of 1 MiB at once, s"),
    Row("resident", "resident memory, MiB"),
    Row("start", "start until the first answer, s"),
]


class Destination:
    """The destination's own word on what has reached it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._client = clients.connect(port)
        self._lines = self._client.makefile("rb")

    def swallowed(self) -> int:
        """Return the bytes of all uploads so far."""
        self._client.sendall(b"swallowed\n")
        return int(self._lines.readline())

    def until_quiet(self, most: float = 20.0) -> None:
        """Return once nothing arrives any more, or after ``most`` seconds."""
        deadline = time.perf_counter() + most
        before, now = -1, self.swallowed()
        while before != now and time.perf_counter() < deadline:
            time.sleep(0.5)
            before, now = now, self.swallowed()

    def close(self) -> None:
        """Close the connection to it."""
        self._lines.close()
        self._client.close()


class Upload:
    """An upload without an end, whose client is not far ahead of the destination."""

    def __init__(self, port: int, destination: int) -> None:
        self._client = clients.connect(port)
        self._destination = destination
        self._over = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with contextlib.closing(Destination(self._destination)) as destination:
                clients.echo(self._client)
                self._client.sendall(b"put %d\n" % _ENDLESS)
                self._fill(destination)
        except OSError as error:
            self._error = error

    def _fill(self, destination: Destination) -> None:
        piece = bytes(1 << 16)
        first, looked = destination.swallowed(), time.perf_counter()
        sent = arrived = 0
        lead: float = LEAD
        while not self._over.is_set():
            now = time.perf_counter()
            if now - looked > LOOK:
                before, arrived = arrived, destination.swallowed() - first
                lead = max(LEAD, LEAD_TIME * (arrived - before) / (now - looked))
                looked = now
            if sent - arrived < lead:
                sent += self._client.send(piece)
            else:
                self._over.wait(LOOK)

    def check(self) -> None:
        """Return if it goes on.

        Raises:
            OSError: It was cut off.
        """
        if self._error:
            raise self._error

    def close(self) -> None:
        """End it."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._client.close()


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work for a forwarder, and the rows that it fills.

    Attributes:
        work: Does it, for the given seconds if it lasts; returns samples of the rows.
        rows: Keys of rows.
        turns: The number of times that the forwarders alternate in it.
        last: Whether what it leaves behind would disturb others, so that the forwarder
            ends with it.
    """

    work: Callable[[Forwarder, Destination, float], Samples]
    rows: tuple[str, ...]
    turns: int = 1
    last: bool = False


def first_bytes(running: Forwarder, _: Destination, __: float) -> Samples:
    """Connect, send a line, wait for it, a few times."""
    return {"first byte": in_ms(clients.first_bytes(running.port, EACH))}


def keystrokes(running: Forwarder, _: Destination, __: float) -> Samples:
    """Send a line, wait for it, a few times, over one connection."""
    return {"keystroke": in_ms(clients.echoes(running.port, EACH))}


def memory(running: Forwarder, _: Destination, __: float) -> Samples:
    """Look at the memory of one that has served connections, but moved little."""
    return {"resident": [running.resident / MIB]}


def download(running: Forwarder, _: Destination, seconds: float) -> Samples:
    """Receive for a while."""
    with clients.connect(running.port) as client:
        clients.echo(client)
        begun = time.perf_counter()
        client.sendall(b"get %d\n" % _ENDLESS)
        room = bytearray(clients.BUFFER)
        _receive(client.recv_into, room)
        first = time.perf_counter() - begun
        while time.perf_counter() < begun + first + SETTLING:
            _receive(client.recv_into, room)
        moved, cpu, begun = 0, running.cpu, time.perf_counter()
        while (spent := time.perf_counter() - begun) < seconds:
            moved += _receive(client.recv_into, room)
        cpu = running.cpu - cpu
    time.sleep(SETTLING)
    return {
        "bulk first byte": [first * 1e3],
        "download": [moved / spent / 1e6],
        "download cpu": [cpu * 1e3 / (moved / MIB)],
    }


def _receive(receive: Callable[[bytearray], int], room: bytearray) -> int:
    if count := receive(room):
        return count
    raise ConnectionError("the connection ended in the middle")


def burst(running: Forwarder, _: Destination, __: float) -> Samples:
    """Let downloads begin at once."""
    return {"burst": [bursts.download(running.port, bursts.DOWNLOADS)]}


def upload(running: Forwarder, destination: Destination, seconds: float) -> Samples:
    """Send for a while; what arrives counts."""
    with contextlib.closing(Upload(running.port, destination.port)) as sending:
        time.sleep(SETTLING)
        cpu, begun, moved = running.cpu, time.perf_counter(), destination.swallowed()
        time.sleep(seconds)
        moved = destination.swallowed() - moved
        spent, cpu = time.perf_counter() - begun, running.cpu - cpu
        sending.check()
    if not moved:
        raise ConnectionError(f"nothing arrived in {spent:.0f} s")
    return {
        "upload": [moved / spent / 1e6],
        "upload cpu": [cpu * 1e3 / (moved / MIB)],
    }


def keystrokes_beside(
    running: Forwarder, destination: Destination, seconds: float
) -> Samples:
    """Type on a connection while another one uploads."""
    found: list[float] = []
    with (
        contextlib.closing(Upload(running.port, destination.port)) as sending,
        clients.connect(running.port) as client,
    ):
        time.sleep(SETTLING)
        clients.echo(client)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(found) < LEAST_ECHOES:
            found.append(clients.echo(client))
            time.sleep(ECHO_INTERVAL)
        sending.check()
    return {"keystroke beside": in_ms(found)}


STEPS = [
    Step(first_bytes, ("first byte",), turns=TURNS),
    Step(keystrokes, ("keystroke",), turns=TURNS),
    Step(memory, ("resident",)),
    Step(download, ("bulk first byte", "download", "download cpu")),
    Step(burst, ("burst",)),
    Step(upload, ("upload", "upload cpu"), last=True),
    Step(keystrokes_beside, ("keystroke beside",), last=True),
]


def in_ms(seconds: list[float]) -> list[float]:
    """Return milliseconds."""
    return [each * 1e3 for each in seconds]
