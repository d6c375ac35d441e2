"""Probes of destinations: their schedule and their verdicts; in virtual time."""

import asyncio
from dataclasses import replace
from random import Random

import pytest
import structlog
from structlog.testing import LogCapture

from ssmtunneld.base.log import EventLog
from ssmtunneld.config.probes import Probe
from ssmtunneld.errors import DestinationRefused, StreamReset
from ssmtunneld.observe.probe import JITTER, RETRY_INTERVAL, Prober, ProbeSettings
from tests.support.clockwork import turns, virtual
from tests.support.turns import elapse

REDIS = ProbeSettings(Probe("redis"), interval=60.0, timeout=10.0)
ANSWER = b"+PONG\r\n"


class Stream:
    """A stream that answers at once, or never, or with an error."""

    def __init__(self, answer, *, unsettled=False):
        self._answer = answer
        self.unsettled = unsettled
        self.aborted = False

    async def send(self, data):
        assert data == b"PING\r\n"

    async def receive(self):
        if self._answer is None:
            await asyncio.Event().wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def abort(self):
        self.aborted = True


class Rig:
    """A prober, and the destination it asks."""

    def __init__(self, settings=REDIS):
        self.answer = ANSWER
        self.unsettled = False
        self.session = True
        self.asked = []
        self.streams = []
        self.ready = asyncio.Event()
        self.ready.set()
        self._capture = LogCapture()
        logger = structlog.wrap_logger(
            None,
            processors=[self._capture],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        self.prober = Prober(
            settings,
            self._open,
            self.ready.wait,
            log=EventLog(logger),
            random=Random(1),
        )

    def _open(self):
        self.asked.append(asyncio.get_running_loop().time())
        if not self.session:
            return None
        self.streams.append(Stream(self.answer, unsettled=self.unsettled))
        return self.streams[-1]

    @property
    def status(self):
        return self.prober.status(asyncio.get_running_loop().time())

    @property
    def events(self):
        return [entry["event"] for entry in self._capture.entries]

    @property
    def lines(self):
        return self._capture.entries

    async def __aenter__(self):
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._task = self._tasks.create_task(self.prober.run())
        await turns()
        return self

    async def __aexit__(self, *failure):
        self._task.cancel()
        await self._tasks.__aexit__(*failure)
        assert all(stream.aborted for stream in self.streams)


def interval():
    """Longer than any interval, and shorter than two."""
    return elapse(60.0 * (1 + JITTER) + 0.001)


@virtual
async def test_a_destination_is_asked_at_once_and_then_at_intervals():
    async with Rig() as rig:
        assert (len(rig.asked), rig.status.ok, rig.status.usable) == (1, True, True)
        assert rig.status.age == 0.0
        await elapse(1.26)
        assert rig.status.age == 1.3
        for count in (2, 3, 4):
            await interval()
            assert len(rig.asked) == count
        steps = {b - a for a, b in zip(rig.asked, rig.asked[1:], strict=False)}
        assert len(steps) == 3
        assert all(54.0 <= step <= 66.0 for step in steps)
        assert rig.events == []


@virtual
async def test_nothing_is_asked_before_there_is_a_session():
    rig = Rig()
    rig.ready.clear()
    async with rig:
        await elapse(1000.0)
        assert (rig.asked, rig.status.pending, rig.status.usable) == ([], True, False)
        assert rig.status.age is None
        rig.ready.set()
        await turns()
        assert (rig.status.pending, rig.status.usable) == (False, True)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"-LOADING\r\n", "loading"),
        (DestinationRefused("the target could not connect"), "could not connect"),
        (None, "no answer within 10 s"),
    ],
)
def test_a_failure_is_told_once_with_its_reason_and_so_is_the_recovery(answer, words):
    @virtual
    async def main():
        async with Rig() as rig:
            rig.answer = answer
            for _ in range(3):
                await interval()
                await elapse(10.0)
            status = rig.status
            assert (status.ok, status.usable, status.kind) == (False, False, "redis")
            assert words in status.reason
            assert status.advice
            assert status.failures == 3
            assert rig.events == ["probe.failed"]
            assert rig.lines[0]["reason"] == status.reason
            rig.answer = ANSWER
            await interval()
            await interval()
            assert (rig.status.ok, rig.status.reason, rig.status.advice) == (
                True,
                "",
                "",
            )
            assert rig.status.failures == 0
            assert rig.events == ["probe.failed", "probe.recovered"]
            assert rig.lines[1]["failures"] == 3

    main()


