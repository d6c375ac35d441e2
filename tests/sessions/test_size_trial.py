"""Trials of larger messages in a pool: nobody loses anything by them."""

import asyncio
from itertools import count

import pytest

from ssmtunneld.errors import LinkLost
from ssmtunneld.sessions.counters import Reason
from ssmtunneld.sessions.message_sizes import AgentKind, MessageSizes
from ssmtunneld.sessions.policy import Policy
from ssmtunneld.sessions.pool import MOST_TRIALS_LOST, TRIAL_PATIENCE
from ssmtunneld.sessions.size_trial import HURRIED_TIMEOUT, TIMEOUT
from tests.sessions.rig import basic, check_alive, living_pool, now, until
from tests.support.clockwork import virtual
from tests.support.fake_agent import AgentNature
from tests.support.fake_control import START, TERMINATE, Service, elapse

NOW = 1_800_000_000.0
OURS = AgentKind("3.3.987.0", "ssmmessages.invalid")
LONE = Policy(spare=False)
ENDS = ["closed", "1009", "silence"]


def known(kind=OURS, size=8192):
    """Return what a process knows that has tried a size before."""
    sizes = MessageSizes(lambda: NOW)
    assert sizes.begin(kind, size) == 4096
    sizes.accept(kind, size)
    return sizes


def nothing():
    """Return what a new process knows."""
    return MessageSizes(lambda: NOW)


def taking(largest=None, beyond="closed"):
    """Return a service whose agents take messages of so many bytes."""
    return Service(agent=AgentNature(largest=largest, beyond=beyond))


def limits(rig):
    """Return the size that each session may use."""
    return [m.channel.message_size for m in rig.pool.snapshot().members]


def trials(rig):
    """Return the counts of trials."""
    return rig.pool.snapshot().counts.size_trials


def warnings(rig):
    """Return all lines of the log that want attention."""
    entries = rig.journal._capture.entries
    return [e["event"] for e in entries if e["log_level"] in {"warning", "error"}]


class Rigged:
    """A pool that may try sizes, as a context."""

    def __init__(self, sizes=None, service=None, policy=LONE, limit=8192):
        self.context = living_pool(policy, service, sizes=sizes or nothing())
        self.limit = limit

    async def __aenter__(self):
        rig = await self.context.__aenter__()
        rig.pool.message_limit = self.limit
        return rig

    async def __aexit__(self, *cause):
        return await self.context.__aexit__(*cause)


@virtual
async def test_what_the_agent_acknowledges_is_used_from_the_first_connection_on():
    async with Rigged() as rig:
        await rig.until_ready()
        assert limits(rig) == [8192]
        assert trials(rig) == {"accepted": 2, "lost": 0}
        # Two messages of NOPs, each a round trip, before it was offered to anybody.
        assert len(rig.control.newest.agent.nops) == (4096 + 8192) // 8
        sizes = [line["size"] for line in rig.journal.lines("size.accepted")]
        assert sizes == [4096, 8192]
        await check_alive(await rig.open())
        assert rig.starts_until_now() == 1


@virtual
async def test_the_next_sessions_use_what_is_known_and_try_nothing():
    sizes = known()
    async with Rigged(sizes, policy=Policy(warm=3, spare=False)) as rig:
        await rig.until_ready(3)
        assert limits(rig) == [8192] * 3
        assert all(not s.agent.nops for s in rig.control.alive)


@virtual
async def test_of_sessions_that_start_together_one_tries_and_all_profit():
    async with Rigged(policy=Policy(warm=3, spare=False)) as rig:
        await rig.until_ready(3)
        await elapse(0.1)
        tried = [bool(s.agent.nops) for s in rig.control.alive]
        assert sorted(tried) == [False, False, True]
        assert limits(rig) == [8192] * 3


