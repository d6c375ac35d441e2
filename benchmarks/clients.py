"""Clients of a local port, in the measuring process."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

BUFFER = 1 << 18
GROWTH = 2.5
"""Seconds in which a pool notices a bulk transfer and adds a session."""
_ENDLESS = 1 << 40


def connect(port: int) -> socket.socket:
    """Connect to ``port``; small writes leave at once."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def echo(client: socket.socket, line: bytes = b"echo\n") -> float:
    """Return the seconds that one line takes to come back."""
    begun = time.perf_counter()
    client.sendall(line)
    _read(client, len(line))
    return time.perf_counter() - begun


def download(client: socket.socket, count: int) -> None:
    """Fetch ``count`` bytes."""
    client.sendall(b"get %d\n" % count)
    _read(client, count)


def upload(client: socket.socket, count: int) -> None:
    """Send ``count`` bytes and wait until they are swallowed."""
    client.sendall(b"put %d\n" % count)
    piece = b"y" * BUFFER
    while count > 0:
        client.sendall(piece[:count])
        count -= len(piece)
    _read(client, len(b"done\n"))


def _read(client: socket.socket, count: int) -> None:
    room = bytearray(min(count, BUFFER))
    while count > 0:
        arrived = client.recv_into(room, min(count, BUFFER))
        if not arrived:
            raise ConnectionError(f"{count} bytes are missing")
        count -= arrived


def transfer(
    port: int,
    move: Callable[[socket.socket, int], None],
    connections: int,
    total: int,
    cost: Callable[[], float] = lambda: 0.0,
) -> tuple[float, float]:
    """Let ``connections`` together move ``total`` bytes.

    Returns:
        The seconds that it takes, and by how much ``cost`` grows in them. Opening the
        connections and closing them is in neither.
    """
    clients = [connect(port) for _ in range(connections)]
    try:
        for client in clients:
            echo(client)
        begun, before = time.perf_counter(), cost()
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(lambda c: move(c, total // connections), clients))
        return time.perf_counter() - begun, cost() - before
    finally:
        for client in clients:
            client.close()


def echoes(port: int, count: int) -> list[float]:
    """Return the seconds of ``count`` echoes on one connection, sorted."""
    with connect(port) as client:
        echo(client)
        return sorted(echo(client) for _ in range(count))


def echoes_beside_bulk(port: int, count: int, *, up: bool = False) -> list[float]:
    """Return the seconds of ``count`` echoes beside a bulk transfer, sorted.

    The transfer has no end, and is a download unless ``up``. It is under way when the
    other connection comes, as in life; the pool has had time to add a session by then.
    """
    move = _fill if up else _drain
    stop = threading.Event()
    with connect(port) as bulk:
        mover = threading.Thread(target=move, args=(bulk, stop))
        mover.start()
        try:
            time.sleep(GROWTH)
            with connect(port) as client:
                echo(client)
                return sorted(echo(client) for _ in range(count))
        finally:
            stop.set()
            mover.join()


def _drain(client: socket.socket, stop: threading.Event) -> None:
    client.sendall(b"get %d\n" % _ENDLESS)
    room = bytearray(BUFFER)  # a new one each time would hold up the echoes
    while not stop.is_set() and client.recv_into(room):
        pass


def _fill(client: socket.socket, stop: threading.Event) -> None:
    client.sendall(b"put %d\n" % _ENDLESS)
    piece = bytes(BUFFER)
    while not stop.is_set():
        client.sendall(piece)


def first_bytes(port: int, count: int) -> list[float]:
    """Return the seconds from connect() to the first byte, ``count`` times, sorted."""
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        with connect(port) as client:
            echo(client)
            found.append(time.perf_counter() - begun)
    return sorted(found)


def percentile(ordered: list[float], part: float) -> float:
    """Return the value below which ``part`` of the sorted values lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
