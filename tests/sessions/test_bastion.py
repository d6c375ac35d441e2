"""The life of an instance that is started on demand, in virtual time."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.aws.bastions import Instance
from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import AccessDenied, TargetAsleep, TargetNotFound, Throttled
from ssmtunneld.sessions.bastion import (
    PATIENCE,
    Bastion,
    BastionPhase,
    BastionTargetSelector,
)
from ssmtunneld.sessions.bastion_plan import LEASE, LOOK, Mark, read_mark, write_mark
from tests.sessions.rig import Journal
from tests.support.clockwork import virtual
from tests.support.turns import elapse

NODE = "i-0123456789abcdef0"
NOON = 1_790_000_000.0
KEY = "ssmtunneld:me"
BOOT = 40.0
STOP_AFTER = 1800.0


class Machine:
    """EC2 and Systems Manager: what they answer, and what they were asked."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.on, self.since, self.launched = False, -1000.0, NOON - 90_000
        self.tags = {}
        self.calls = []
        self.failures = {}
        self.agent = True
        self.sessions = 0
        self.loses_answer = False
        self.start_takes = 0.0

    def now(self):
        return NOON + self.loop.time()

    @property
    def state(self):
        settled = self.loop.time() >= self.since + BOOT / 2
        names = ("stopped", "stopping") if not self.on else ("running", "pending")
        return names[0] if settled else names[1]

    def note(self, name):
        self.calls.append(name)
        if name in self.failures:
            raise self.failures[name]

    async def find(self):
        self.note("find")
        return Instance(NODE, self.state, float(int(self.launched)), dict(self.tags))

    async def start(self, instance):
        self.note("start")
        was_us = not self.on
        if was_us:
            self.on, self.since, self.launched = True, self.loop.time(), self.now()
        await elapse(self.start_takes)
        if self.loses_answer:
            self.loses_answer = False
            raise error(Throttled)
        return was_us

    async def stop(self, instance):
        self.note("stop")
        self.on, self.since = False, self.loop.time()

    async def write(self, instance, key, value):
        self.note("write")
        self.tags[key] = value

    async def erase(self, instance, key):
        self.note("erase")
        self.tags.pop(key, None)

    async def is_connected(self, instance):
        self.note("is_connected")
        ready = self.loop.time() >= self.since + BOOT
        return self.agent and self.on and ready

    async def strangers(self, instance):
        self.note("strangers")
        return self.sessions

    @property
    def changes(self):
        """The calls that change something."""
        return [c for c in self.calls if c in {"write", "erase", "start", "stop"}]


class User:
    busy = False


def error(kind):
    return kind("StartInstances", clean("Code"), clean("no"), "do this")


@asynccontextmanager
async def attended(machine, stop_after=STOP_AFTER, tasks=2):
    journal = Journal()
    bastion = Bastion(
        "name:bastion",
        machine,
        KEY,
        "me@here",
        stop_after=stop_after,
        wall_clock=machine.now,
        log=journal.log,
    )
    bastion.journal = journal
    user = User()
    with bastion.used_by(user):
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(bastion.attend()) for _ in range(tasks)]
            await elapse(1.0)
            yield bastion, user
            for task in running:
                task.cancel()


def come(bastion, user):
    user.busy = True
    bastion.ask()


@virtual
async def test_it_is_claimed_started_awaited_and_used():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        assert bastion.phase is BastionPhase.ASLEEP
        assert isinstance(bastion.hindrance, TargetAsleep)
        assert machine.changes == []
        come(bastion, user)
        await elapse(1.0)
        assert machine.changes[:2] == ["write", "start"]
        assert str(bastion.hindrance) == f"starting bastion {NODE}: pending"
        await elapse(BOOT / 2 + 2)
        assert str(bastion.hindrance) == f"bastion {NODE} runs, waiting for its agent"
        with pytest.raises(TargetAsleep):
            await BastionTargetSelector(bastion).choose()
        await elapse(BOOT / 2)
        assert bastion.awake
        assert await BastionTargetSelector(bastion).choose() == NODE
        assert machine.changes == ["write", "start", "write"]
        assert bastion.is_ours
        machine.calls.clear()
        await elapse(4 * LEASE)
        assert machine.calls.count("find") < 4 * LEASE / LOOK + 30
        assert machine.changes == ["write"] * 10
        assert read_mark(machine.tags[KEY]).until > machine.now()


