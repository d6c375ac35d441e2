import asyncio

from ssmtunneld.aws.api.port import ActiveSession
from ssmtunneld.errors import AccessDenied, Throttled
from ssmtunneld.sessions.orphans import FRESH, OrphanReaper
from tests.sessions.rig import REQUEST, Journal
from tests.support.clockwork import virtual
from tests.support.fake_control import DESCRIBE, TERMINATE, FakeControl, elapse

MARK = "[0123/db]"
TARGET = REQUEST.target
DENIED = AccessDenied(DESCRIBE, "AccessDeniedException", "no")
THROTTLED = Throttled(DESCRIBE, "ThrottlingException", "Rate exceeded")


def other(number: int, reason: str, max_duration: float | None = None) -> ActiveSession:
    """Return a session that somebody else started."""
    return ActiveSession(
        f"other-{number}", TARGET, "me", reason, "Connected", "doc", 0.0, max_duration
    )


class Bureau:
    """A reaper of orphans, and its surroundings."""

    def __init__(self) -> None:
        self.control = FakeControl()
        self.journal = Journal()
        self.asked_for: list[int] = []
        self.known_after = 0.0
        self.orphan_reaper = OrphanReaper(
            self.control, self.journal.log, self.starts_known
        )

    async def starts_known(self) -> None:
        self.asked_for.append(self.control.count(DESCRIBE))
        await elapse(self.known_after)

    async def terminate_orphans(self, ours: str = "") -> float | None:
        return await self.orphan_reaper.terminate_orphans(TARGET, MARK, ours.__eq__)


@virtual
async def test_forgotten_sessions_with_our_mark_are_terminated_and_no_others():
    bureau = Bureau()
    bureau.control.others = [
        other(1, f"ssmtunneld me@host {MARK}"),
        other(2, "ssmtunneld me@host [4567/db]"),
        other(3, ""),
        other(4, f"{MARK} and more"),
    ]
    assert await bureau.terminate_orphans() is None
    left = [session.session_id for session in bureau.control.others]
    assert left == ["other-2", "other-3", "other-4"]
    (line,) = bureau.journal.lines("session.orphaned")
    assert line["session_id"] == "other-1"


@virtual
async def test_who_lists_sessions_need_not_be_who_may_end_them():
    bureau, other_control = Bureau(), FakeControl()
    bureau.control.others = other_control.others = [other(1, MARK)]
    await bureau.orphan_reaper.terminate_orphans(
        TARGET, MARK, {"mine"}.__contains__, other_control
    )
    assert bureau.control.count(TERMINATE) == 0
    assert other_control.count(TERMINATE) == 1
    assert other_control.count(DESCRIBE) == 0


@virtual
async def test_our_own_session_tells_how_old_it_may_become_and_lives_on():
    bureau = Bureau()
    bureau.control.others = [other(1, f"ssmtunneld {MARK}", 3600.0)]
    assert await bureau.terminate_orphans("other-1") == 3600
    assert bureau.control.count(TERMINATE) == 0


@virtual
async def test_a_session_whose_answer_is_on_its_way_is_none_of_those_forgotten():
    bureau = Bureau()
    bureau.control.others = [other(1, MARK), other(2, MARK)]
    known: set[str] = set()
    # The service has granted the second one; we hear of it after it was listed.
    loop = asyncio.get_running_loop()
    loop.call_later(bureau.control.service.api_time + 5, known.add, "other-2")
    bureau.known_after = 10.0
    await bureau.orphan_reaper.terminate_orphans(TARGET, MARK, known.__contains__)
    assert [s.session_id for s in bureau.control.others] == ["other-2"]
    # Asked for before the list, it might have been granted between the two.
    assert bureau.asked_for == [1]


@virtual
async def test_a_termination_that_fails_does_not_stop_the_others():
    bureau = Bureau()
    bureau.control.others = [other(1, MARK), other(2, MARK)]
    bureau.control.fail_next(TERMINATE, THROTTLED)
    await bureau.terminate_orphans()
    assert [s.session_id for s in bureau.control.others] == ["other-1"]
    (line,) = bureau.journal.lines("session.abandoned")
    assert line["reason"] == str(THROTTLED)


@virtual
async def test_tunnels_with_the_same_target_share_an_answer_while_it_is_fresh():
    bureau = Bureau()
    async with asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(bureau.terminate_orphans(), name=str(number))
    assert bureau.control.count(DESCRIBE) == 1
    await elapse(FRESH)
    await bureau.terminate_orphans()
    assert bureau.control.count(DESCRIBE) == 2


@virtual
async def test_many_targets_are_asked_for_one_at_a_time_and_slowly():
    bureau = Bureau()
    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            target = f"i-{number}"
            tasks.create_task(bureau.orphan_reaper.sessions(target), name=target)
    times = bureau.control.times(DESCRIBE)
    assert len(times) == 10
    assert times[-1] >= 7


@virtual
async def test_whoever_may_not_ask_is_told_once_and_asks_no_more():
    bureau = Bureau()
    bureau.control.fail(DESCRIBE, DENIED)
    for _ in range(3):
        assert await bureau.terminate_orphans() is None
        await elapse(FRESH + 1)
    assert bureau.control.count(DESCRIBE) == 1
    assert len(bureau.journal.lines("orphans.search_denied")) == 1


@virtual
async def test_a_search_that_failed_is_tried_again_later():
    bureau = Bureau()
    bureau.control.others = [other(1, MARK)]
    bureau.control.fail_next(DESCRIBE, THROTTLED)
    await bureau.terminate_orphans()
    assert len(bureau.journal.lines("orphans.search_failed")) == 1
    await elapse(FRESH + 1)
    await bureau.terminate_orphans()
    assert bureau.control.others == []


@virtual
async def test_without_a_mark_nothing_is_anybodys_orphan():
    bureau = Bureau()
    bureau.control.others = [other(1, "somebody else's")]
    await bureau.orphan_reaper.terminate_orphans(TARGET, "", "".__eq__)
    assert bureau.control.count(TERMINATE) == 0