@pytest.mark.parametrize("beyond", ENDS)
@virtual
async def test_a_session_that_dies_of_a_trial_is_replaced_and_no_trouble(beyond):
    async with Rigged(service=taking(1024, beyond)) as rig:
        await until(lambda: trials(rig)["lost"])
        snapshot = rig.pool.snapshot()
        assert snapshot.trouble is None
        assert snapshot.retry_in is None
        await rig.until_ready()
        assert rig.starts_until_now() == 2
        assert limits(rig) == [1024]
        assert trials(rig) == {"accepted": 0, "lost": 1}
        counts = rig.pool.snapshot().counts
        assert counts.ended == {Reason.TRIAL: 1}
        assert (counts.restarted, counts.failed) == (0, {})
        assert warnings(rig) == []
        (line,) = rig.journal.lines("size.refused")
        assert (line["size"], line["agent"]) == (4096, OURS.version)
        await check_alive(await rig.open())
        assert len(rig.control.alive) == 1


@pytest.mark.parametrize("beyond", ENDS)
@virtual
async def test_the_size_before_the_one_that_was_refused_is_used(beyond):
    async with Rigged(service=taking(8192, beyond), limit=32768) as rig:
        await until(lambda: trials(rig)["lost"])
        await rig.until_ready()
        assert limits(rig) == [8192]
        assert trials(rig) == {"accepted": 2, "lost": 1}
        await elapse(3600)
        assert rig.starts_until_now() == 2


@virtual
async def test_silence_is_waited_for_for_three_seconds():
    async with Rigged(service=taking(1024, "silence")) as rig:
        await until(lambda: rig.made and rig.made[0].terms)
        begun = now()
        await until(lambda: trials(rig)["lost"])
        assert TIMEOUT <= now() - begun < TIMEOUT + 0.5


@virtual
async def test_the_next_session_is_started_before_the_lost_one_is_terminated():
    async with Rigged(service=taking(1024, "silence")) as rig:
        release = rig.control.hold(TERMINATE)
        await rig.until_ready()
        assert rig.control.count(START) == 2
        assert len(rig.control.alive) == 2
        release()
        await until(lambda: len(rig.control.alive) == 1)


@virtual
async def test_nothing_is_tried_while_a_connection_waits():
    async with Rigged(policy=Policy(warm=0)) as rig:
        await rig.open()
        assert rig.control.newest.agent.nops == []
        assert limits(rig) == [1024]


@virtual
async def test_a_running_upload_profits_from_the_trial_of_the_spare_session():
    async with Rigged(policy=Policy(warm=0)) as rig:
        stream = await rig.open()
        rig.pool.policy = Policy(warm=1, max_sessions=2)
        await rig.until_ready(2)
        assert limits(rig) == [8192, 8192]
        await check_alive(stream)


@pytest.mark.parametrize("beyond", [None, *ENDS])
@virtual
async def test_a_connection_that_comes_during_a_trial_takes_another_session(beyond):
    largest = None if beyond is None else 1024
    async with Rigged(service=taking(largest, beyond), policy=Policy(warm=0)) as rig:
        first = await rig.open()
        rig.pool.policy = Policy(warm=1, max_sessions=2)
        await until(lambda: len(rig.control.sessions) == 2)
        await until(lambda: rig.control.newest.agent.open)
        asked = now()
        second = await rig.open()
        assert now() - asked < 0.5
        await rig.until_ready(2)
        for stream in (first, second):
            await check_alive(stream)


@virtual
async def test_a_connection_that_comes_in_the_only_session_s_trial_waits_for_its_end():
    async with Rigged() as rig:
        await until(lambda: rig.made and rig.made[0].terms)
        asked = now()
        stream = await rig.pool.open_stream(15)
        assert now() - asked < 0.1
        await check_alive(stream)
        # No second trial began once it waited.
        assert trials(rig) == {"accepted": 1, "lost": 0}
        assert rig.starts_until_now() == 1


@pytest.mark.parametrize("beyond", ENDS)
@virtual
async def test_a_connection_that_comes_in_a_trial_that_fails_gets_the_next_session(
    beyond,
):
    async with Rigged(service=taking(1024, beyond)) as rig:
        await until(lambda: rig.made and rig.made[0].terms)
        asked = now()
        stream = await rig.open()
        assert now() - asked < HURRIED_TIMEOUT + 1
        await check_alive(stream)
        await until(lambda: trials(rig) == {"accepted": 0, "lost": 1})


