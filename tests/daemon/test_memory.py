"""Settings that keep a daemon's memory small, and their harmlessness elsewhere."""

import ctypes
import gc
import subprocess
import sys

from ssmtunneld.daemon import memory
from ssmtunneld.daemon.memory import bound_heaps, settle


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
    try:
        settle()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    assert library.calls[1:] == [("malloc_trim", 0)]


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
