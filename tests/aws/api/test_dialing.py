"""Connections that end in time, and answers in size, whatever the far side does."""

import http.client
import socket
import threading
from collections import defaultdict

import pytest

from ssmtunneld.aws.api import dialing
from ssmtunneld.aws.api.dialing import (
    BODY_LIMIT,
    AnswerTooLong,
    BoundedConnection,
    Deadline,
    TooLate,
    dial,
    in_time,
    look_up,
    tunnel,
    words_of_http,
)
from ssmtunneld.base import lookups
from tests.support.name_server import NameServer
from tests.support.odd_server import OddServer, repeating, saying, trickling
from tests.support.threads import no_thread

OK = b"HTTP/1.1 200 OK\r\n"


def get(server, seconds=30.0):
    connection = BoundedConnection("127.0.0.1", server.port)
    with Deadline(seconds) as deadline:
        connection.sock = dial("127.0.0.1", server.port, deadline)
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            return connection.getresponse().read()
        finally:
            connection.close()


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\nX-More: " + b"x" * 1000 + b"\r\n\r\n"),
        (OK + b"Content-Length: 400000000\r\n\r\n", b"x" * 65536),
        (OK + b"\r\n", b"x" * 65536),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 500 + b"\r\nx\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: x\r\n"),
    ],
    ids=["interim", "fat interim", "long", "unending", "extensions", "trailers"],
)
def test_an_answer_without_end_is_given_up_soon(head, part):
    with OddServer(repeating(head, part)) as server:
        with pytest.raises(AnswerTooLong):
            get(server)
        assert server.finished.acquire(timeout=30)


def test_an_answer_of_the_longest_kind_is_read():
    body = b"x" * BODY_LIMIT
    head = OK + b"Content-Length: %d\r\n\r\n" % len(body)
    with OddServer(saying(b"HTTP/1.1 100 Continue\r\n\r\n", head, body)) as server:
        assert get(server) == body


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 2", OK + b"Content-Length: 9000\r\n\r\n"]
)
def test_an_answer_that_trickles_ends_at_the_deadline(head):
    with OddServer(trickling(head)) as server:
        with pytest.raises((http.client.HTTPException, OSError)):
            get(server, 0.3)
        assert server.finished.acquire(timeout=30)


def test_what_was_closed_before_the_deadline_is_left_alone():
    with OddServer(saying(b"", b"")) as server, Deadline(0.05) as deadline:
        dial("127.0.0.1", server.port, deadline).close()
        deadline._timer.join(30)
        assert deadline.has_passed
        late = socket.socket()
        with pytest.raises(TooLate, match=r"within 0\.05 s"):
            deadline.watch(late)
        assert late.fileno() == -1


def test_a_port_that_refuses_is_told_by_the_system():
    with Deadline(30) as deadline, pytest.raises(ConnectionRefusedError):
        dial("127.0.0.1", 1, deadline)


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "no.such.invalid"])
def test_a_name_without_an_address_is_one_error_whatever_its_form(name):
    with Deadline(30) as deadline, pytest.raises(socket.gaierror):
        look_up(name, 443, deadline)


def test_what_cannot_be_broken_off_is_left_behind_and_undone():
    release, discarded = threading.Event(), threading.Semaphore(0)
    late = []

    def work():
        assert release.wait(30)
        return "late"

    def discard(found):
        late.append(found)
        discarded.release()

    with Deadline(0.05) as deadline:
        with pytest.raises(TooLate):
            in_time(work, deadline, discard)
        assert late == []
        release.set()
        assert discarded.acquire(timeout=30)
    assert late == ["late"]


def test_what_fails_too_late_is_forgotten():
    release = threading.Event()
    ended = threading.Semaphore(0)

    def work():
        assert release.wait(30)
        ended.release()
        raise OSError("nobody hears this")

    with Deadline(0.05) as deadline, pytest.raises(TooLate):
        in_time(work, deadline)
    release.set()
    assert ended.acquire(timeout=30)


@pytest.fixture
def room_for_one(monkeypatch):
    rooms = defaultdict(lambda: threading.BoundedSemaphore(1))
    monkeypatch.setattr(dialing, "_errands", rooms)


@pytest.mark.usefixtures("room_for_one")
def test_so_many_at_a_time_and_no_more_of_one_that_is_asked():
    release = threading.Event()
    with Deadline(0.05) as deadline:
        with pytest.raises(TooLate):
            in_time(lambda: release.wait(30), deadline, asked="a proxy")
        with pytest.raises(TooLate, match="other attempts are still pending"):
            in_time(lambda: None, deadline, asked="a proxy")
    with Deadline(30) as deadline:
        assert in_time(lambda: "other", deadline, asked="another") == "other"
        release.set()
        assert in_time(lambda: "again", deadline, asked="a proxy") == "again"


def test_a_name_without_an_answer_ends_at_the_deadline_and_holds_up_no_other(
    monkeypatch,
):
    monkeypatch.setattr(lookups, "_process", lookups.Lookups())
    with NameServer(monkeypatch) as names:
        for number in range(40):
            with (
                Deadline(0.001) as deadline,
                pytest.raises(TooLate, match=r"no answer within 0\.001 s"),
            ):
                look_up(f"silent{number}.example", 1, deadline)
        with Deadline(30) as deadline:
            assert look_up("localhost", 1, deadline)
        names.release()


@pytest.mark.usefixtures("room_for_one")
def test_a_thread_that_cannot_be_started_takes_no_place():
    with Deadline(30) as deadline:
        for _ in range(2):
            with no_thread(), pytest.raises(OSError, match="no further thread"):
                in_time(lambda: None, deadline)
        assert in_time(lambda: "room", deadline) == "room"


def reach(server, seconds=30.0):
    with Deadline(seconds) as deadline:
        opened = dial("127.0.0.1", server.port, deadline)
        with opened:
            tunnel(opened, "ssm.example:443", {"Proxy-Authorization": "Basic canary"})


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_a_proxy_that_leads_on_is_understood(answer):
    with OddServer(saying(answer)) as server:
        reach(server)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", r"the answer is not HTTP \(BadStatusLine\)"),
        (b"", "closed without an answer"),
        (b"HTTP/1.1 407 Log\x1b[31m in\r\n\r\n", "^the proxy answered 407 Log in$"),
        (b"HTTP/1.1 403\r\n\r\n", "^the proxy answered 403$"),
        (b"HTTP/1.1 200 OK\r\n" + b"a" * 66000, "the answer is too long"),
    ],
)
def test_a_proxy_that_does_not_is_told_in_a_sentence(answer, words):
    with OddServer(saying(answer)) as server:
        with pytest.raises(OSError, match=words) as caught:
            reach(server)
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize("part", [b"HTTP/1.1 100 Continue\r\n\r\n", b"x" * 65000])
def test_a_proxy_that_talks_without_end_is_given_up(part):
    with (
        OddServer(repeating(b"", part)) as server,
        pytest.raises(OSError, match="answer"),
    ):
        reach(server)


def test_words_about_an_answer_quote_nothing():
    odd = http.client.BadStatusLine("canary")
    assert words_of_http(odd) == "the answer is not HTTP (BadStatusLine)"
    assert words_of_http(AnswerTooLong()) == "the answer is too long"
