import shlex
import sys
from contextlib import closing

import pytest

from benchmarks import clients, processes
from benchmarks.beside import command_line, contest, steps
from benchmarks.beside.contest import Conditions, Contender, measure
from benchmarks.beside.forwarder import split
from benchmarks.beside.steps import Destination, Upload
from tests.benchmarks.test_beside_forwarder import STUB

CONDITIONS = Conditions("", "none", runs=1, seconds=0.1)


def stub(mode=""):
    program = shlex.join([sys.executable, str(STUB)])
    return split(f"{program} {{local_port}} {{port}} {mode}")


@pytest.fixture
def only(monkeypatch):
    """Return a function that leaves some steps, and takes the pauses out of them."""

    def choose(*works):
        chosen = [step for step in steps.STEPS if step.work in works]
        monkeypatch.setattr(contest, "STEPS", chosen)
        monkeypatch.setattr(contest, "SETTLING", 0)
        monkeypatch.setattr(steps, "SETTLING", 0)

    return choose


@pytest.mark.integration
def test_ours_is_measured_beside_one_that_fails_a_row(only):
    only(steps.first_bytes, steps.memory, steps.burst)
    ours = Contender("ours", split(command_line.OUR_COMMAND))
    other = Contender("other", stub("short"))
    floor = measure([ours, other], CONDITIONS)
    assert len(floor) == 1
    assert ours.failures == {}
    assert set(ours.figures) == {"start", "first byte", "resident", "burst"}
    assert set(other.figures) == {"start", "first byte", "resident"}
    assert other.failures.keys() == {"burst"}
    assert "bytes are missing" in other.failures["burst"]
    assert all(len(found) == 1 for found in ours.figures.values())


@pytest.mark.integration
def test_one_that_never_starts_fails_every_row(only):
    only(steps.first_bytes, steps.memory)
    other = Contender("other", [sys.executable, "-c", "exit('no')", "{local_port}"])
    measure([other], CONDITIONS)
    assert set(other.failures.values()) == {"it ended with 1: no"}
    assert other.failures.keys() == {row.key for row in steps.ROWS}
    assert not other.figures


@pytest.mark.integration
def test_an_upload_counts_what_arrives_and_tells_when_it_is_cut_off():
    with (
        processes.destination() as port,
        closing(Destination(port)) as destination,
    ):
        assert destination.swallowed() == 0
        with closing(Upload(port, port)) as sending:
            while not destination.swallowed():
                sending.check()
        destination.until_quiet()
        assert destination.swallowed() > 0
        with clients.connect(port) as client:
            clients.upload(client, 1000)
        before = destination.swallowed()
        with clients.connect(port) as client:
            clients.upload(client, 2000)
        assert destination.swallowed() == before + 2000


@pytest.mark.integration
def test_an_upload_that_is_cut_off_says_so():
    with processes.destination() as port, closing(Upload(port, port)) as sending:
        sending._client.shutdown(2)
        sending._thread.join()
        with pytest.raises(OSError, match=r"."):
            sending.check()