@virtual
async def test_it_is_stopped_so_long_after_the_last_connection():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(4000)
        user.busy = False
        await elapse(STOP_AFTER - 1)
        assert machine.on
        await elapse(120)
        assert not machine.on
        assert bastion.stops == 1
        await elapse(600)
        assert machine.tags == {}
        assert bastion.phase is BastionPhase.ASLEEP


@virtual
async def test_who_comes_between_announcement_and_stop_is_served():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        user.busy = False
        while not read_mark(machine.tags[KEY]).stopping:
            await elapse(0.5)
        assert not bastion.awake
        come(bastion, user)
        await elapse(10)
        assert bastion.awake
        assert "stop" not in machine.calls


@virtual
async def test_a_stranger_s_session_keeps_it_up():
    machine = Machine()
    machine.sessions = 1
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        user.busy = False
        await elapse(3 * STOP_AFTER)
        assert machine.on
        machine.sessions = 0
        await elapse(2 * STOP_AFTER)
        assert not machine.on


@virtual
async def test_a_lost_answer_is_not_taken_for_somebody_else_s_start():
    machine = Machine()
    machine.loses_answer = True
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(200)
        assert bastion.awake
        assert bastion.is_ours
        user.busy = False
        await elapse(2 * STOP_AFTER)
        assert not machine.on


@virtual
async def test_without_a_time_it_is_neither_claimed_nor_stopped():
    machine = Machine()
    async with attended(machine, stop_after=None) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        assert bastion.awake
        assert machine.changes == ["start"]
        user.busy = False
        await elapse(90_000)
        await bastion.leave()
        assert machine.on


@virtual
async def test_what_is_refused_is_told_at_once_and_tried_for_the_next_one():
    machine = Machine()
    machine.failures["start"] = error(AccessDenied)
    async with attended(machine) as (bastion, user):
        told = []
        with bastion.telling(lambda: told.append(bastion.refusal)):
            come(bastion, user)
            await elapse(3)
        assert isinstance(bastion.refusal, AccessDenied)
        assert told
        assert bastion.hindrance.advice == "do this"
        user.busy = False
        machine.failures.clear()
        await elapse(100)
        come(bastion, user)
        await elapse(100)
        assert bastion.awake


@virtual
async def test_a_failure_that_passes_is_waited_out():
    machine = Machine()
    machine.failures["find"] = error(Throttled)
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(30)
        assert bastion.refusal is None
        assert isinstance(bastion.hindrance, Throttled)
        machine.failures.clear()
        await elapse(120)
        assert bastion.awake


@virtual
async def test_an_agent_that_never_comes_is_explained():
    machine = Machine()
    machine.agent = False
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(BOOT)
        assert bastion.hindrance.advice == ""
        await elapse(PATIENCE)
        assert "SSM agent" in bastion.hindrance.advice


@virtual
async def test_without_permission_to_ask_the_agent_is_tried():
    machine = Machine()
    machine.failures["is_connected"] = error(AccessDenied)
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(BOOT)
        assert bastion.awake


@virtual
async def test_a_session_without_an_agent_makes_it_look():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        user.busy = False
        machine.on, machine.since = False, -1000.0
        await elapse(6)
        BastionTargetSelector(bastion).avoid(NODE)
        await elapse(1)
        assert not bastion.awake


@virtual
async def test_the_end_stops_what_nobody_else_needs():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        await bastion.leave()
        assert not machine.on


@virtual
async def test_the_end_leaves_what_another_daemon_holds():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        machine.tags["ssmtunneld:other"] = machine.tags[KEY]
        await bastion.leave()
        assert machine.on


@virtual
async def test_a_person_wakes_it_without_a_connection_and_it_is_stopped_after_that():
    machine = Machine()
    async with attended(machine) as (bastion, _):
        bastion.wake(180)
        assert bastion.needed
        await elapse(BOOT + 10)
        assert bastion.awake
        assert not bastion.needed
        await elapse(STOP_AFTER - BOOT - 30)
        assert machine.on
        await elapse(150)
        # Well before the patience of a wait would be over twice.
        assert not machine.on
        assert machine.changes.count("start") == 1


@virtual
async def test_a_person_waits_no_longer_than_they_want_nor_in_vain():
    machine = Machine()
    machine.failures["start"] = error(Throttled)
    async with attended(machine) as (bastion, _):
        bastion.wake(180)
        await elapse(170)
        assert bastion.needed
        await elapse(20)
        assert not bastion.needed
        machine.failures["start"] = error(AccessDenied)
        bastion.wake(180)
        await elapse(40)
        assert isinstance(bastion.refusal, AccessDenied)
        assert not bastion.needed
        tried = machine.calls.count("start")
        await elapse(100)
        assert machine.calls.count("start") == tried


