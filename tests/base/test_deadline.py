"""The process ends when it must, and only then."""

import threading

import pytest

from ssmtunneld.base.deadline import Deadline
from tests.support.threads import no_thread

PATIENCE = 30.0


class Scene:
    """A deadline that ends nothing, and a clock that only it reads."""

    def __init__(self, report=lambda: None):
        self.codes = []
        self.ended = threading.Event()
        self.now = 0.0
        self.deadline = Deadline(report, end=self.end, clock=lambda: self.now)

    def end(self, code):
        self.codes.append(code)
        self.ended.set()


def test_it_ends_with_its_code_once_the_time_has_come():
    said = []
    scene = Scene(lambda: said.append(scene.codes[:]))
    with scene.deadline:
        scene.deadline.code = 3
        scene.deadline.arm(0.001)
        scene.now = 1.0
        assert scene.ended.wait(PATIENCE)
    assert scene.codes == [3]
    assert said == [[]]


def test_without_a_word_it_is_a_failure():
    scene = Scene()
    with scene.deadline:
        scene.deadline.arm(0)
        assert scene.ended.wait(PATIENCE)
    assert scene.codes == [1]


def test_the_earliest_time_counts():
    scene = Scene()
    with scene.deadline:
        scene.deadline.arm(1000)
        scene.deadline.arm(0)
        scene.deadline.arm(2000)
        assert scene.ended.wait(PATIENCE)


def test_a_report_without_a_thread_does_not_keep_the_process():
    said = []
    scene = Scene(lambda: said.append("a word"))
    with scene.deadline, no_thread():
        scene.deadline.arm(0)
        assert scene.ended.wait(PATIENCE)
    assert said == []


def test_without_a_thread_the_process_ends_by_itself():
    scene = Scene()
    with no_thread(), scene.deadline:
        pass
    assert scene.codes == []


@pytest.mark.parametrize("armed", [False, True])
def test_it_lets_a_process_be_that_needs_no_help(armed):
    threads = set(threading.enumerate())
    scene = Scene()
    with scene.deadline:
        if armed:
            scene.deadline.arm(1000)
            scene.deadline.disarm()
    assert scene.codes == []
    assert set(threading.enumerate()) == threads


def test_a_report_that_hangs_does_not_matter():
    go_on = threading.Event()
    scene = Scene(go_on.wait)
    with scene.deadline:
        scene.deadline.arm(0)
        assert scene.ended.wait(PATIENCE)
    go_on.set()
    assert scene.codes == [1]


def test_it_goes_on_after_the_block_if_its_time_is_set():
    scene = Scene()
    with scene.deadline:
        scene.deadline.arm(0.01)
    scene.now = 1.0
    assert scene.ended.wait(PATIENCE)
