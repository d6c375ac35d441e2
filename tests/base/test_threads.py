"""A system that allows no further thread, and what is said of it."""

import threading

import pytest

from ssmtunneld.base.threads import NoThread, start
from tests.support.threads import no_thread


def test_a_thread_is_started():
    ran = threading.Event()
    start(threading.Thread(target=ran.set))
    assert ran.wait(30)


def test_where_none_is_allowed_it_is_said_in_words_of_the_system():
    with no_thread(), pytest.raises(NoThread, match="TasksMax") as caught:
        start(threading.Thread())
    assert isinstance(caught.value, OSError)