@asynccontextmanager
async def seen_off(machine, stop_after=STOP_AFTER):
    """Yield a bastion that was used, and a task that sees it off."""
    async with attended(machine, stop_after) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        user.busy = False
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bastion.see_off())
        yield bastion, task
        task.cancel()


@virtual
async def test_it_is_seen_off_until_it_is_stopped():
    machine = Machine()
    async with seen_off(machine) as (_, task):
        await elapse(STOP_AFTER - 1)
        assert machine.on
        assert not task.done()
        assert read_mark(machine.tags[KEY]).until > machine.now()
        await elapse(120)
        assert not machine.on
        assert machine.tags == {}
        assert task.done()


@virtual
async def test_it_is_seen_off_at_once_where_it_is_for_others_to_stop():
    machine = Machine()
    machine.on, machine.since = True, -1000.0
    async with seen_off(machine) as (_, task):
        await elapse(STOP_AFTER + 5)
        assert task.done()
        assert machine.changes == []
    machine = Machine()
    async with seen_off(machine, stop_after=None) as (_, task):
        await elapse(5)
        assert task.done()
        assert machine.on


@virtual
async def test_a_stranger_and_a_failure_are_waited_out_when_it_is_seen_off():
    machine = Machine()
    async with seen_off(machine) as (_, task):
        machine.sessions = 1
        await elapse(STOP_AFTER + 120)
        assert machine.on
        assert not task.done()
        machine.sessions = 0
        machine.failures["stop"] = error(Throttled)
        await elapse(STOP_AFTER + 120)
        assert machine.on
        assert not task.done()
        machine.failures.clear()
        await elapse(120)
        assert not machine.on
        assert task.done()


@virtual
async def test_two_that_leave_one_after_the_other_do_not_wait_for_each_other_s_leases():
    machine = Machine()
    other = "ssmtunneld:other"
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        machine.tags[other] = write_mark(Mark("you", until=machine.now() + 500))
        user.busy = False
        await bastion.leave()
    assert machine.on
    mine = read_mark(machine.tags[KEY])
    assert mine.until == 0.0
    assert mine.launch  # whoever is last knows by it that one of us started it
    del machine.tags[other]
    async with attended(machine) as (bastion, user):
        await elapse(STOP_AFTER + 60)
        assert not machine.on


@virtual
async def test_one_of_two_that_leave_in_the_same_moment_stops_it():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        other = "ssmtunneld:other"
        machine.tags[other] = write_mark(Mark("you", until=machine.now() + 500))
        write = machine.write

        async def leave_too(*args):
            await write(*args)
            machine.tags.pop(other, None)

        machine.write = leave_too
        await bastion.leave()
    assert not machine.on


def test_the_end_stops_also_what_is_just_being_started(monkeypatch):
    monkeypatch.setattr("tests.sessions.test_bastion.BOOT", 10.0)

    @virtual
    async def run(loses_answer):
        machine = Machine()
        machine.start_takes, machine.loses_answer = 3.0, loses_answer
        async with attended(machine) as (bastion, user):
            come(bastion, user)
            await elapse(1)
            assert machine.changes == ["write", "start"]
            user.busy = False
            await bastion.leave()
            assert not machine.on
            assert not bastion.journal.lines("bastion.left")

    run(loses_answer=False)
    run(loses_answer=True)


@virtual
async def test_what_the_end_cannot_stop_in_time_is_told():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(1)
        await bastion.leave()  # EC2 stops nothing that is pending
        assert machine.on
        (line,) = bastion.journal.lines("bastion.left")
        assert line["target"] == NODE
        assert "ec2 stop-instances" in line["advice"]


@virtual
async def test_what_the_end_may_not_stop_is_told():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        machine.failures["stop"] = error(AccessDenied)
        await bastion.leave()
        assert len(bastion.journal.lines("bastion.left")) == 1


@virtual
async def test_an_end_that_is_forced_tells_what_it_leaves():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await bastion.leave()
        assert len(bastion.journal.lines("bastion.left")) == 1


