"""HTTP as the control socket speaks it: what is read, what is refused, and limits."""

import asyncio
import json
import socket
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from ssmtunneld.serve import control_http
from ssmtunneld.serve.control_http import (
    LARGEST_BODY,
    LARGEST_HEAD,
    LIMIT,
    Answer,
    BadRequest,
    ControlServer,
    Request,
)
from tests.support.turns import turns, until


class Scene:
    """A server that remembers what it was asked, and answers with one document."""

    def __init__(self, path):
        self.path = path
        self.asked = []
        self.document = {"said": "something"}
        self.held = {"GET", "POST"}
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.end = asyncio.Event()

    async def answer(self, request):
        self.asked.append(request)
        if isinstance(request, BadRequest) or request.method in self.held:
            await self.let_go.wait()
        if isinstance(request, BadRequest):
            return Answer(request.status, {"error": str(request)})
        return Answer(200, self.document)

    @asynccontextmanager
    async def serving(self, patience=10.0):
        with socket.socket(socket.AF_UNIX) as listening:
            listening.setblocking(False)
            listening.bind(str(self.path))
            listening.listen(200)
            server = ControlServer(listening, self.answer, {"X-Test": "yes"})
            async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
                tasks.create_task(server.run(patience, self.end))
                yield
                self.end.set()

    async def say(self, *pieces):
        """Send ``pieces`` one after the other; return the whole answer."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
async def scene(tmp_path):
    scene = Scene(tmp_path / "s")
    async with scene.serving():
        yield scene


async def test_a_request_is_read_and_answered_with_json(scene):
    answer = await scene.say(b"GET /status?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head
    assert b"X-Test: yes" in head
    assert json.loads(body) == scene.document
    (request,) = scene.asked
    assert (request.method, request.path, request.body) == ("GET", "/status", b"")


async def test_a_body_may_come_in_pieces_and_ends_at_its_length(scene):
    await scene.say(
        b"PUT /x HT", b"TP/1.1\r\ncontent-length:  7\r", b"\n\r\nabc", b"defghij"
    )
    (request,) = scene.asked
    assert isinstance(request, Request)
    assert request.body == b"abcdefg"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\xff\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", 411),
        (b"PUT / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 411),
        (b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411),
        (b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (LARGEST_BODY + 1), 413),
        (b"PUT / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"GET /" + b"x" * 2 * LARGEST_HEAD, 431),
    ],
)
async def test_what_is_no_request_for_us_is_refused(scene, said, status):
    answer = await scene.say(said)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert scene.asked[0].status == status


async def test_a_refusal_is_read_although_much_was_left_unread(scene):
    said = b"PUT / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000)
    assert (await scene.say(said)).startswith(b"HTTP/1.1 413 ")


async def test_whoever_leaves_early_is_nobodys_trouble(scene):
    for said in (b"", b"GET / HT", b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"):
        _, writer = await asyncio.open_unix_connection(scene.path)
        writer.write(said)
        await writer.drain()
        writer.close()
    assert b" 200 " in await scene.say(b"GET / HTTP/1.1\r\n\r\n")
    assert len(scene.asked) == 1


async def test_whoever_says_nothing_is_sent_away(tmp_path, monkeypatch):
    monkeypatch.setattr(control_http, "REQUEST_TIMEOUT", 0.01)
    scene = Scene(tmp_path / "s")
    async with scene.serving():
        reader, writer = await asyncio.open_unix_connection(scene.path)
        writer.write(b"GET / ")
        assert await reader.read() == b""
        writer.close()
    assert scene.asked == []


async def test_only_so_many_are_served_at_once_and_others_wait(scene):
    scene.let_go.clear()
    request = b"GET / HTTP/1.1\r\n\r\n"
    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(scene.say(request)) for _ in range(LIMIT + 3)]
        await until(lambda: len(scene.asked) >= LIMIT)
        assert len(scene.asked) == LIMIT
        scene.let_go.set()
    assert all(b" 200 " in answer.result() for answer in answers)
    assert len(scene.asked) == LIMIT + 3


async def test_those_that_say_nothing_make_room_for_those_that_do(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(control_http, "GRACE", 0.01)
    scene = Scene(tmp_path / "s")
    async with scene.serving(), AsyncExitStack() as silent:
        for said in [
            b"",
            b"GET / HTTP",
            b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\na",
        ]:
            for _ in range(LIMIT):
                _, writer = await asyncio.open_unix_connection(scene.path)
                silent.callback(writer.close)
                writer.write(said)
        assert b" 200 " in await scene.say(b"GET / HTTP/1.1\r\n\r\n")


async def test_those_that_do_not_read_make_room_too(tmp_path, monkeypatch):
    monkeypatch.setattr(control_http, "GRACE", 0.01)
    monkeypatch.setattr(control_http, "REQUEST_TIMEOUT", 1000.0)
    scene = Scene(tmp_path / "s")
    scene.document = {"said": "x" * 2_000_000}
    async with scene.serving(), AsyncExitStack() as deaf:
        for _ in range(LIMIT):
            sock = deaf.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(scene.path))
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b" 200 " in await scene.say(b"GET / HTTP/1.1\r\n\r\n")


async def test_nobody_is_sent_away_who_has_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(control_http, "GRACE", 0.0)
    scene = Scene(tmp_path / "s")
    scene.let_go.clear()
    request = b"GET / HTTP/1.1\r\n\r\n"
    async with scene.serving(), asyncio.TaskGroup() as tasks:
        answers = []
        for _ in range(LIMIT):
            answers.append(tasks.create_task(scene.say(request)))
            await until(lambda: len(scene.asked) == len(answers))
        answers.append(tasks.create_task(scene.say(request)))
        await turns(20)
        scene.let_go.set()
    assert all(b" 200 " in answer.result() for answer in answers)


async def test_what_takes_long_keeps_nobody_from_a_look(scene):
    scene.let_go.clear()
    async with asyncio.TaskGroup() as tasks:
        said = b"POST / HTTP/1.1\r\n\r\n"
        drains = [tasks.create_task(scene.say(said)) for _ in range(LIMIT + 3)]
        for _ in range(LIMIT):
            _, writer = await asyncio.open_unix_connection(scene.path)
            writer.write(said)  # and leaves: a drain goes on all the same
            await writer.drain()
            writer.close()
        await until(lambda: len(scene.asked) == len(drains) + LIMIT)
        scene.held = {"POST"}
        assert b" 200 " in await scene.say(b"GET / HTTP/1.1\r\n\r\n")
        scene.let_go.set()
    assert all(b" 200 " in drain.result() for drain in drains)


async def test_only_so_many_changes_are_under_way_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(control_http, "LONG_LIMIT", 2)
    scene = Scene(tmp_path / "s")
    scene.let_go.clear()
    async with scene.serving(), asyncio.TaskGroup() as tasks:
        said = b"POST / HTTP/1.1\r\n\r\n"
        answers = [tasks.create_task(scene.say(said)) for _ in range(5)]
        await until(lambda: len(scene.asked) >= 2)
        await turns(20)
        assert len(scene.asked) == 2
        scene.let_go.set()
    assert all(b" 200 " in answer.result() for answer in answers)


async def test_requests_that_run_at_the_end_get_their_answers(scene):
    scene.let_go.clear()
    async with asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(scene.say(b"GET / HTTP/1.1\r\n\r\n"))
        await until(lambda: scene.asked)
        scene.end.set()
        scene.let_go.set()
    assert b" 200 " in answer.result()


async def test_requests_that_take_too_long_are_cut_at_the_end(tmp_path):
    scene = Scene(tmp_path / "s")
    scene.let_go.clear()
    async with scene.serving(patience=0.01):
        reader, writer = await asyncio.open_unix_connection(scene.path)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: scene.asked)
    assert await reader.read() == b""
    writer.close()


async def test_a_large_answer_is_sent_whole(scene):
    scene.document = {"said": "x" * 2_000_000}
    answer = await scene.say(b"GET / HTTP/1.1\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == scene.document
