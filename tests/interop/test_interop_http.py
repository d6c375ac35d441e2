"""HTTP through one tunnel: many at once, half-closed, and one that stops reading."""

import socket
from contextlib import closing
from hashlib import sha256 as new_sha256
from time import perf_counter

import psutil
import pytest

from tests.interop.conftest import tunnel_table
from tests.interop.content import MEBIBYTE, sha256, sha256_of
from tests.interop.http_server import content
from tests.interop.programs import run
from tests.support.ports import free_port

# A download that outgrows every buffer on the way many times.
LARGE = 200 * 1000 * 1000
ALLOWED_GROWTH = 64 * MEBIBYTE
# Seconds for which a client does not read.
PAUSE = 60
# Seconds within which something must come once it reads again. A kernel that dropped
# what nobody read would repeat it when the pause has lasted twice as long.
GOES_ON = 20

CURL = ("--silent", "--show-error", "--fail", "--noproxy", "*")


@pytest.fixture(scope="module")
def unix_socket(tmp_path_factory):
    return tmp_path_factory.mktemp("unix") / "web.sock"


@pytest.fixture(scope="module")
def port(free_web_port, web_daemon):
    return free_web_port


@pytest.fixture(scope="module")
def free_web_port():
    return free_port()


@pytest.fixture(scope="module")
def web_daemon(daemon, free_web_port, unix_socket, http_server):
    listen = [f"127.0.0.1:{free_web_port}", f"unix:{unix_socket}"]
    return daemon(tunnel_table("web", free_web_port, http_server.port, listen=listen))


def _body(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    return body


def test_two_hundred_parallel_downloads_arrive_unchanged(
    port, http_server, curl, tmp_path
):
    size, count = 200_000, 200
    lines = []
    for seed in range(count):
        lines.append(f'url = "http://127.0.0.1:{port}/{size}/{seed}"')
        lines.append(f'output = "{tmp_path / str(seed)}"')
    urls = tmp_path / "curlrc"
    urls.write_text("\n".join(lines))
    parallel = ("--parallel", "--parallel-immediate", "--parallel-max", count)
    # None is answered before all of them have arrived: so many are open at once.
    with http_server.answering_together(count):
        run(curl, *CURL, *parallel, "--config", urls)
    wrong = [
        seed
        for seed in range(count)
        if sha256_of(tmp_path / str(seed)) != sha256(content(size, seed))
    ]
    assert wrong == []


def test_a_unix_socket_leads_to_the_same_place(unix_socket, web_daemon, curl):
    url = "http://web/100000/8"
    body = run(curl, *CURL, "--unix-socket", unix_socket, url, text=False)
    assert sha256(body) == sha256(content(100_000, 8))


def test_netcat_gets_the_whole_answer_after_it_half_closed(port, nc):
    size = 5 * MEBIBYTE
    request = f"GET /{size}/6 HTTP/1.0\r\n\r\n".encode()
    answer = run(nc, "-N", "127.0.0.1", port, data=request, text=False)
    assert sha256(_body(answer)) == sha256(content(size, 6))


def test_an_http_1_0_client_gets_the_whole_answer(port, curl):
    size = 5 * MEBIBYTE
    url = f"http://127.0.0.1:{port}/{size}/7"
    body = run(curl, *CURL, "--http1.0", url, text=False)
    assert sha256(body) == sha256(content(size, 7))


def test_a_client_that_half_closes_gets_an_answer_that_comes_later(port, http_server):
    size = 5 * MEBIBYTE
    with http_server.answering_together(2) as both, closing(socket.socket()) as client:
        _request(client, port, f"/{size}/9")
        client.shutdown(socket.SHUT_WR)
        both.wait()
        answer = _read_all(client)
    assert sha256(_body(answer)) == sha256(content(size, 9))


def _request(client, port, path):
    client.settimeout(60)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())


def _download(port, size, seed):
    """Fetch a file over a new connection and compare it."""
    with closing(socket.socket()) as client:
        _request(client, port, f"/{size}/{seed}")
        answer = _read_all(client)
    assert sha256(_body(answer)) == sha256(content(size, seed))


def _read_all(client):
    answer = bytearray()
    while data := client.recv(MEBIBYTE):
        answer += data
    return answer


def _wait_for_a_stall(port, http_server, path):
    """Return what was sent of ``path`` once that no longer grows.

    Other downloads come and go meanwhile: three in a row must see no progress.
    """
    still, sent = 0, -1
    while still < 3:
        _download(port, MEBIBYTE, seed=10)
        still = still + 1 if http_server.sent[path] == sent else 0
        sent = http_server.sent[path]
    return sent


def test_a_client_that_stops_reading_costs_little_and_loses_nothing(
    port, web_daemon, http_server
):
    """As a pager or a paused player does, in the middle of a large download.

    It lasts a whole minute, because that is when an agent that is not read from gives
    up its websocket (protocol 6.7). The others of the same tunnel are busy throughout.
    """
    path = f"/{LARGE}/11"
    wanted = sha256(content(LARGE, 11))
    process = psutil.Process(web_daemon.pid)
    _download(port, MEBIBYTE, seed=10)  # what starting up costs is not the question
    limit = process.memory_info().rss + ALLOWED_GROWTH
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        _request(client, port, path)
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1024)
        stopped = perf_counter()
        sent = _wait_for_a_stall(port, http_server, path)
        assert sent < LARGE, "nobody was told that the client does not read"
        while perf_counter() < stopped + PAUSE:
            _download(port, MEBIBYTE, seed=10)
            assert process.memory_info().rss < limit
        digest = new_sha256(_body(head))
        client.settimeout(GOES_ON)
        try:
            while data := client.recv(MEBIBYTE):
                digest.update(data)
        except TimeoutError:
            pytest.fail(f"nothing came for {GOES_ON} s:\n{web_daemon.log()}")
    assert digest.hexdigest() == wanted
    assert process.memory_info().rss < limit