@virtual
async def test_the_only_session_is_not_tried_where_connections_cannot_wait():
    async with Rigged(service=taking(1024)) as rig:
        rig.pool.connect_timeout = TRIAL_PATIENCE - 1
        await rig.until_ready()
        assert trials(rig) == {"accepted": 0, "lost": 0}
        # Where another one serves, nobody waits.
        rig.pool.policy = Policy(warm=2, spare=False)
        await until(lambda: trials(rig)["lost"])
        await rig.until_ready(2)


@virtual
async def test_a_limit_of_one_kilobyte_tries_nothing():
    async with Rigged(limit=1024) as rig:
        await rig.until_ready()
        assert rig.control.newest.agent.nops == []


@virtual
async def test_an_agent_without_smux_is_never_tried():
    sizes = known()
    async with Rigged(sizes, service=basic(), policy=Policy(warm=0)) as rig:
        await rig.open()
        assert set(limits(rig)) == {1024}
        assert trials(rig) == {"accepted": 0, "lost": 0}


@virtual
async def test_a_limit_that_changes_applies_to_the_sessions_that_there_are():
    async with Rigged() as rig:
        await rig.until_ready()
        for limit, expected in ((2048, 2048), (1024, 1024), (32768, 8192)):
            rig.pool.message_limit = limit
            rig.pool.policy = LONE
            await elapse(0.1)
            assert limits(rig) == [expected]


@virtual
async def test_a_link_that_is_lost_in_a_trial_counts_the_second_time():
    async with Rigged(service=taking(1024, "cut")) as rig:
        await rig.until_ready()
        assert rig.starts_until_now() == 3
        assert len(rig.journal.lines("size.unclear")) == 2
        assert trials(rig) == {"accepted": 0, "lost": 2}
        await check_alive(await rig.open())


class Restless(AgentNature):
    """An agent that is of another version each time."""

    numbers = count()

    @property
    def version(self):
        return f"3.3.{next(self.numbers)}.0"

    @version.setter
    def version(self, version):
        """Be none of this version."""


@virtual
async def test_a_pool_that_meets_ever_new_agents_stops_trying():
    service = Service(agent=Restless(largest=1024))
    async with Rigged(service=service) as rig:
        await rig.until_ready()
        await elapse(3600)
        assert trials(rig)["lost"] == MOST_TRIALS_LOST


@virtual
async def test_a_pool_that_is_stopped_during_a_trial_leaves_the_size_untried():
    sizes = nothing()
    async with Rigged(sizes, service=taking(1024, "silence")) as rig:
        await until(lambda: rig.made and rig.made[0].terms)
        await rig.pool.stop()
    assert sizes.begin(OURS, 8192) == 4096
    assert sizes.export() == []


async def _uploading(rig):
    """Upload until a large message is on its way, to an agent that takes no more."""
    stream = await rig.open()
    member = rig.pool._members[1].session
    # The agent is fast at first, so that messages grow.
    async with asyncio.timeout(60):
        while member._channel.choose_size() < 8192:
            await stream.send(bytes(64 << 10))
            await elapse(0.005)
            if stream.stream.unread:
                await stream.receive()  # the echo
    nature = rig.control.service.agent
    nature.largest, nature.beyond = 1024, "silence"
    await stream.send(bytes(64 << 10))
    await elapse(0.1)
    assert member._channel.large_unacked
    return member


@virtual
async def test_a_service_that_takes_large_messages_no_more_ends_the_session():
    sizes = known()
    async with Rigged(sizes) as rig:
        await _uploading(rig)
        rig.control.newest.lose_wire(LinkLost("message too big", 1009))
        await until(lambda: rig.journal.lines("session.ended"))
        assert rig.control.count("ResumeSession") == 0
        (line,) = rig.journal.lines("size.doubted")
        assert line["size"] == 8192
        await rig.until_ready()
        assert limits(rig) == [1024]  # tried again, and refused this time
        assert trials(rig)["lost"] == 1


@virtual
async def test_an_end_in_the_middle_of_large_messages_raises_doubts():
    sizes = known()
    async with Rigged(sizes) as rig:
        await _uploading(rig)
        rig.control.service.agent.largest = None
        rig.control.newest.end("the agent was restarted")
        await until(lambda: rig.journal.lines("session.ended"))
        await rig.until_ready()
        assert len(rig.journal.lines("size.doubted")) == 1
        assert limits(rig) == [8192]  # tried again, and acknowledged
