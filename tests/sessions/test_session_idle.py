from itertools import pairwise

from ssmtunneld.errors import (
    ChannelClosed,
    Throttled,
)
from ssmtunneld.protocol.message import Flag
from ssmtunneld.sessions.keepalive import AGENT_NOP_INTERVAL
from ssmtunneld.sessions.session import SessionSettings
from ssmtunneld.transport.ports import Buffers
from tests.sessions.rig import (
    basic,
    check_alive,
    living_session,
    until,
)
from tests.support.clockwork import virtual
from tests.support.fake_agent import AgentNature
from tests.support.fake_control import (
    RESUME,
    TERMINATE,
    Service,
    elapse,
)

OLD_AGENT = "3.1.1374.0"
THROTTLED = Throttled(RESUME, "ThrottlingException", "Rate exceeded")


# Keeping idle timeouts away.


def gaps(times: list[float]) -> set[float]:
    return {round(b - a, 3) for a, b in pairwise(times)}


@virtual
async def test_an_idle_session_is_kept_alive_by_a_nop_every_five_minutes():
    async with living_session() as rig:
        await rig.ready()
        await elapse(3010)
        nops = rig.remote.agent.nops
        assert len(nops) == 10
        assert gaps(nops) == {300.0}
        assert rig.remote.alive


@virtual
async def test_without_keep_alive_the_idle_timeout_is_respected():
    async with living_session(settings=SessionSettings(keep_alive=None)) as rig:
        await rig.ready()
        await rig.over(patience=1300)
        assert rig.remote.agent.nops == []
        assert isinstance(rig.error, ChannelClosed)
        assert rig.error.output == "idle timeout"


@virtual
async def test_an_old_agent_hears_from_us_every_ten_seconds():
    service = Service(agent=AgentNature(version=OLD_AGENT))
    async with living_session(service) as rig:
        await rig.ready()
        await elapse(600)
        nops = rig.remote.agent.nops
        assert len(nops) == 59
        assert gaps(nops) == {AGENT_NOP_INTERVAL}


@virtual
async def test_without_keep_alive_an_old_agent_is_kept_only_while_it_has_a_stream():
    # Left alone it would give up its smux session in silence (protocol 7.5), and the
    # next stream would hang.
    service = Service(agent=AgentNature(version=OLD_AGENT))
    settings = SessionSettings(keep_alive=None)
    async with living_session(service, settings) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await elapse(100)
        assert len(rig.remote.agent.nops) == 9
        await stream.aclose()
        await rig.over(patience=30)
        assert isinstance(rig.error, ChannelClosed)
        assert rig.remote.agent.flags == [Flag.TERMINATE_SESSION]
        assert not rig.remote.alive


@virtual
async def test_nops_rest_while_the_link_is_down_and_go_on_with_the_next():
    async with living_session(settings=SessionSettings(keep_alive=60.0)) as rig:
        await rig.ready()
        await elapse(130)
        rig.control.fail(RESUME, THROTTLED)
        rig.remote.lose_wire()
        await elapse(300)
        assert len(rig.remote.agent.nops) == 2
        rig.control.heal()
        await rig.ready()
        await elapse(130)
        assert len(rig.remote.agent.nops) == 4


# Basic mode.


@virtual
async def test_a_basic_session_is_one_stream():
    async with living_session(basic()) as rig:
        await rig.ready()
        assert not rig.session.exhausted
        stream = rig.session.open_stream()
        assert rig.session.exhausted
        assert rig.session.streams == 1
        await check_alive(stream)
        assert rig.journal.lines("session.ready")[0]["mode"] == "basic"
        assert rig.session.statistics()[1].opened == 1


@virtual
async def test_a_basic_session_ends_with_its_stream_after_the_last_byte():
    async with living_session(basic()) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        await stream.send(b"last words")
        changes = rig.changes
        await stream.aclose()
        await rig.over()
        assert rig.changes > changes
        assert rig.error is None
        assert rig.remote.agent.flags == [Flag.TERMINATE_SESSION]
        assert rig.control.count(TERMINATE) == 0


@virtual
async def test_a_basic_session_that_is_being_stopped_is_not_told_twice():
    async with living_session(basic()) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        rig.remote.agent.nature = AgentNature(deaf=True)
        await rig.session.stop()
        sent = rig.session.statistics()[0].unacked
        await stream.aclose()
        await elapse(1)
        assert rig.session.statistics()[0].unacked == sent


@virtual
async def test_the_end_of_a_basic_session_is_the_end_of_its_stream():
    async with living_session(basic()) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        rig.remote.agent.say(b"bye")
        rig.remote.end()
        await rig.over()
        assert await stream.receive() == b"bye"
        assert await stream.receive() == b""
        assert isinstance(rig.error, ChannelClosed)


@virtual
async def test_a_basic_session_has_no_word_for_a_nop():
    async with living_session(basic(), SessionSettings(keep_alive=60.0)) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        await elapse(600)
        assert rig.session.moved_bytes == 8


@virtual
async def test_a_slow_reader_stops_the_reading_of_the_session():
    settings = SessionSettings(buffers=Buffers(stream=4096, session=8192))
    async with living_session(settings=settings) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await stream.send(b"x" * 20_000)
        await until(lambda: rig.session.reading_stopped)
        assert not rig.remote.wire.reading
        heard = 0
        while heard < 20_000:
            heard += len(await stream.receive())
        assert not rig.session.reading_stopped
