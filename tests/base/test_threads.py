"""A system that allows no further thread, and what is said of it."""

import re
import threading
from pathlib import Path

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


PACKAGE = Path(__file__).parents[2] / "ssmtunneld"
_IMPORT = re.compile(
    r"^from ssmtunneld\.base\.threads import .*\bstart\b", re.MULTILINE
)


def test_whoever_makes_a_thread_starts_it_from_here():
    texts = {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
    }
    makers = {name for name, text in texts.items() if "threading.Thread(" in text}
    assert "base/loop_thread.py" in makers
    assert {name for name in makers if not _IMPORT.search(texts[name])} == set()
