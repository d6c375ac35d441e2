"""The way through a running daemon: its control socket, and what comes from there."""

import asyncio
import json
import socket
import threading

import pytest

from ssmtunneld.listener.relay import ConnectionOutcome
from ssmtunneld.ssh import daemon_route
from ssmtunneld.ssh.daemon_route import carry, connect
from ssmtunneld.ssh.stdio import Stdio

PLACE = {"target": "i-0123456789abcdef0", "port": 22}
PATIENCE = 30


class Daemon:
    """Answers one request at ``path``, maybe with a socket."""

    def __init__(self, path, status=b"200 OK", *, passes=1):
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._status, self._passes = status, passes
        self.asked = b""
        self.ends = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(PATIENCE)
        self._listening.close()
        for end in self.ends:
            end.close()

    def _serve(self):
        sock, _ = self._listening.accept()
        with sock:
            sock.settimeout(PATIENCE)
            while not self.asked.endswith(b"}"):
                self.asked += sock.recv(4096)
            pairs = [socket.socketpair() for _ in range(self._passes)]
            self.ends = [pair[0] for pair in pairs]
            answer = b"HTTP/1.1 " + self._status + b"\r\n\r\n{}"
            socket.send_fds(sock, [answer], [pair[1].fileno() for pair in pairs])
            for pair in pairs:
                pair[1].close()


def test_a_daemon_with_a_tunnel_there_gives_a_connection(tmp_path):
    with Daemon(tmp_path / "d") as daemon:
        sock = connect([tmp_path / "d"], PLACE)
        assert sock is not None
        with sock:
            daemon.ends[0].sendall(b"greeting")
            assert sock.recv(100) == b"greeting"
    head, _, body = daemon.asked.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /connect HTTP/1.1\r\n")
    assert json.loads(body) == PLACE


def test_daemons_are_asked_until_one_has_it(tmp_path):
    left_behind = tmp_path / "left"
    left_behind.touch()
    with (
        Daemon(tmp_path / "a", b"404 Not Found", passes=0),
        Daemon(tmp_path / "b") as second,
    ):
        places = [tmp_path / "none", left_behind, tmp_path / "a", tmp_path / "b"]
        sock = connect(places, PLACE)
        assert sock is not None
        sock.close()
    assert second.asked


@pytest.mark.parametrize(
    ("status", "passes"), [(b"404 Not Found", 0), (b"200 OK", 0), (b"409 No", 1)]
)
def test_without_an_answer_or_a_socket_there_is_none(tmp_path, status, passes):
    with Daemon(tmp_path / "d", status, passes=passes) as daemon:
        assert connect([tmp_path / "d"], PLACE) is None
        daemon._thread.join(PATIENCE)
        for end in daemon.ends:
            end.settimeout(PATIENCE)
            assert end.recv(1) == b"", "what came is not closed"


def test_a_daemon_that_does_not_answer_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(daemon_route, "ANSWER_TIMEOUT", 0.01)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "d"))
        listening.listen()
        assert connect([tmp_path / "d"], PLACE) is None


async def test_bytes_go_both_ways_through_a_connection():
    sock, far = socket.socketpair()
    ours, theirs = socket.socketpair()
    with ours, theirs, far:
        theirs.sendall(b"request")
        far.settimeout(PATIENCE)
        stdio = Stdio(ours.fileno(), ours.fileno())
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            joining = tasks.create_task(carry(sock, stdio))
            assert await asyncio.to_thread(far.recv, 100) == b"request"
            far.sendall(b"answer")
            far.close()
        transfer = joining.result()
    assert transfer.ending is ConnectionOutcome.COMPLETED
    assert (transfer.sent, transfer.received) == (7, 6)
