"""The language of faults, and the plan that keeps them."""

import asyncio

import pytest

from ssmtunneld.emulator.faults import (
    NAMES,
    Action,
    Direction,
    FaultPlan,
    Knobs,
    LineFaults,
    MessageLimit,
    duration,
)
from ssmtunneld.errors import ConfigError


def test_a_specification_without_direction_is_for_both():
    plan = FaultPlan(["drop=0.02,duplicate=0.1"])
    assert plan.knobs.up == plan.knobs.down == LineFaults(drop=0.02, duplicate=0.1)


def test_a_direction_limits_a_fault_to_it():
    plan = FaultPlan(["up:delay=20ms", "down:swap-every=3", "down:lose-acks=1"])
    assert plan.line(Direction.UP) == LineFaults(delay=0.02)
    assert plan.line(Direction.DOWN) == LineFaults(swap_every=3, lose_acks=1)


@pytest.mark.parametrize(
    ("spec", "attribute", "value"),
    [
        ("cut-every=3s", "cut_every", 3.0),
        ("bye-every=60m", "bye_every", 3600.0),
        ("blackhole", "blackhole", True),
        ("blackhole=on", "blackhole", True),
        ("blackhole=off", "blackhole", False),
        ("refuse-dial", "refuse_dial", True),
        ("stall-dial", "stall_dial", True),
        ("dns-failure", "dns_failure", True),
        ("handshake-stall", "handshake_stall", True),
        ("agent-freeze", "agent_freeze", True),
        ("check-digest", "check_digest", True),
        ("terminate-ack=after", "terminate_ack", "after"),
        ("max-message=1024", "max_message", MessageLimit(1024, "closed")),
        ("max-message=8192:1009", "max_message", MessageLimit(8192, "1009")),
        ("max-message=1:silence", "max_message", MessageLimit(1, "silence")),
        ("slow-destination=64k", "slow_destination", 65536),
        ("slow-destination=1M", "slow_destination", 1048576),
        ("slow-destination=0", "slow_destination", 0),
        ("start-delay=1.5", "start_delay", 1.5),
        ("offline=i-0123456789abcdef0", "offline", {"i-0123456789abcdef0"}),
    ],
)
def test_each_name_sets_its_knob(spec, attribute, value):
    assert getattr(FaultPlan([spec]).knobs, attribute) == value


def test_a_seed_outlives_a_clear():
    plan = FaultPlan(["seed=7", "drop=1"])
    plan.clear()
    assert (plan.seed, plan.knobs, plan.specs) == (7, Knobs(), [])


def test_an_error_is_given_as_often_as_asked():
    plan = FaultPlan(["start-error=ThrottlingException*2", "resume-error=403"])
    taken = [plan.api_error("start") for _ in range(3)]
    assert taken == ["ThrottlingException", "ThrottlingException", None]
    assert {plan.api_error("resume") for _ in range(9)} == {"403"}
    assert plan.api_error("terminate") is None


def test_actions_wait_for_sessions_at_the_start_and_are_returned_later():
    plan = FaultPlan(["up:pause"])
    assert plan.knobs.on_ready == [(Action.PAUSE, Direction.UP)]
    assert plan.apply(["cut", "start"]) == [(Action.CUT, None), (Action.START, None)]


def test_a_plan_can_be_replaced_whole():
    plan = FaultPlan(["drop=0.5"])
    plan.replace(["delay=1ms"])
    assert plan.knobs.up == LineFaults(delay=0.001)
    assert plan.specs == ["delay=1ms"]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("drp=0.1", r"no fault named 'drp'; did you mean drop\?"),
        ("start-eror=X", r"no fault named 'start-eror'; did you mean start-error\?"),
        ("xyz", "no fault named 'xyz'$"),
        ("sideways:drop=0.1", "no fault named 'sideways:drop'"),
        ("drop=2", "not between 0 and 1"),
        ("drop=x", "not a probability"),
        ("drop", "not a probability"),
        ("swap-every=-1", "not a whole number"),
        ("delay=20 ms", "not a duration"),
        ("slow-destination=fast", "not bytes per second"),
        ("blackhole=maybe", "not on or off"),
        ("terminate-ack=soon", "is not one of before, after, never"),
        ("max-message=big", "not a whole number"),
        ("max-message=1:shout", "is not one of closed, 1009, silence"),
        ("pause=3", "takes no value"),
        ("offline=", "needs a value"),
        ("offline=web-1", "'web-1' is not a target"),
        ("online=web-1", "'web-1' is not a target"),
        ("start-error=", "needs a value"),
        ("start-error=X*y", "not a whole number"),
        ("up:cut-every=3s", "cut-every has no direction"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(spec, problem):
    plan = FaultPlan(["drop=0.5"])
    before = plan.knobs
    for change in (plan.apply, plan.replace):
        with pytest.raises(ConfigError, match=problem):
            change(["delay=5ms", spec])
    assert plan.knobs is before
    assert plan.knobs.up == LineFaults(drop=0.5)


def test_an_agent_that_was_taken_away_outlives_other_faults():
    one, two = "i-00000001", "i-00000002"
    plan = FaultPlan([f"offline={one}"], [two])
    assert plan.offline == {one, two}
    plan.replace(["drop=0.5"])
    plan.clear()
    assert plan.offline == {two}
    plan.take_away(one)
    plan.replace(["delay=5ms", f"online={two}"])
    assert (plan.offline, plan.specs) == ({one}, ["delay=5ms"])
    plan.bring_back(one)
    assert not plan.is_offline(one)
    with pytest.raises(ConfigError, match="is not a target"):
        plan.take_away("web-1")


def test_every_action_is_a_name():
    assert {action.value for action in Action} <= set(NAMES)


def test_durations_have_units():
    assert [duration(t) for t in ("20ms", "3s", "2m", "1h", "0.5")] == [
        0.02,
        3.0,
        120.0,
        3600.0,
        0.5,
    ]


async def test_waiting_ends_when_the_condition_comes_true():
    plan = FaultPlan(["blackhole"])
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(plan.until(lambda knobs: not knobs.blackhole))
        await asyncio.sleep(0)
        plan.apply(["drop=0.1"])
        await asyncio.sleep(0)
        assert not waiting.done()
        plan.clear()
