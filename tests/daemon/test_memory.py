"""Settings that keep a daemon's memory small, and their harmlessness elsewhere."""

import ctypes
import gc
import subprocess
import sys

from ssmtunneld.daemon import memory
from ssmtunneld.daemon.memory import begin, bound_heaps, settle


class Library:
    """A C library that notes what it is told."""

    def __init__(self):
        self.calls = []

    def mallopt(self, what, value):
        self.calls.append(("mallopt", what, value))

    def malloc_trim(self, left):
        self.calls.append(("malloc_trim", left))


def test_threads_share_a_heap_and_what_is_free_is_given_back(monkeypatch):
    library = Library()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    bound_heaps()
    assert library.calls == [("mallopt", -8, 1)]
    settle()
    assert gc.get_freeze_count() > 0
    assert library.calls[1:] == [("malloc_trim", 0)]


def test_nothing_looks_through_all_that_a_start_makes():
    looks = []

    def note(phase, info):
        if phase == "start" and info["generation"] == 2:
            looks.append(info)

    usual = gc.get_threshold()
    gc.callbacks.append(note)
    try:
        begin()
        assert len([[] for _ in range(300_000)]) == 300_000
        assert looks == []
        settle()
    finally:
        gc.callbacks.remove(note)
    assert gc.get_threshold() == usual


def test_other_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    bound_heaps()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)
    bound_heaps()
    assert memory._c_library() is None


def test_this_machines_library_takes_it():
    code = (
        "import gc, threading\n"
        "from ssmtunneld.daemon.memory import bound_heaps, settle\n"
        "bound_heaps()\n"
        "thread = threading.Thread(target=lambda: [bytes(9000) for _ in range(1000)])\n"
        "thread.start(); thread.join()\n"
        "settle()\n"
        "print(gc.get_freeze_count() > 0)\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code]) == b"True\n"
