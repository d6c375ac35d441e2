"""Instances that are switched on and off, as EC2 shows them."""

import pytest

from ssmtunneld.emulator.power import TAG_LIMIT, Power, PowerError, PowerState
from ssmtunneld.emulator.settings import EmulatorSettings, Node

ID = "i-0123456789abcdef0"


def power(ended=None, **settings):
    defaults = {"stopped": frozenset({ID}), "boot_time": 10.0}
    return Power(
        EmulatorSettings(**{**defaults, **settings}),
        (lambda _: None) if ended is None else ended.append,
    )


def test_a_start_takes_its_time(turn_clock):
    machine = power()
    assert machine.state_of(ID) is PowerState.STOPPED
    first = machine.launched(ID)
    assert machine.start(ID) == (PowerState.STOPPED, PowerState.PENDING)
    assert machine.start(ID) == (PowerState.PENDING, PowerState.PENDING)
    assert machine.launched(ID) > first
    turn_clock(5.0)
    assert machine.state_of(ID) is PowerState.RUNNING
    assert not machine.has_agent(ID)
    turn_clock(5.0)
    assert machine.has_agent(ID)
    assert machine.describe(ID)["starts"] == 1


def test_a_stop_ends_its_sessions_and_cannot_be_hurried(turn_clock):
    ended = []
    machine = power(ended, stopped=frozenset())
    assert machine.has_agent(ID)
    assert machine.stop(ID) == (PowerState.RUNNING, PowerState.STOPPING)
    assert ended == [ID]
    assert not machine.has_agent(ID)
    with pytest.raises(PowerError, match="not in a state"):
        machine.start(ID)
    turn_clock(5.0)
    assert machine.stop(ID) == (PowerState.STOPPED, PowerState.STOPPED)
    assert machine.describe(ID)["stops"] == 1


@pytest.mark.usefixtures("turn_clock")
def test_tags_are_written_over_and_taken_away():
    machine = power(nodes={ID: Node(name="bastion", tags={"Role": "x"})})
    assert machine.tags(ID) == {"Name": "bastion", "Role": "x"}
    machine.write_tags(ID, {"Role": "y", "a": ""})
    machine.erase_tags(ID, {"Name": None, "unknown": None, "Role": "x"})
    assert machine.tags(ID) == {"Role": "y", "a": ""}
    machine.erase_tags(ID, {"a": ""})
    assert machine.tags(ID) == {"Role": "y"}
    with pytest.raises(PowerError, match="maximum"):
        machine.write_tags(ID, {str(n): "" for n in range(TAG_LIMIT)})


@pytest.fixture
def turn_clock(monkeypatch):
    """Return what lets time pass."""
    now = [100.0]
    monkeypatch.setattr(Power, "_now", staticmethod(lambda: now[0]))

    def turn(seconds):
        now[0] += seconds

    return turn
