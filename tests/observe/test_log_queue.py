"""Lines wait in a bounded queue while writing blocks; what does not fit is told."""

import io
import os
import threading

import pytest

from ssmtunneld.observe import log_queue
from ssmtunneld.observe.log_output import LogOutput
from ssmtunneld.observe.log_queue import LogQueue

PATIENCE = 30.0


class Gate(io.RawIOBase):
    """A file whose writer is held up while the gate is closed."""

    def __init__(self):
        self.open = threading.Event()
        self.entered = threading.Event()
        self.taken = b""

    def writable(self):
        return True

    def write(self, data):
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.taken += bytes(data)
        return len(data)


def queue_over(raw, **limits):
    stream = io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True)
    outlet = LogOutput(stream, lambda lost: f"lost {lost}")
    assert outlet.is_file
    return LogQueue(outlet, **limits)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


def held(gate, **limits):
    """Return a queue whose thread is held up with the line ``first``."""
    queue = queue_over(gate, **limits)
    assert queue.write("first\n") == 6
    assert gate.entered.wait(PATIENCE)
    return queue


def opened(gate, queue):
    """Let the thread go on; return what it has written in the end."""
    gate.open.set()
    assert queue.drain(PATIENCE)
    return gate.taken.decode().splitlines()


def test_lines_come_out_in_their_order(gate):
    queue = held(gate)
    for number in range(100):
        queue.write(f"{number}\n")
        queue.flush()
    assert queue.waiting == 101
    assert opened(gate, queue) == ["first", *map(str, range(100))]
    assert queue.waiting == 0


def test_lines_beyond_the_limit_are_lost_and_told_where_they_are_missing(gate):
    queue = held(gate, lines=2)
    for word in ("one", "two", "three", "four"):
        queue.write(f"{word}\n")
    assert queue.lost == 2
    gate.open.set()
    assert queue.drain(PATIENCE)
    queue.write("five\n")
    assert opened(gate, queue) == ["first", "one", "two", "lost 2", "five"]
    assert queue.lost == 0


def test_characters_beyond_the_limit_are_lost_too(gate):
    queue = held(gate, size=10)
    queue.write("123456789\n")
    queue.write("x\n")
    assert queue.lost == 1
    assert opened(gate, queue) == ["first", "123456789"]
    queue.write("longer than all\n")
    assert queue.lost == 2


def test_draining_ends_with_its_budget_while_writing_blocks(gate):
    queue = held(gate)
    queue.write("second\n")
    assert not queue.drain(0.01)
    assert opened(gate, queue) == ["first", "second"]


def test_a_closed_queue_writes_what_it_has_and_begins_again_when_asked(gate):
    queue = held(gate)
    writer = queue._thread
    queue.write("second\n")
    queue.close()
    gate.open.set()
    writer.join(PATIENCE)
    assert not writer.is_alive()
    queue.write("third\n")
    assert opened(gate, queue) == ["first", "second", "third"]
    queue.close()


def test_the_writer_keeps_no_process_alive(gate):
    assert held(gate)._thread.daemon


def test_a_failure_that_nobody_foresaw_costs_one_line():
    class Broken(io.RawIOBase):
        broken = True
        taken = b""

        def writable(self):
            return True

        def write(self, data):
            if self.broken:
                raise RuntimeError
            self.taken += bytes(data)
            return len(data)

    file = Broken()
    queue = queue_over(file)
    queue.write("one\n")
    assert queue.drain(PATIENCE)
    file.broken = False
    queue.write("two\n")
    assert queue.drain(PATIENCE)
    assert file.taken == b"lost 1\ntwo\n"


def test_a_thread_that_cannot_be_started_is_tried_again(gate, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    queue = queue_over(gate)
    with monkeypatch.context() as patched:
        patched.setattr(log_queue.threading.Thread, "start", refuse)
        queue.write("one\n")
    queue.write("two\n")
    assert opened(gate, queue) == ["one", "two"]


def test_a_child_process_has_an_empty_queue_and_a_working_lock(gate):
    queue = held(gate)
    queue.write("second\n")
    log_queue._renew_all()  # what a fork calls in the child
    assert queue.waiting == 0
    assert queue.drain(0)


def test_many_threads_lose_nothing_that_fits():
    reading, writing = os.pipe()
    with open(writing, "w", encoding="utf-8") as stream:  # noqa: PTH123 - it is open
        queue = LogQueue(LogOutput(stream, str))
        words = [f"{n}" * 20 for n in range(8)]

        def say(word):
            for _ in range(50):
                queue.write(f"{word}\n")

        threads = [threading.Thread(target=say, args=(word,)) for word in words]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert queue.drain(PATIENCE)
        queue.close()
    with open(reading, encoding="utf-8") as file:  # noqa: PTH123 - it is open
        assert sorted(file.read().split()) == sorted(words * 50)


def test_a_finalizer_may_log_while_somebody_else_does_in_the_same_thread(gate):
    queue = held(gate)
    with queue._changed:  # the collector runs wherever memory is asked for
        queue.write("from a finalizer\n")
    assert opened(gate, queue) == ["first", "from a finalizer"]


def test_what_was_lost_before_it_is_told_and_counted_once(gate):
    queue = held(gate, lines=2)
    queue.lose(5)
    assert (queue.lost, queue.lost_ever) == (5, 5)
    queue.write("one\n")
    queue.write("two\nthree\n")
    assert (queue.waiting, queue.lost_ever) == (2, 7), "both, or none of them"
    assert opened(gate, queue) == ["first", "lost 5", "one"]
    queue.write("four\n")
    assert opened(gate, queue)[3:] == ["lost 2", "four"]
    assert (queue.lost, queue.lost_ever) == (0, 7)


def test_lines_that_are_written_together_are_counted_one_by_one(gate):
    queue = held(gate)
    queue.write("one\ntwo\n")
    assert queue.waiting == 3
    assert opened(gate, queue) == ["first", "one", "two"]


def test_lines_that_break_together_are_lost_together():
    class Broken(io.RawIOBase):
        def writable(self):
            return True

        def write(self, _):
            raise ZeroDivisionError

    queue = queue_over(Broken())
    queue.write("one\ntwo\n")
    assert queue.drain(PATIENCE)
    assert queue.lost_ever == 2
