"""A thread that keeps something open: how it begins and ends, and where it is not."""

import asyncio
import signal
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from unittest import mock

import pytest

from ssmtunneld.base.loop_thread import LoopThread
from ssmtunneld.base.threads import NoThread
from tests.support.threads import no_thread


@asynccontextmanager
async def context(log, opening=lambda: None):
    log.append("begun")
    try:
        opening()
        yield "opened"
    finally:
        log.append("closed")


def thread(log, opening=lambda: None):
    return LoopThread(context(log, opening), name="test")


def is_alive():
    return "test" in {thread.name for thread in threading.enumerate()}


def test_it_is_open_from_start_to_stop():
    log = []
    running = thread(log)
    assert running.start() == "opened"
    assert log == ["begun"]
    running.stop()
    assert log == ["begun", "closed"]
    assert not is_alive()
    running.stop()


def test_what_opening_raises_is_raised_by_start():
    def fail():
        raise KeyError("opening")

    running = thread([], fail)
    with pytest.raises(KeyError, match="opening"):
        running.start()
    assert not is_alive()
    running.stop()


def test_what_closing_raises_is_raised_by_stop():
    @asynccontextmanager
    async def failing():
        yield
        raise KeyError("closing")

    running = LoopThread(failing(), name="test")
    running.start()
    with pytest.raises(KeyError, match="closing"):
        running.stop()
    assert not is_alive()


@pytest.fixture
def interrupt():
    """Return a function that interrupts this thread, as Ctrl-C does."""

    def raise_it(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, raise_it)
    waiting = threading.get_ident()
    yield lambda: signal.pthread_kill(waiting, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_an_interrupt_while_it_opens_closes_it_again(interrupt):
    log = []

    @asynccontextmanager
    async def slow():
        log.append("begun")
        interrupt()
        try:
            await asyncio.Event().wait()
            yield
        finally:
            log.append("closed")

    with pytest.raises(KeyboardInterrupt):
        LoopThread(slow(), name="test").start()
    assert log == ["begun", "closed"]
    assert not is_alive()


def test_an_interrupt_while_the_thread_begins_leaves_none():
    def begin(started, start=threading.Thread.start):
        start(started)
        raise KeyboardInterrupt

    running = thread([])
    with (
        mock.patch.object(threading.Thread, "start", begin),
        pytest.raises(KeyboardInterrupt),
    ):
        running.start()
    assert not is_alive()


def test_a_system_that_allows_no_thread_is_said():
    log = []
    running = thread(log)
    with no_thread(), pytest.raises(NoThread):
        running.start()
    running.stop()
    assert log == []


async def give(value):
    return value


def test_calls_are_answered_while_it_is_open():
    running = thread([])
    with pytest.raises(RuntimeError, match="test does not run"):
        running.call(give("too soon"))
    running.start()
    assert running.call(give("value")) == "value"

    async def fail():
        raise TimeoutError("the work's own")

    with pytest.raises(TimeoutError, match="the work's own"):
        running.call(fail())
    running.stop()
    with pytest.raises(RuntimeError, match="test does not run"):
        running.call(give("too late"))


def test_a_call_that_outlasts_it_is_an_error():
    running, begun, said = thread([]), threading.Event(), []
    running.start()

    async def last():
        begun.set()
        await asyncio.Event().wait()

    def ask():
        with pytest.raises(RuntimeError, match="test does not run") as caught:
            running.call(last())
        said.append(caught.value)

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(30)
    running.stop()
    asking.join()
    assert len(said) == 1


PRELUDE = """
import contextlib, os, sys
from ssmtunneld.base.loop_thread import LoopThread

@contextlib.asynccontextmanager
async def context():
    yield

running = LoopThread(context(), name="test")
running.start()
"""


def run(script):
    """Return the exit code of a script, which must end by itself."""
    words = [sys.executable, "-c", PRELUDE + script]
    return subprocess.run(words, timeout=60, check=False).returncode


def test_a_forked_child_does_not_wait_for_its_parents_thread():
    script = """
if os.fork() == 0:
    running.stop()
    try:
        running.call(context().__aenter__())
    except RuntimeError:
        os._exit(7)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert run(script) == 7


def test_the_end_of_the_interpreter_does_not_wait_for_a_thread_that_it_has_ended():
    script = """
def hold():
    try:
        yield
    finally:
        running.stop()

held = hold()
next(held)  # what it waits at is left when the modules are cleared
"""
    assert run(script) == 0
