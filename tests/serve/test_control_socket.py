"""The control socket: who may open it, what it answers, and that it goes away."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys

import aiohttp
import pytest
import structlog
from yarl import URL

from ssmtunneld.errors import (
    ConfigError,
    SsmtunneldError,
    UnknownConnection,
    UnknownTunnel,
)
from ssmtunneld.observe import logs
from ssmtunneld.serve.control_protocol import PROGRAM_HEADER, PROTOCOL, PROTOCOL_HEADER
from ssmtunneld.serve.control_socket import Place, is_still, may_ask, serve_control
from ssmtunneld.version import __version__

DOCUMENT = {"version": 1, "pid": 42}
CHANGES = {"added": ["new"], "removed": [], "changed": ["db"], "unchanged": 3}
NOBODY = 65534


class Busy(SsmtunneldError):
    """Another error that an operator can raise."""

    advice = "wait a moment"


class Household:
    """An operator with one tunnel, ``db``, that remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.problems = []
        self.busy = False
        self.draining = asyncio.Event()
        self.drained = asyncio.Event()

    def status(self):
        return DOCUMENT

    async def reload(self):
        if self.problems:
            raise ConfigError(self.problems)
        self.asked.append("reload")
        return CHANGES

    async def drain(self, name):
        self._know("drain", name)
        self.draining.set()
        await self.drained.wait()
        return {"cut": 2}

    async def pause(self, name):
        return self._know("pause", name)

    async def resume(self, name):
        return self._know("resume", name)

    async def request_access(self, name, reason):
        self._know("request", name)
        return {"id": "oi-0123456789ab", "target": reason}

    async def connections(self, name):
        if name is not None:
            self._know("connections", name)
        return {"version": 1, "connections": [{"id": "a-1"}], "more": 0}

    async def kill(self, name):
        if name != "a-1/x":
            raise UnknownConnection(name)
        self.asked.append(f"kill {name}")
        return {"tunnel": "db"}

    async def wake(self, name):
        return {**self._know("wake", name), "waking": True}

    def wake_for(self, place):
        self.asked.append(place)
        return "db" if place.port == 22 else None

    def connect(self, place, uid):
        self.asked.append((place, uid))
        if place.port != 22:
            return None
        ours, self.far = socket.socketpair()
        return ours

    def _know(self, verb, name):
        if self.busy:
            raise Busy("a reload is on its way")
        if name != "db":
            raise UnknownTunnel(name)
        self.asked.append(f"{verb} {name}")
        return {}


@pytest.fixture(autouse=True)
def _level():
    yield
    logs.set_level("info")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "daemon.sock"


@pytest.fixture
async def operator():
    return Household()


@pytest.fixture
async def client(path, operator):
    async with (
        serve_control(path, operator),
        aiohttp.ClientSession(
            "http://localhost", connector=aiohttp.UnixConnector(str(path))
        ) as session,
    ):
        yield session


async def ask(client, method, where, **options):
    """Return code and document of the answer to one request."""
    async with client.request(method, where, **options) as answer:
        return answer.status, await answer.json()


async def test_it_tells_the_status(client):
    assert await ask(client, "GET", "/status") == (200, DOCUMENT)


async def test_it_tells_its_protocol_in_a_document_and_in_every_answer(client):
    _, version = await ask(client, "GET", "/version")
    assert version == {
        "protocol": PROTOCOL,
        "program": __version__,
        "pid": os.getpid(),
    }
    for method, where in [("GET", "/status"), ("POST", "/nothing"), ("PUT", "/status")]:
        async with client.request(method, where) as answer:
            assert answer.headers[PROTOCOL_HEADER] == str(PROTOCOL)
            assert answer.headers[PROGRAM_HEADER] == __version__


async def test_a_reload_tells_what_it_has_changed(client, operator):
    assert await ask(client, "POST", "/reload") == (200, CHANGES)
    assert operator.asked == ["reload"]


async def test_a_file_that_cannot_be_used_is_refused_with_all_its_problems(
    client, operator
):
    operator.problems = ["a.toml:1: x: no", "a.toml:2: y: never"]
    code, refusal = await ask(client, "POST", "/reload")
    assert code == 422
    assert refusal["problems"] == operator.problems
    assert "keeps the previous one" in refusal["error"]
    assert "correct the file" in refusal["advice"]


