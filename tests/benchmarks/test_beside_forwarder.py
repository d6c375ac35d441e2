import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import clients, processes
from benchmarks.beside import forwarder
from benchmarks.beside.forwarder import Failed, fill, split

STUB = Path(__file__).with_name("stub_forwarder.py")


def test_values_stay_in_their_words_and_other_braces_as_they_are():
    words = split("""run -p '{"n":["{port}"]}' "{endpoint}" {local_port}:{port}""")
    values = {"endpoint": "http://a b", "port": 22, "local_port": 9000}
    assert fill(words, values) == [
        "run",
        "-p",
        '{"n":["22"]}',
        "http://a b",
        "9000:22",
    ]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "no command"),
        ("run {port}", "local_port} is missing"),
        ("run {local_port} {host}", r"{host} is not known; .*{endpoint}"),
        ("run '{local_port}", "No closing quotation"),
    ],
)
def test_a_template_that_cannot_work_is_refused(template, words):
    with pytest.raises(ValueError, match=words):
        split(template)


@pytest.fixture(scope="module")
def destination():
    with processes.destination() as port:
        yield port


@pytest.fixture
def start(destination, tmp_path):
    """Return a function that runs the stub, or other Python code, as a forwarder."""

    def begin(*arguments, code=None):
        program = ["-c", code] if code else [str(STUB), "{local_port}", "{port}"]
        words = [sys.executable, *program, *arguments]
        return forwarder.forwarder(words, "http://127.0.0.1:1", destination, tmp_path)

    return begin


def test_it_is_watched_while_it_runs_and_gone_afterwards(start):
    with start() as running:
        clients.first_bytes(running.port, 20)
        assert running.resident > 1 << 20
        assert running.cpu > 0
        assert running.started_in > 0
        with running.within(60):
            pass
    assert not psutil.pid_exists(running.process.pid)


def test_what_left_its_session_is_killed_too(start):
    with start("orphan") as running:
        left = int(running.last_words().split()[1])
        assert running.resident > psutil.Process(left).memory_info().rss
        assert {p.pid for p in forwarder.marked(running.mark)} == {
            running.process.pid,
            left,
        }
    assert not forwarder.marked(running.mark)


def test_one_that_cannot_be_started_has_failed(destination, tmp_path):
    words = ["no-such-program-anywhere", "{local_port}"]
    with (
        pytest.raises(Failed, match="No such file"),
        forwarder.forwarder(words, "http://127.0.0.1:1", destination, tmp_path),
    ):
        pass


def test_one_that_ends_has_failed_with_its_last_words(start):
    code = "print('starting'); print('AccessDenied: not you'); raise SystemExit(3)"
    with (
        pytest.raises(Failed, match=r"^it ended with 3: AccessDenied: not you$"),
        start(code=code),
    ):
        pass


def test_one_that_does_not_answer_is_killed_in_time(start):
    with start("mute") as running, clients.connect(running.port) as client:
        clients.echo(client)
        with pytest.raises(Failed, match="it took longer than"), running.within(0.1):
            clients.echo(client)
        assert running.process.poll() is not None


def test_a_connection_that_breaks_is_a_failure_of_the_forwarder(start):
    with (
        start("short") as running,
        clients.connect(running.port) as client,
        pytest.raises(Failed, match="bytes are missing"),
        running.within(60),
    ):
        clients.download(client, 1 << 20)


def test_a_reason_is_one_line_that_is_not_too_long():
    assert forwarder.reason(OSError("a\n  b")) == "a b"
    assert forwarder.reason(OSError()) == "OSError"
    assert len(forwarder.reason(OSError("x" * 1000))) == 200