@pytest.mark.parametrize("state", ["stopped", "running", "missing"])
def test_what_no_tunnel_has_and_nobody_of_us_started_is_looked_at_no_more(state):
    @virtual
    async def run():
        machine = Machine()
        machine.on = state == "running"
        async with attended(machine) as (bastion, user), asyncio.TaskGroup() as alone:
            # As the process does, also after the tunnel has gone.
            task = alone.create_task(bastion.attend())
            if state == "missing":
                machine.failures["find"] = error(TargetNotFound)
            bastion._users.discard(user)
            await elapse(2 * LOOK)
            looks = machine.calls.count("find")
            await elapse(86_400)
            assert machine.calls.count("find") - looks <= 1
            machine.failures.clear()
            with bastion.used_by(user):
                come(bastion, user)
                await elapse(BOOT + LOOK)
                assert bastion.awake
            task.cancel()

    run()


@virtual
async def test_what_no_tunnel_has_any_more_is_still_stopped_if_we_have_started_it():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(100)
        bastion._users.discard(user)
        await elapse(STOP_AFTER + LEASE)
        assert not machine.on
        await elapse(BOOT + 600)
        assert machine.tags == {}
        looks = machine.calls.count("find")
        await elapse(86_400)
        assert machine.calls.count("find") - looks <= 1


@virtual
async def test_the_end_waits_for_nothing_after_a_stop():
    machine = Machine()
    async with attended(machine, stop_after=1.0) as (bastion, user):
        come(bastion, user)
        await elapse(BOOT + 1)
        user.busy = False
        await elapse(LOOK + 5)
        assert not machine.on
        before = machine.now()
        await bastion.leave()
        assert machine.now() == before
        assert not bastion.journal.lines("bastion.left")


@virtual
async def test_the_end_does_not_wait_for_a_start_that_was_refused():
    machine = Machine()
    machine.failures["start"] = error(AccessDenied)
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(5)
        assert "start" in machine.calls
        before = machine.now()
        await bastion.leave()
        assert machine.now() == before
        assert not bastion.journal.lines("bastion.left")


NEW = "ssmtunneld:new"


@virtual
async def test_a_mark_moves_to_another_key_while_it_is_used():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(BOOT + 10)
        launched = read_mark(machine.tags[KEY]).launch
        bastion.move_mark(NEW)
        await elapse(1.0)
        assert bastion.awake
        (mark,) = map(read_mark, machine.tags.values())
        assert [*machine.tags] == [NEW]
        assert (mark.launch, mark.until > machine.now()) == (launched, True)
        await elapse(LEASE)
        assert [*machine.tags] == [NEW]
        user.busy = False
        await elapse(STOP_AFTER + BOOT + 400)
        assert (machine.on, machine.tags) == (False, {})
        assert bastion.stops == 1


@virtual
async def test_a_mark_moves_before_the_old_one_goes_and_a_start_on_its_way_counts():
    machine = Machine()
    machine.start_takes = 2.0
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(1.0)
        assert machine.changes == ["write", "start"]
        bastion.move_mark(NEW)
        await elapse(BOOT + 10)
        assert machine.changes[2:4] == ["write", "erase"]
        assert [*machine.tags] == [NEW]
        assert read_mark(machine.tags[NEW]).launch == int(machine.launched)
        assert bastion.is_ours


@virtual
async def test_what_the_daemon_before_has_started_is_stopped_under_its_key():
    machine = Machine()
    machine.on, machine.launched = True, NOON - 600
    async with attended(machine) as (bastion, _):
        await elapse(60)
        assert machine.changes == []
        # It was killed, and this one takes its place.
        machine.tags[NEW] = write_mark(Mark("me", claim=NOON - 605, was=5.0))
        bastion.move_mark(NEW)
        await elapse(1.0)
        assert bastion.is_ours
        assert read_mark(machine.tags[NEW]).launch == NOON - 600
        await elapse(STOP_AFTER + BOOT + 400)
        assert (machine.on, machine.tags) == (False, {})


@virtual
async def test_a_mark_that_cannot_be_moved_is_used_as_it_is_and_moved_later():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(BOOT + 10)
        machine.failures["write"] = error(Throttled)
        bastion.move_mark(NEW)
        await elapse(LOOK)
        assert bastion.awake
        assert [*machine.tags] == [KEY]
        del machine.failures["write"]
        machine.failures["erase"] = error(AccessDenied)
        await elapse(2 * LOOK)
        assert bastion.awake
        assert sorted(machine.tags) == [KEY, NEW]
        del machine.failures["erase"]
        await elapse(2 * LOOK)
        assert [*machine.tags] == [NEW]


@virtual
async def test_a_mark_moves_once_and_to_another_key_only():
    machine = Machine()
    async with attended(machine) as (bastion, user):
        come(bastion, user)
        await elapse(BOOT + 10)
        before = machine.changes
        bastion.move_mark(KEY)
        await elapse(10)
        assert machine.changes == before
