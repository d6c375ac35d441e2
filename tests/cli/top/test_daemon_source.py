"""Requests of ``top`` to a daemon, and the interval between them."""

import queue

import pytest
from aiohttp import web

from ssmtunneld.cli.daemon_client import NotRunning
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.top.daemon_source import EVENTS, DaemonSource, Feed, Snapshot
from ssmtunneld.serve.control_protocol import PROTOCOL, PROTOCOL_HEADER
from tests.cli.household import (
    PATIENCE,
    Busy,
    connection_document,
    document,
    event_document,
    older_daemon,
    serving_app,
    tunnel_document,
)


class Logging:
    """A daemon whose log a test writes."""

    def __init__(self, pid=7):
        self.pid = pid
        self.events = []
        self.forgotten = 0

    def app(self):
        app = web.Application()
        app.add_routes(
            [
                web.get("/status", self._status),
                web.get("/connections", self._connections),
                web.get("/log", self._log),
            ]
        )
        return app

    def write(self, count=1):
        first = len(self.events) + 1
        self.events += [event_document(n) for n in range(first, first + count)]

    async def _status(self, _):
        return self._json(document(tunnel_document(), pid=self.pid))

    async def _connections(self, _):
        return self._json({"version": 1, "connections": [], "more": 0})

    async def _log(self, request):
        after = max(int(request.query["after"]), self.forgotten)
        return self._json(
            {
                "pid": self.pid,
                "newest": len(self.events),
                "events": self.events[after:],
            }
        )

    def _json(self, text):
        return web.json_response(text, headers={PROTOCOL_HEADER: str(PROTOCOL)})


def numbers(snapshot):
    return [(event["pid"], event["number"]) for event in snapshot.events]


def test_a_look_has_tunnels_connections_and_its_time(operator):
    operator.present = [connection_document()]
    snapshot = DaemonSource(None, clock=lambda: 12.5).look()
    assert snapshot.status["tunnels"][0]["name"] == "db"
    assert snapshot.connections["connections"][0]["id"] == "7c1e0a-17"
    assert snapshot.at == 12.5


def test_the_log_is_read_on_from_where_it_was(home):
    daemon = Logging()
    source = DaemonSource(None)
    with serving_app(daemon.app()):
        daemon.write(2)
        assert numbers(source.look()) == [(7, 1), (7, 2)]
        daemon.write()
        assert numbers(source.look()) == [(7, 1), (7, 2), (7, 3)]


def test_forgotten_lines_are_counted_but_not_those_before_the_first_look(home):
    daemon = Logging()
    source = DaemonSource(None)
    with serving_app(daemon.app()):
        daemon.write(5)
        daemon.forgotten = 3
        assert numbers(source.look()) == [(7, 4), (7, 5)]
        daemon.write(4)
        daemon.forgotten = 8
        events = source.look().events
    assert [event["event"] for event in events][2:] == [
        "(3 more that are forgotten)",
        "session.started",
    ]
    assert len({(event["pid"], event["number"]) for event in events}) == 4


def test_the_log_of_the_next_daemon_follows_that_of_the_one_before(home):
    source = DaemonSource(None)
    for pid, lines in ((7, 3), (8, 5)):
        daemon = Logging(pid)
        daemon.write(lines)
        with serving_app(daemon.app()):
            snapshot = source.look()
    assert numbers(snapshot) == [(7, n) for n in (1, 2, 3)] + [
        (8, n) for n in (1, 2, 3, 4, 5)
    ]


def test_only_so_many_events_are_kept(home):
    daemon = Logging()
    source = DaemonSource(None)
    with serving_app(daemon.app()):
        daemon.write(EVENTS + 7)
        assert len(source.look().events) == EVENTS


def test_an_older_daemon_is_named_and_none_is_said_to_be(home):
    with (
        serving_app(older_daemon(document(tunnel_document()))),
        pytest.raises(CommandError, match="this command needs"),
    ):
        DaemonSource(None).look()
    with pytest.raises(NotRunning):
        DaemonSource(None).look()


def test_requests_say_what_has_happened(operator):
    source = DaemonSource(None)
    operator.present = [connection_document("a-1")]
    assert source.pause("db") == "db: paused"
    assert source.resume("db") == "db: resumed"
    assert source.drain("db") == "db: drained"
    operator.cut = 2
    assert source.drain("db") == "db: drained; 2 connections had to be reset"
    assert source.kill("a-1") == "a-1: ended a connection of db"
    assert operator.asked == [
        "pause db",
        "resume db",
        "drain db",
        "drain db",
        "kill a-1",
    ]


def test_what_a_daemon_refuses_is_an_error(operator):
    operator.failure = Busy("not now")
    with pytest.raises(CommandError, match="not now"):
        DaemonSource(None).pause("db")


@pytest.fixture
def told():
    """Return a queue for what a feed reports."""
    return queue.Queue()


def fed(source, told, interval=0.001):
    feed = Feed(source, told.put, interval)
    feed.start()
    return feed


def test_a_feed_tells_snapshots_and_why_there_are_none(operator, told):
    operator.documents = [document(tunnel_document(connections=n)) for n in range(3)]
    feed = fed(DaemonSource(None), told)
    seen = [told.get(timeout=PATIENCE) for _ in range(4)]
    counts = [each.status["tunnels"][0]["connections"] for each in seen]
    assert counts == [0, 1, 2, 2]
    operator.failure = Busy("not now")
    while isinstance(last := told.get(timeout=PATIENCE), Snapshot):
        pass
    assert str(last) == "not now"
    operator.failure = None
    while not isinstance(told.get(timeout=PATIENCE), Snapshot):
        pass
    feed.stop()
    feed._thread.join(PATIENCE)
    assert not feed._thread.is_alive()


def test_a_feed_that_is_hurried_looks_at_once(operator, told):
    feed = fed(DaemonSource(None), told, interval=PATIENCE * 10)
    feed.hurry()
    assert isinstance(told.get(timeout=PATIENCE), Snapshot)
    feed.stop()
    feed._thread.join(PATIENCE)
    assert told.empty()


class Slow:
    """A daemon that takes three seconds for each look, on a clock of its own."""

    def __init__(self):
        self.now = 0.0

    def clock(self):
        return self.now

    def look(self):
        self.now += 3.0
        raise CommandError("slow")


def test_a_slow_daemon_is_asked_less_often(told):
    waits = []
    feed = Feed(Slow(), told.put, 0.5)
    feed._wanted.wait = lambda seconds: waits.append(seconds) or len(waits) < 3
    told.put = lambda _: feed.stop() if len(waits) == 2 else None
    feed._tell = told.put
    feed._run()
    assert waits[:2] == [0.5, 12.0]