@virtual
async def test_somebody_may_wait_until_the_destination_is_alive():
    rig = Rig()
    rig.answer = b"-LOADING\r\n"
    async with rig, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(rig.prober.wait_usable())
        await elapse(100.0)
        assert not waiting.done()
        rig.answer = ANSWER
        await interval()
        assert waiting.done()
        rig.answer = b"-LOADING\r\n"
        await interval()
        waiting = tasks.create_task(rig.prober.wait_usable())
        await turns()
        assert not waiting.done()
        waiting.cancel()


@pytest.mark.parametrize(
    ("answer", "unsettled"), [(StreamReset("cut"), False), (None, True)]
)
def test_a_sessions_trouble_is_not_the_destinations(answer, unsettled):
    @virtual
    async def main():
        async with Rig() as rig:
            rig.answer, rig.unsettled = answer, unsettled
            await interval()
            await elapse(10.0)
            assert (rig.status.ok, rig.events) == (True, [])
            before = len(rig.asked)
            await elapse(RETRY_INTERVAL * 2 + 20.0)
            assert len(rig.asked) > before  # sooner than usual

    main()


@virtual
async def test_a_verdict_stays_while_a_tunnel_that_keeps_sessions_has_none():
    async with Rig() as rig:
        rig.answer = b"-LOADING\r\n"
        await interval()
        rig.session = False
        await interval()
        assert rig.status.ok is False


@virtual
async def test_a_tunnel_without_sessions_has_no_verdict():
    lazy = ProbeSettings(Probe("redis"), 60.0, 10.0, expected=False)
    rig = Rig(lazy)
    assert rig.status.usable
    rig.answer = b"-LOADING\r\n"
    async with rig:
        assert rig.status.ok is False
        rig.session = False
        await interval()
        assert (rig.status.ok, rig.status.reason, rig.status.usable) == (None, "", True)
        rig.session, rig.answer = True, ANSWER
        await interval()
        assert rig.events == ["probe.failed", "probe.recovered"]


@virtual
async def test_without_any_chance_to_ask_a_tunnel_is_usable_in_the_end():
    rig = Rig()
    rig.session = False
    async with rig:
        assert (rig.status.ok, rig.status.pending, rig.status.usable) == (
            None,
            False,
            True,
        )


@virtual
async def test_settings_may_change_meanwhile():
    async with Rig() as rig:
        await interval()
        rig.prober.settings = ProbeSettings(Probe("redis"), 1.0, 10.0)
        assert (rig.status.pending, rig.status.ok) == (True, None)
        await elapse(10.0)
        assert len(rig.asked) >= 10
        before = len(rig.asked)
        rig.prober.settings = rig.prober.settings
        await turns()
        assert len(rig.asked) == before


@virtual
async def test_a_probe_may_be_switched_off_and_on():
    async with Rig() as rig, asyncio.TaskGroup() as tasks:
        rig.answer = b"-LOADING\r\n"
        await interval()
        rig.prober.settings = None
        assert rig.status is None
        await tasks.create_task(rig.prober.wait_usable())
        before = len(rig.asked)
        await elapse(1000.0)
        assert len(rig.asked) == before
        rig.answer = ANSWER
        rig.prober.settings = REDIS
        await turns()
        assert rig.status.ok
        assert rig.events == ["probe.failed", "probe.recovered"]


@pytest.mark.parametrize("settings", [None, replace(REDIS, interval=1.0)])
def test_an_answer_to_an_old_question_does_not_count(settings):
    @virtual
    async def main():
        async with Rig() as rig:
            rig.answer = None
            while len(rig.asked) < 2:
                await elapse(0.5)
            rig.answer = ANSWER
            rig.prober.settings = settings
            assert rig.prober.settings is settings
            await elapse(11.0)
            assert rig.events == []
            assert (rig.status is None) is (settings is None)

    main()


@virtual
async def test_a_probe_that_is_switched_off_before_there_is_a_session_never_asks():
    rig = Rig()
    rig.ready.clear()
    async with rig:
        rig.prober.settings = None
        rig.ready.set()
        await elapse(100.0)
        assert rig.asked == []
