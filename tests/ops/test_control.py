"""The control socket: who may open it, what it answers, and that it goes away."""

import asyncio
import json
import stat

import aiohttp
import pytest

from ssmtunneld.ops import logs
from ssmtunneld.ops.control import make_app, serve_control

DOCUMENT = {"version": 1, "pid": 42}


@pytest.fixture(autouse=True)
def _level():
    yield
    logs.set_level("info")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "daemon.sock"


@pytest.fixture
async def client(path):
    app = make_app(lambda: DOCUMENT)
    async with (
        serve_control(path, app),
        aiohttp.ClientSession(
            "http://localhost", connector=aiohttp.UnixConnector(str(path))
        ) as session,
    ):
        yield session


async def test_it_tells_the_status(client):
    async with client.get("/status") as answer:
        assert (answer.status, await answer.json()) == (200, DOCUMENT)


@pytest.mark.parametrize("level", ["debug", "error"])
async def test_the_log_level_can_be_changed(client, level):
    async with client.put("/log-level", json={"level": level}) as answer:
        assert (answer.status, await answer.json()) == (200, {"level": level})
    assert logs._threshold == logs.LEVELS[level]


@pytest.mark.parametrize(
    "body",
    ['{"level": "loud"}', '{"level": ["debug"]}', "[]", '"debug"', "{}", "debug", ""],
)
async def test_what_is_no_level_is_refused_and_changes_nothing(client, body):
    async with client.put("/log-level", data=body) as answer:
        assert answer.status == 400
        assert "level" in await answer.text()
    assert logs._threshold == logs.LEVELS["info"]


@pytest.mark.parametrize(
    ("method", "where", "status"),
    [("GET", "/", 404), ("POST", "/status", 405), ("GET", "/log-level", 405)],
)
async def test_there_is_nothing_else(client, method, where, status):
    async with client.request(method, where) as answer:
        assert answer.status == status


async def test_only_its_own_user_may_open_it(client, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_a_killed_daemon_left_is_replaced_and_nothing_is_left(path):
    path.write_text("left behind")
    async with serve_control(path, make_app(lambda: DOCUMENT)):
        assert stat.S_ISSOCK(path.stat().st_mode)
    assert not path.exists()


async def test_it_ends_while_somebody_is_connected(path):
    async with serve_control(path, make_app(lambda: DOCUMENT)):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(json.dumps(DOCUMENT)))
        assert b" 200 " in head
        assert json.loads(body) == DOCUMENT
    assert await reader.read() == b""
    writer.close()


async def test_a_place_that_cannot_be_had_is_an_error(tmp_path):
    for place in (tmp_path / "none" / "x.sock", tmp_path / ("x" * 200)):
        with pytest.raises(OSError, match=r"No such file|too long"):
            async with serve_control(place, make_app(lambda: DOCUMENT)):
                pytest.fail("served nowhere")