@pytest.mark.parametrize("verb", ["drain", "pause", "resume"])
async def test_a_tunnel_is_drained_paused_and_resumed_by_name(client, operator, verb):
    operator.drained.set()
    code, answer = await ask(client, "POST", f"/tunnels/db/{verb}")
    assert (code, answer) == (200, {"cut": 2} if verb == "drain" else {})
    assert operator.asked == [f"{verb} db"]


async def test_a_target_is_started_by_its_tunnel_s_name(client, operator):
    code, answer = await ask(client, "POST", "/tunnels/db/wake")
    assert (code, answer) == (200, {"waking": True})
    assert operator.asked == ["wake db"]
    assert (await ask(client, "POST", "/tunnels/x/wake"))[0] == 404


async def test_a_target_is_started_for_a_connection_there(client, operator):
    body = json.dumps({"target": "i-1", "port": 22})
    code, answer = await ask(client, "POST", "/wake", data=body)
    assert (code, answer) == (200, {"tunnel": "db"})
    assert operator.asked == [Place("i-1", 22)]
    body = json.dumps({"target": "i-1", "port": 23})
    assert (await ask(client, "POST", "/wake", data=body))[0] == 404
    assert (await ask(client, "POST", "/wake", data="{}"))[0] == 400


async def test_access_is_requested_with_a_reason(client, operator):
    body = json.dumps({"reason": "a broken index"})
    code, answer = await ask(client, "POST", "/tunnels/db/request", data=body)
    assert (code, answer["target"]) == (200, "a broken index")
    assert operator.asked == ["request db"]


@pytest.mark.parametrize(
    "reason",
    [None, "", 5, "two\nlines", "x" * 257, "\x1b[31m", " padded ", ["why"], "a\x00b"],
)
async def test_a_reason_that_aws_would_not_take_is_refused(client, operator, reason):
    body = json.dumps({"reason": reason})
    code, refusal = await ask(client, "POST", "/tunnels/db/request", data=body)
    assert code == 400
    assert "1 to 256 characters" in refusal["advice"]
    assert operator.asked == []


@pytest.mark.parametrize("body", ["", "[]", "why", "{}", '{"reason"'])
async def test_a_body_without_a_reason_is_refused(client, operator, body):
    assert (await ask(client, "POST", "/tunnels/db/request", data=body))[0] == 400
    assert operator.asked == []


async def test_connections_are_told_of_all_tunnels_or_of_one(client, operator):
    found = {"version": 1, "connections": [{"id": "a-1"}], "more": 0}
    assert await ask(client, "GET", "/connections") == (200, found)
    assert await ask(client, "GET", "/connections?tunnel=db") == (200, found)
    assert operator.asked == ["connections db"]
    assert (await ask(client, "GET", "/connections?tunnel=x"))[0] == 404


async def test_a_connection_is_ended_by_its_id(client, operator):
    answer = await ask(client, "DELETE", URL("/connections/a-1%2Fx", encoded=True))
    assert answer == (200, {"tunnel": "db"})
    assert operator.asked == ["kill a-1/x"]
    code, refusal = await ask(client, "DELETE", "/connections/a-2")
    assert (code, refusal["error"]) == (404, "there is no connection 'a-2'")
    assert "ssmtunneld connections" in refusal["advice"]


@pytest.mark.parametrize("verb", ["drain", "pause", "resume"])
async def test_an_unknown_tunnel_is_not_found(client, operator, verb):
    code, refusal = await ask(client, "POST", f"/tunnels/nobody/{verb}")
    assert code == 404
    assert "nobody" in refusal["error"]
    assert refusal.keys() == {"error", "advice", "problems"}
    assert operator.asked == []


async def test_what_cannot_be_done_now_is_a_conflict_with_advice(client, operator):
    operator.busy = True
    code, refusal = await ask(client, "POST", "/tunnels/db/pause")
    assert (code, refusal["error"]) == (409, "a reload is on its way")
    assert refusal["advice"] == "wait a moment"


