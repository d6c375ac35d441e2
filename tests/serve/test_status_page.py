"""The HTTP listener: who may ask, what is answered, and what cannot be done to it."""

import asyncio
import json
import re
from contextlib import asynccontextmanager
from importlib.resources import files
from ipaddress import ip_network
from logging import WARNING, getLogger

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from ssmtunneld.base.log import get_log
from ssmtunneld.config import TcpAddress, UnixAddress
from ssmtunneld.errors import UnknownTunnel
from ssmtunneld.observe import logs
from ssmtunneld.observe.history import History, TrafficSample
from ssmtunneld.observe.status import TunnelState
from ssmtunneld.serve import cached_document, status_page
from ssmtunneld.serve.status_page import HEADERS, Admission, serve_web
from tests.integration.world import PATIENCE, logging
from tests.observe.samples import daemon, tunnel

ENDLESS = {"variants": 8, "period": 3600.0}
ANY = TcpAddress("127.0.0.1", 0)


class Subject:
    """A daemon that says what the test wants."""

    def __init__(self, *tunnels, **how):
        self.status = daemon(*tunnels, **how)
        self.revision = 0
        self.surveys = 0
        self.looks = []

    async def survey(self):
        self.surveys += 1
        return self.status

    async def connections(self, name, limit):
        if name not in {None, *(m.name for m in self.status.tunnels)}:
            raise UnknownTunnel(name)
        self.looks.append((name, limit))
        return {"version": 1, "connections": [{"tunnel": name}], "more": 3}

    def readings(self):
        return {
            m.name: TrafficSample(m.sent, m.received, m.rtt)
            for m in self.status.tunnels
        }


@pytest.fixture
async def journal():
    """Capture the log."""
    async with logging() as caught:
        yield caught


@asynccontextmanager
async def serving(journal, *tunnels, address=ANY, admission=None, **how):
    """Serve such a daemon; yield what to connect to."""
    subject = Subject(*tunnels, **how)
    admission = admission or Admission()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(serve_web(subject, [address], admission, get_log()))
        bound = (await journal.wait_for("http.bound"))["address"]
        try:
            yield bound
        finally:
            task.cancel()


async def answer_to(bound, data):
    """Send ``data`` and return all that comes back."""
    if bound.startswith("unix:"):
        opening = asyncio.open_unix_connection(bound.removeprefix("unix:"))
    else:
        host, _, port = bound.rpartition(":")
        opening = asyncio.open_connection(host.strip("[]"), int(port))
    async with asyncio.timeout(PATIENCE):
        reader, writer = await opening
        try:
            writer.write(data)
            return await reader.read()
        finally:
            writer.transport.abort()


