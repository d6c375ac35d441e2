"""The live view: what is drawn of a sequence of documents, and the terminal's part."""

import os
import pty
import signal
import threading

import pytest
from rich.console import Console

from ssmtunneld.cli.terminal.live import HISTORY, Flow, Watch, watch_daemon
from tests.cli.household import document, tunnel_document, waiting


def drawn(watch, now, width=100, height=24):
    """Return the view's lines."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(watch.draw(width, height, now))
    return [line.rstrip() for line in capture.get().splitlines()]


def moved(sent, received, **changes):
    return document(tunnel_document(sent=sent, received=received), **changes)


def test_throughput_is_the_difference_of_two_totals():
    flow = Flow()
    flow.observe(tunnel_document(sent=100, received=0), 10.0)
    assert (list(flow.up), list(flow.down)) == ([], [])
    flow.observe(tunnel_document(sent=1100, received=50), 12.0)
    assert (list(flow.up), list(flow.down)) == ([500.0], [25.0])


def test_a_tunnel_that_starts_again_moves_nothing_backwards():
    flow = Flow()
    flow.observe(tunnel_document(sent=100, received=100), 1.0)
    flow.observe(tunnel_document(sent=0, received=0), 2.0)
    flow.observe(tunnel_document(sent=7, received=0), 2.0)  # a clock that has not moved
    assert list(flow.up) == [0.0, 7000.0]


def test_only_so_much_is_remembered():
    flow = Flow()
    for second in range(HISTORY * 2):
        flow.observe(tunnel_document(sent=second, received=0), second)
    assert len(flow.up) == HISTORY


def test_rates_plots_and_round_trips_are_shown_for_each_tunnel():
    watch = Watch(())
    assert drawn(watch, 0.0) == [""]
    watch.observe(moved(0, 0), 0.0)
    _, _, row = drawn(watch, 0.0)
    assert row.split() == ["db", "ready", "-", "-", "4.2", "ms", "2"]
    watch.observe(moved(8192, 0), 1.0)
    watch.observe(moved(8192, 4096), 2.0)
    head, columns, row = drawn(watch, 2.0)
    assert head.endswith("1 of 1 tunnel usable. Ctrl-C ends")
    assert columns.split() == ["NAME", "STATE", "UP", "DOWN", "RTT", "CONNS"]
    assert row.split() == [
        *("db", "ready", "█▁", "0", "B/s", "▁▅", "4.0", "KiB/s"),
        *("4.2", "ms", "2"),
    ]


def test_a_narrow_terminal_has_fewer_columns_and_a_poor_one_plain_plots():
    watch = Watch((), encoding="ascii")
    watch.observe(moved(0, 0), 0.0)
    watch.observe(moved(9999, 0), 1.0)
    *_, columns, row = drawn(watch, 1.0, width=54)
    assert columns.split() == ["NAME", "STATE", "UP", "DOWN"]
    assert "#" in row


@pytest.mark.parametrize("width", [80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    watch = Watch(())
    view = document(tunnel_document("a" * 25), waiting(reason="r " * 99))
    for second in range(50):
        watch.observe(view, second)
    assert max(map(len, drawn(watch, 50, width=width))) <= width


def test_only_the_named_tunnels_are_shown_even_when_a_reload_removes_one():
    watch = Watch(("web", "gone"))
    watch.observe(
        document(tunnel_document(), tunnel_document("web"), tunnel_document("gone")),
        0.0,
    )
    assert [line.split()[0] for line in drawn(watch, 0.0)[2:]] == ["web", "gone"]
    watch.observe(document(tunnel_document(), tunnel_document("web")), 1.0)
    assert [line.split()[0] for line in drawn(watch, 1.0)[2:]] == ["web"]
    watch.observe(document(tunnel_document()), 2.0)
    assert drawn(watch, 2.0)[2:] == []


def test_tunnels_of_a_group_are_shown_even_when_a_reload_changes_it():
    watch = Watch(["web"], groups=["x"])
    first = [tunnel_document("a", groups=["x"]), tunnel_document("b", groups=[])]
    watch.observe(document(*first, tunnel_document("web")), 0.0)
    assert [line.split()[0] for line in drawn(watch, 0.0)[2:]] == ["a", "web"]
    later = [tunnel_document("a", groups=[]), tunnel_document("b", groups=["x"])]
    watch.observe(document(*later), 1.0)
    assert [line.split()[0] for line in drawn(watch, 1.0)[2:]] == ["b"]


def test_a_daemon_that_goes_is_said_to_and_its_last_state_stays():
    watch = Watch(())
    watch.observe(moved(0, 0), 0.0)
    watch.miss("no daemon runs", 1.0)
    watch.miss("no daemon runs", 4.0)
    head, _, row = drawn(watch, 4.0)
    assert head == "no daemon runs (for 3s); waiting for it. Ctrl-C ends"
    assert row.startswith("db")


def test_the_next_daemon_is_followed_and_its_totals_are_its_own():
    watch = Watch(())
    watch.observe(moved(10**9, 0), 0.0)
    watch.miss("no daemon runs", 1.0)
    watch.observe(moved(5, 0, pid=8), 2.0)
    head, _, row = drawn(watch, 2.0, width=120)
    assert "restarted 1x meanwhile" in head
    assert "B/s" not in row


def test_what_is_too_high_says_how_much_is_missing():
    watch = Watch(())
    names = [f"t{number}" for number in range(30)]
    watch.observe(document(waiting("bad"), *map(tunnel_document, names)), 0.0)
    lines = drawn(watch, 0.0, height=20)
    assert len(lines) <= 20
    assert lines[-1] == "and 16 more: name some, or enlarge the terminal"


def test_a_tunnel_without_sessions_has_no_round_trip():
    watch = Watch(())
    watch.observe(document(tunnel_document(sessions=[{"rtt": None}, {}])), 0.0)
    assert drawn(watch, 0.0)[2].split()[-2:] == ["-", "2"]


class Screen:
    """A terminal that sends us a signal as soon as it shows some words."""

    def __init__(self, words, number):
        self.shown = b""
        self._words = words
        self._number = number
        self._parent, self._child = pty.openpty()
        self.file = os.fdopen(self._child, "w", encoding="utf-8")
        self._thread = threading.Thread(target=self._read)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.file.close()
        self._thread.join(30)
        os.close(self._parent)

    def _read(self):
        sent = False
        try:
            while data := os.read(self._parent, 65536):
                self.shown += data
                if not sent and self._words in self.shown:
                    sent = True
                    os.kill(os.getpid(), self._number)
        except OSError:
            pass  # how Linux tells the end of a terminal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(operator, monkeypatch, number):
    before = signal.getsignal(number)
    monkeypatch.setenv("TERM", "xterm-256color")
    with Screen(b"B/s", number) as screen:
        monkeypatch.setattr("sys.stdout", screen.file)
        watch_daemon(None, ())
        monkeypatch.undo()
    assert b"\x1b[?1049h" in screen.shown
    assert screen.shown.rstrip().endswith(b"\x1b[?1049l")
    assert signal.getsignal(number) is before


def test_a_daemon_that_is_not_there_is_waited_for(home, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    with Screen(b"\x1b[?1049h", signal.SIGINT) as screen:
        monkeypatch.setattr("sys.stdout", screen.file)
        watch_daemon(None, ())
        monkeypatch.undo()
    assert b"Traceback" not in screen.shown