async def test_the_status_is_told_while_a_tunnel_drains(client, operator):
    async with asyncio.TaskGroup() as tasks:
        drain = tasks.create_task(ask(client, "POST", "/tunnels/db/drain"))
        await operator.draining.wait()
        assert await ask(client, "GET", "/status") == (200, DOCUMENT)
        assert not drain.done()
        operator.drained.set()
    assert drain.result() == (200, {"cut": 2})


async def test_a_drain_goes_on_without_the_client_who_asked_for_it(path, operator):
    async with serve_control(path, operator):
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST /tunnels/db/drain HTTP/1.1\r\nHost: x\r\n\r\n")
        await operator.draining.wait()
        writer.transport.abort()
        operator.drained.set()
    assert operator.asked == ["drain db"]


async def test_a_drain_does_not_hold_up_the_daemons_end(path, operator, monkeypatch):
    monkeypatch.setattr("ssmtunneld.serve.control_socket.PATIENCE", 0.01)
    async with serve_control(path, operator):
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST /tunnels/db/drain HTTP/1.1\r\nHost: x\r\n\r\n")
        await operator.draining.wait()
    assert not operator.drained.is_set()
    writer.close()


async def test_the_log_is_told_from_a_line_on(client):
    logs.recent.clear()
    logs.recent(None, "info", {"event": "daemon.ready"})
    logs.recent(None, "warning", {"event": "link.lost", "tunnel": "db"})
    code, found = await ask(client, "GET", "/log")
    assert code == 200
    assert found["place"].keys() == {"unit", "user", "file"}
    assert [e["event"] for e in found["events"]] == ["daemon.ready", "link.lost"]
    assert found["newest"] == found["events"][1]["number"]
    _, later = await ask(client, "GET", f"/log?after={found['newest'] - 1}")
    assert later["events"] == found["events"][1:]
    logs.recent.clear()
    assert (await ask(client, "GET", "/log"))[1]["newest"] == found["newest"]
    for wrong in ("x", "-1", "", "9" * 16):
        assert (await ask(client, "GET", f"/log?after={wrong}"))[0] == 400


def ask_for_a_socket(path, document):
    """Return the head of the answer to ``POST /connect``, and what came with it."""
    body = json.dumps(document).encode()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(30)
        asking.connect(str(path))
        head = f"POST /connect HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        asking.sendall(head.encode() + body)
        answer, passed, _, _ = socket.recv_fds(asking, 4096, 2)
    return answer, [socket.socket(fileno=descriptor) for descriptor in passed]


async def test_a_connection_is_passed_on_as_a_socket(path, operator):
    asked = {"target": "i-1", "port": 22, "endpoint": "http://x", "config": "/c.toml"}
    async with serve_control(path, operator):
        answer, (sock,) = await asyncio.to_thread(ask_for_a_socket, path, asked)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    with sock, operator.far as far:
        far.settimeout(30)
        far.sendall(b"greeting")
        sock.settimeout(30)
        assert sock.recv(100) == b"greeting"
        sock.close()
        assert far.recv(100) == b"", "the daemon has kept an end"
    uid = os.geteuid() if sys.platform in {"linux", "darwin"} else None
    assert operator.asked == [(Place("i-1", 22, "http://x", "/c.toml"), uid)]


async def test_where_no_tunnel_leads_nothing_is_passed_on(path, operator):
    async with serve_control(path, operator):
        asked = {"target": "i-1", "port": 23}
        answer, passed = await asyncio.to_thread(ask_for_a_socket, path, asked)
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert passed == []
    assert operator.asked[0][0] == Place("i-1", 23)


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"target": "i-1"}', '{"target": 1, "port": 22}']
)
async def test_who_does_not_say_where_is_refused(client, operator, body):
    code, refusal = await ask(client, "POST", "/connect", data=body)
    assert (code, refusal["advice"]) == (400, "name both, as JSON")
    assert operator.asked == []


@pytest.mark.parametrize("level", ["debug", "error"])
async def test_the_log_level_can_be_changed(client, level):
    answer = await ask(client, "PUT", "/log-level", json={"level": level})
    assert answer == (200, {"level": level})
    assert logs._threshold == logs.LEVELS[level]