async def exchange(bound, data):
    """Send ``data`` and return status, headers and body of the answer."""
    answer = await answer_to(bound, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body.decode()


async def ask(bound, path="/", *, method="GET", host="localhost", headers=()):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    return await exchange(bound, "\r\n".join(lines).encode())


DOWN = tunnel("down", "waiting", reason="no agent", required=False)


@pytest.mark.parametrize(
    ("path", "tunnels", "status", "text"),
    [
        ("/livez", [tunnel(state="waiting")], 200, "ok\n"),
        ("/readyz", [tunnel(), DOWN], 200, "ok\n"),
        ("/readyz", [tunnel(state="failed")], 503, "[-]db failed: failed\n"),
        ("/readyz?verbose", [tunnel()], 200, "[+]db ok\nreadyz check passed\n"),
        ("/readyz/db", [tunnel(), DOWN], 200, "ok\n"),
        ("/readyz/down", [tunnel(), DOWN], 503, "[-]down failed: waiting: no agent\n"),
        ("/readyz/nobody", [tunnel()], 404, "unknown tunnel"),
        ("/readyz", [tunnel(state="failed", reason="\ud800!")], 503, "failed: ?!\n"),
        ("/startupz", [tunnel(state="failed")], 200, "ok\n"),
        ("/startupz", [tunnel(state="unbound", listen=())], 503, "startupz check"),
        ("/nothing", [], 404, "Not Found"),
    ],
)
async def test_probes_get_their_answers(journal, path, tunnels, status, text):
    async with serving(journal, *tunnels) as bound:
        found, headers, body = await ask(bound, path)
    assert found == status
    assert text in body
    assert headers["Content-Type"].startswith("text/plain")


async def test_a_program_gets_json(journal):
    accept = ["Accept: application/json"]
    async with serving(journal, tunnel(state="waiting", reason="x")) as bound:
        status, _, body = await ask(bound, "/readyz", headers=accept)
    document = json.loads(body)
    assert (status, document["passed"]) == (503, False)
    assert document["tunnels"][0]["reason"] == "x"


async def test_prometheus_gets_metrics(journal):
    async with serving(journal, tunnel()) as bound:
        status, headers, body = await ask(bound, "/metrics")
        wanted = ["Accept: application/openmetrics-text; version=1.0.0"]
        _, other, _ = await ask(bound, "/metrics", headers=wanted)
    assert status == 200
    assert 'ssmtunneld_tunnel_up{tunnel="db"} 1.0' in body
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert other["Content-Type"].startswith("application/openmetrics-text")


async def test_the_page_gets_the_document_with_history_and_events(journal):
    logs.recent.clear()
    logs.recent(None, "warning", {"event": "a.b", "tunnel": "db", "why": "x"})
    async with serving(journal, tunnel(sent=5)) as bound:
        status, headers, body = await ask(bound, "/status.json")
        document = json.loads(body)
        newest, last = document["history"]["newest"], document["events"][-1]["number"]
        _, _, body = await ask(bound, f"/status.json?sample={newest}&event={last}")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert (document["version"], document["ready"]) == (1, True)
    assert document["tunnels"][0]["sent"] == 5
    assert document["history"]["tunnels"]["db"]["sent"][0] == 0
    (event,) = document["events"]
    assert (event["event"], event["facts"]) == ("a.b", {"why": "x"})
    again = json.loads(body)
    assert again["events"] == []
    newer = again["history"]["newest"] - newest
    assert len(again["history"]["tunnels"]["db"]["sent"]) == newer


@pytest.mark.parametrize(("query", "name"), [("", None), ("?tunnel=db", "db")])
async def test_connections_are_told_of_all_tunnels_or_of_one(journal, query, name):
    async with serving(journal, tunnel()) as bound:
        status, headers, body = await ask(bound, f"/connections.json{query}")
        missing, _, text = await ask(bound, "/connections.json?tunnel=x")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["connections"] == [{"tunnel": name}]
    assert (missing, text) == (404, "unknown tunnel\n")


async def test_connections_are_looked_at_once_for_all_readers(monkeypatch):
    monkeypatch.setattr(cached_document.Fresh.__init__, "__kwdefaults__", ENDLESS)
    subject = Subject(tunnel())
    answers = status_page._Answers(subject, History(subject.readings))
    request = make_mocked_request("GET", "/connections.json")
    for _ in range(3):
        await answers.connections(request)
    assert subject.looks == [(None, status_page.CONNECTIONS_SHOWN)]


async def test_many_readers_cost_one_rendering(journal, monkeypatch):
    monkeypatch.setattr(cached_document.Fresh.__init__, "__kwdefaults__", ENDLESS)
    subject = Subject(tunnel())
    paths = ["/status.json", "/readyz", "/startupz", "/readyz/db", "/metrics"]
    paths += [f"/status.json?sample={n}&event={n}" for n in range(50, 70)]
    async with asyncio.TaskGroup() as tasks:
        serving = serve_web(subject, [ANY], Admission(), get_log())
        task = tasks.create_task(serving)
        bound = (await journal.wait_for("http.bound"))["address"]
        found = await asyncio.gather(*(ask(bound, path) for path in paths * 2))
        task.cancel()
    assert {status for status, _, _ in found} == {200}
    assert subject.surveys == 3, "for health, metrics and the page"


async def test_a_probe_after_a_pause_is_not_told_what_was_before_it(monkeypatch):
    monkeypatch.setattr(cached_document.Fresh.__init__, "__kwdefaults__", ENDLESS)
    subject = Subject(tunnel())
    answers = status_page._Answers(subject, History(subject.readings))
    request = make_mocked_request("GET", "/readyz?verbose")
    assert (await answers.readyz(request)).status == 200
    subject.status = daemon(tunnel(state=TunnelState.PAUSED))
    assert (await answers.readyz(request)).status == 200, "nobody has changed anything"
    subject.revision += 1
    answer = await answers.readyz(request)
    assert (answer.status, b"[-]db failed: paused" in answer.body) == (503, True)


async def test_a_reader_that_has_missed_much_gets_all_samples(journal):
    history = History(Subject(tunnel()).readings)
    for second in range(20):
        history.take(second)
    answers = status_page._Answers(Subject(tunnel()), history)

    async def samples(number):
        request = make_mocked_request("GET", f"/status.json?sample={number}")
        document = json.loads((await answers.status(request)).body)
        return len(document["history"]["tunnels"]["db"]["sent"])

    assert [await samples(n) for n in (20, 19, 15, 14, 1, 99, 0)] == [
        *(0, 1, 5),
        *(20, 20, 20, 20),
    ]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")],
)
async def test_the_page_is_in_the_package(journal, path, kind):
    async with serving(journal) as bound:
        status, headers, body = await ask(bound, path)
        _, alike, nothing = await ask(bound, path, method="HEAD")
    assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
    assert len(body) > 1000
    assert nothing == ""
    assert alike["Content-Length"] == headers["Content-Length"]


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/livez", "/readyz", "/metrics", "/status.json", "/connections.json"),
        "/nothing",
    ],
)
async def test_every_answer_forbids_what_is_not_needed(journal, path):
    async with serving(journal, tunnel()) as bound:
        _, headers, _ = await ask(bound, path)
    assert HEADERS.items() <= headers.items()
    assert "aiohttp" not in str(headers)
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_nothing_can_be_changed(journal, method):
    async with serving(journal, tunnel()) as bound:
        for path in ("/", "/status.json", "/connections.json", "/nothing"):
            status, headers, _ = await ask(bound, path, method=method)
            assert status == 405
            assert headers["Allow"] == "GET,HEAD"


