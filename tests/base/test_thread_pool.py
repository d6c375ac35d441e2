"""A pool does what it has accepted, and nothing else."""

import threading

import pytest

from ssmtunneld.base.thread_pool import ThreadPool
from ssmtunneld.base.threads import NoThread
from tests.support.threads import no_thread


def test_what_was_refused_is_never_done():
    done = []
    with ThreadPool(2) as pool:
        with no_thread(), pytest.raises(NoThread):
            pool.submit(done.append, "refused")
        pool.submit(done.append, "accepted").result(30)
    assert done == ["accepted"]


def test_work_waits_for_the_threads_that_there_are():
    done, over = [], threading.Event()
    with ThreadPool(2) as pool:
        first = pool.submit(over.wait, 30)
        with no_thread():
            second = pool.submit(done.append, "later")
        over.set()
        second.result(30)
        assert first.result(30)
    assert done == ["later"]
