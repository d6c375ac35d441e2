"""Compartments: an exception ends at the boundary, and the work starts again."""

import asyncio
import json

import pytest
import uvloop

from ssmtunneld.base.compartment import (
    FIRST_DELAY,
    LAST_DELAY,
    QUIET,
    Defect,
    Defects,
    _catch,
    catch_callbacks,
    defects_here,
    run_compartment,
)
from tests.support.clockwork import turns, virtual

SECRET = "canary-of-a-token"


class Log:
    """Keeps what is written."""

    def __init__(self):
        self.lines = []

    def error(self, event, **facts):
        self.lines.append({"event": event, **facts})


class Work:
    """Breaks as often as it is told to, after some time each."""

    def __init__(self, *lives):
        self.lives = list(lives)
        self.starts = []

    async def __call__(self):
        loop = asyncio.get_running_loop()
        self.starts.append(loop.time())
        if not self.lives:
            return "done"
        over = asyncio.Event()
        loop.call_later(self.lives.pop(0), over.set)
        await over.wait()
        raise ValueError(SECRET)


def gaps(work):
    return [b - a for a, b in zip(work.starts, work.starts[1:], strict=False)]


@virtual
async def test_it_is_started_again_and_waits_longer_each_time():
    log, work = Log(), Work(*[0] * 9)
    assert await run_compartment("part", work, Defects(log)) == "done"
    assert gaps(work) == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])
    assert gaps(work)[-1] == pytest.approx(LAST_DELAY)
    assert [line["restart_in"] for line in log.lines][:3] == [1, 2, 4]


@virtual
async def test_after_a_quiet_minute_it_is_started_again_soon():
    work = Work(0, 0, QUIET, 0)
    await run_compartment("part", work, Defects(Log()))
    assert gaps(work) == pytest.approx([1, 2, QUIET + FIRST_DELAY, 2])


@virtual
async def test_the_log_names_type_and_places_and_no_value():
    log = Log()
    await run_compartment("part", Work(0), Defects(log))
    (line,) = log.lines
    assert SECRET not in str(line)
    assert line["event"] == "defect"
    assert (line["compartment"], line["kind"]) == ("part", "ValueError")
    assert line["place"].startswith("base/compartment.py:")
    assert line["origin"].startswith("base/test_compartment.py:")


def test_the_innermost_line_of_ours_and_of_a_library_are_told_apart():
    try:
        json.loads("{")
    except ValueError as error:
        found = Defect.of(ExceptionGroup("several", [error, TypeError()]))
    assert found.kind == "JSONDecodeError"
    assert found.place == "unknown"
    assert found.origin.startswith("json/decoder.py:")
    assert Defect.of(KeyError()) == Defect("KeyError", "unknown", "unknown")


@virtual
async def test_a_group_of_exceptions_is_caught_like_one():
    async def work():
        if not log.lines:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(Work(0)())

    log = Log()
    await run_compartment("part", work, Defects(log))
    assert [line["kind"] for line in log.lines] == ["ValueError"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_the_end_of_the_process_passes_through(kind):
    log = Log()
    with pytest.raises(kind), Defects(log).guard("part"):
        raise kind
    work = _catch(lambda: raising(kind))
    with pytest.raises(kind):
        work.send(None)
    assert log.lines == []


async def raising(kind):
    raise kind


@virtual
async def test_cancelling_ends_it_also_if_it_breaks_by_that():
    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    log = Log()
    defects = Defects(log)
    runs = [run_compartment("part", work, defects), defects.attempt("part", work)]
    for run in runs:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run)
            await turns()
            task.cancel()
        assert task.cancelled()
    assert [line["kind"] for line in log.lines] == ["ValueError"] * 2


@virtual
async def test_it_can_be_cancelled_while_it_waits_to_be_started_again():
    async with asyncio.TaskGroup() as tasks:
        work = Work(0)
        task = tasks.create_task(run_compartment("part", work, Defects(Log())))
        await turns(5)
        task.cancel()
    assert task.cancelled()
    assert len(work.starts) == 1


@virtual
async def test_status_tells_how_often_and_until_when():
    defects = Defects(Log())
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run_compartment("part", Work(0, 0), defects))
        await asyncio.sleep(0.5)
        (found,) = defects.snapshot(loop.time())
        assert (found.compartment, found.count) == ("part", 1)
        assert (found.age, found.restart_in) == (0.5, 0.5)
        assert found.last.startswith("defect: ValueError at base/compartment.py:")
        assert found.reason == f"{found.last}; restarted in 0 s"
        await asyncio.sleep(3.5)
        (found,) = defects.snapshot(loop.time())
        assert (found.count, found.restart_in) == (2, None)
        assert found.reason == found.last
        assert task.done()


@virtual
async def test_what_others_cancel_is_a_defect_too():
    async def work():
        if not log.lines:
            raise asyncio.CancelledError

    log = Log()
    await run_compartment("part", work, Defects(log))
    assert [line["kind"] for line in log.lines] == ["CancelledError"]


@virtual
async def test_somebody_may_learn_that_it_broke():
    told = []
    await run_compartment("p", Work(0), Defects(Log()), broke=lambda: told.append(1))
    assert told == [1]


@virtual
async def test_a_guard_and_an_attempt_end_what_is_raised_in_them():
    defects = Defects(Log())
    with defects.guard("callback"):
        raise TypeError
    assert await defects.attempt("once", Work(0)) is None
    assert await defects.attempt("once", Work()) == "done"
    found = defects.snapshot(asyncio.get_running_loop().time())
    assert [(d.compartment, d.count) for d in found] == [("callback", 1), ("once", 1)]


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_callback_is_reported_for_the_compartment_that_asked_for_it(factory):
    others, own = Log(), Log()

    def broken():
        raise ValueError(SECRET)

    async def work():
        asyncio.get_running_loop().call_soon(broken)

    async def main():
        loop = asyncio.get_running_loop()
        catch_callbacks(loop, Defects(others))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_compartment("part", work, Defects(own)))
        loop.call_soon(broken)
        await turns(5)
        loop.call_exception_handler({"message": "pending <Task of somebody>"})
        loop.call_exception_handler({"exception": OSError(), "transport": None})

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert [(d["compartment"], d["kind"]) for d in own.lines] == [
        ("callback", "ValueError")
    ]
    assert [d.get("kind") or d["what"] for d in others.lines] == [
        "ValueError",
        "pending",
    ]


@virtual
async def test_where_the_log_itself_failed_a_defect_is_only_counted():
    log = Log()
    defects = Defects(log)
    assert defects.count("log", KeyError(SECRET)).kind == "KeyError"
    (status,) = defects.snapshot(asyncio.get_running_loop().time())
    assert (status.compartment, status.count, status.age) == ("log", 1, 0)
    assert log.lines == []


@virtual
async def test_what_runs_in_a_compartment_knows_whose_it_is():
    async def work():
        return defects_here()

    defects = Defects(Log())
    assert defects_here() is None
    assert await defects.attempt("part", work) is defects
    assert defects_here() is None


async def test_threads_note_defects_at_the_same_time():
    defects = Defects(Log())

    def note(number):
        for turn in range(200):
            defects.note(f"part {number} {turn % 7}", ValueError())
            defects.snapshot(0.0)

    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(asyncio.to_thread(note, number))
    found = defects.snapshot(asyncio.get_running_loop().time())
    assert sum(status.count for status in found) == 800
    assert all(-1 < status.age < 3600 for status in found)