# The name of the listener.


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.:9300",
        "tunnels.localhost",
        "127.0.0.1:9300",
        "127.9.9.9",
        "[::1]:9300",
        "[::ffff:127.0.0.1]",
        "tunnels.example.com",
        "Tunnels.Example.COM.:80",
    ],
)
async def test_names_of_ours_are_answered(journal, host):
    admission = Admission(hosts=frozenset({"tunnels.example.com"}))
    async with serving(journal, admission=admission) as bound:
        assert (await ask(bound, "/livez", host=host))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]",
        "[::1",
        "localhost:9300:9300",
        "localhost@evil.example",
        "",
    ],
)
async def test_other_names_are_not(journal, host):
    async with serving(journal) as bound:
        for path in ("/", "/livez", "/status.json"):
            status, _, body = await ask(bound, path, host=host)
            assert status == 421
            assert "http_hosts" in body
    refused = await journal.wait_for("http.refused")
    assert (refused["rule"], refused["host"]) == ("host", host)


def test_the_address_that_a_connection_was_made_to_is_a_name_of_ours():
    admission = Admission()
    assert admission.admits_host("10.1.2.3:9300", "10.1.2.3")
    assert admission.admits_host("10.1.2.3", "::ffff:10.1.2.3")
    assert admission.admits_host("[fd00::1]:9300", "fd00::1")
    assert not admission.admits_host("10.1.2.4", "10.1.2.3")
    assert not admission.admits_host("10.1.2.3", None)