@pytest.mark.parametrize(
    "body",
    [
        *('{"level": "loud"}', '{"level": ["debug"]}', "[]", '"debug"', "{}", "debug"),
        *(
            "",
            "[" * 4000,
            '{"level":' * 400,
            "9" * 4000,
            "\ud800".encode("utf-8", "surrogatepass"),
        ),
    ],
)
async def test_what_is_no_level_is_refused_and_changes_nothing(client, body):
    code, refusal = await ask(client, "PUT", "/log-level", data=body)
    assert code == 400
    assert "log level" in refusal["error"]
    assert "debug, info, warning, error" in refusal["advice"]
    assert logs._threshold == logs.LEVELS["info"]


async def test_a_body_that_is_too_large_is_refused(client):
    code, refusal = await ask(client, "PUT", "/log-level", data=b" " * 5000)
    assert (code, refusal["problems"]) == (413, [])


@pytest.mark.parametrize(
    ("method", "where", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/status", 405),
        ("GET", "/log-level", 405),
        ("GET", "/tunnels/db/drain", 405),
        ("POST", "/tunnels/db/explode", 404),
    ],
)
async def test_there_is_nothing_else(client, operator, method, where, status):
    code, refusal = await ask(client, method, where)
    assert code == status
    assert refusal["error"].startswith(f"{method} {where}: ")
    assert operator.asked == []


async def test_only_its_own_user_may_open_it(client, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


_STRANGER = """
import http.client, os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("POST", "/reload")
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_refused_even_where_the_mode_lets_them_in(operator):
    folder = await asyncio.to_thread(_open_folder)
    path = folder / "daemon.sock"
    async with serve_control(path, operator):
        path.chmod(0o666)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", _STRANGER, str(path), str(NOBODY)),
            stdout=subprocess.PIPE,
        )
        said, _ = await process.communicate()
    folder.rmdir()
    assert said.startswith(b"403 ")
    assert b"belongs to another user" in said
    assert operator.asked == []


def _open_folder():
    """Return a folder that everybody may look into; pytest's are for their owner."""
    import tempfile
    from pathlib import Path

    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    return folder


def test_root_and_our_user_may_ask_and_whoever_the_platform_cannot_tell():
    assert may_ask(0)
    assert may_ask(os.geteuid())
    assert may_ask(None)
    assert not may_ask(NOBODY)


async def test_what_a_killed_daemon_left_is_replaced_and_nothing_is_left(
    path, operator
):
    path.write_text("left behind")
    async with serve_control(path, operator):
        assert stat.S_ISSOCK(path.stat().st_mode)
    assert not path.exists()


async def test_it_ends_while_somebody_is_connected(path, operator):
    async with serve_control(path, operator):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(json.dumps(DOCUMENT)))
        assert b" 200 " in head
        assert json.loads(body) == DOCUMENT
    assert await reader.read() == b""
    writer.close()


async def test_a_place_that_cannot_be_had_is_an_error(tmp_path, operator):
    for place in (tmp_path / "none" / "x.sock", tmp_path / ("x" * 200)):
        with pytest.raises(OSError, match=r"No such file|path is longer"):
            async with serve_control(place, operator):
                pytest.fail("served nowhere")


async def test_a_defect_of_an_answer_is_noted_by_type_and_place_alone(client, operator):
    def broken():
        raise ZeroDivisionError("canary")

    operator.status = broken
    with structlog.testing.capture_logs() as lines:
        code, refusal = await ask(client, "GET", "/status")
    assert code == 500
    assert refusal["error"].startswith("defect: ZeroDivisionError at serve/")
    assert "report it" in refusal["advice"]
    (line,) = lines
    assert (line["event"], line["compartment"]) == ("defect", "control")
    assert line["kind"] == "ZeroDivisionError"
    assert "canary" not in f"{refusal} {line}"
    assert (await ask(client, "GET", "/version"))[0] == 200


async def test_the_socket_of_a_successor_stays(path, operator):
    async with serve_control(path, operator) as ours:
        path.unlink()
        path.touch()  # often with the same inode
        assert not is_still(path, ours)
    assert path.exists()