@pytest.mark.parametrize("hosts", [[], ["Host: localhost", "Host: localhost"]])
async def test_one_name_is_needed(journal, hosts):
    request = "\r\n".join(["GET /livez HTTP/1.1", *hosts, "", ""])
    async with serving(journal) as bound:
        status, _, _ = await exchange(bound, request.encode())
    assert status == 400


# The other side.


@pytest.mark.parametrize(
    ("peer", "admitted"),
    [
        (None, True),
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", True),
        ("10.2.0.1", False),
        ("2001:db8::1", False),
        ("nonsense", False),
    ],
)
def test_this_machine_and_the_allowed_networks_may_ask(peer, admitted):
    networks = ip_network("10.1.0.0/16"), ip_network("fe80::/64")
    assert Admission(allow=networks).admits_peer(peer) is admitted


async def test_a_unix_socket_serves_too(journal, tmp_path):
    path = tmp_path / "web.sock"
    async with serving(journal, address=UnixAddress(path)) as bound:
        assert path.stat().st_mode & 0o777 == 0o600
        assert (await ask(bound, "/livez"))[0] == 200
        assert (await ask(bound, "/livez", host="10.0.0.1"))[0] == 421
    assert not path.exists()


# Requests that are too much.


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
            400,
        ),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /status.json?sample=-1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /status.json?event=x HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (
            b"GET /status.json?sample=99999999999999999999 HTTP/1.1\r\n"
            b"Host: localhost\r\n\r\n",
            400,
        ),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /page/index.html HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    ],
)
async def test_what_is_too_long_or_makes_no_sense_is_refused(
    journal, caplog, data, status
):
    async with serving(journal) as bound:
        assert (await exchange(bound, data))[0] == status
        assert (await ask(bound, "/livez"))[0] == 200
    # Anybody may send it, and no operator can do anything about it.
    assert [r for r in caplog.records if r.levelno >= WARNING] == []


async def test_a_target_that_is_no_url_harms_nobody(journal, caplog):
    async with serving(journal) as bound:
        data = b"GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = await answer_to(bound, data)
        assert (await ask(bound, "/livez"))[0] == 200
    if aiohttp.__version__.startswith("3.11."):
        assert answer == b""  # it closes the connection, and complains of itself
    else:
        assert answer[9:12] == b"400"
        assert [r for r in caplog.records if r.levelno >= WARNING] == []


def test_what_else_the_library_complains_of_is_still_told(caplog):
    getLogger("aiohttp.server").error("unhandled", exc_info=ZeroDivisionError())
    assert len(caplog.records) == 1


async def test_a_defect_of_an_answer_is_noted_by_type_and_place_alone(journal):
    class Broken(Subject):
        async def survey(self):
            raise ZeroDivisionError("canary")

    async with asyncio.TaskGroup() as tasks:
        serving = serve_web(Broken(tunnel()), [ANY], Admission(), get_log())
        task = tasks.create_task(serving)
        bound = (await journal.wait_for("http.bound"))["address"]
        status, _, body = await ask(bound, "/readyz")
        alive, _, _ = await ask(bound, "/livez")
        task.cancel()
    assert (status, alive) == (500, 200)
    assert body.startswith("defect: ZeroDivisionError at serve/")
    (line,) = journal.find("defect", compartment="http", kind="ZeroDivisionError")
    assert "canary" not in f"{body} {line}"
    assert journal.find("library.said") == []


def test_the_page_has_a_glyph_and_a_tone_for_every_state():
    page = files("ssmtunneld.serve") / "page" / "page.js"
    text = page.read_text("utf-8")
    (block,) = re.findall(r"const STATES = \{\n(.*?)\};", text, re.DOTALL)
    line = re.compile(r' +(\w+): \["[^"]", "(?:good|calm|wait|bad)"\],')
    known = [line.fullmatch(each) for each in block.splitlines()]
    assert all(known)
    # The daemon's own besides those of tunnels.
    assert {each[1] for each in known} == {state.value for state in TunnelState} | {
        "draining"
    }
