from ssmtunneld.base.rate_limited_log import MOST_SOURCES, QUIET, RateLimitedLog
from tests.support.clockwork import run_virtual
from tests.support.turns import elapse


def test_a_burst_is_one_line_and_the_next_says_how_many_were_left_out(log, lines):
    async def main():
        bursts = RateLimitedLog(log)
        for number in range(5):
            bursts.warning("connection.refused", number=number)
        bursts.warning("accept.failed")
        await elapse(QUIET)
        bursts.warning("connection.refused", number=5)
        await elapse(QUIET)
        bursts.warning("connection.refused", number=6)

    run_virtual(main())
    assert lines == [
        ("warning", "connection.refused", {"number": 0}),
        ("warning", "accept.failed", {}),
        ("warning", "connection.refused", {"number": 5, "suppressed": 4}),
        ("warning", "connection.refused", {"number": 6}),
    ]


def test_each_of_some_sources_has_a_line_of_its_own(log, lines):
    async def main():
        bursts = RateLimitedLog(log)
        for uid in (1000, 1000, 1001):
            bursts.warning("connection.rejected", uid, uid=uid)
        await elapse(QUIET)
        bursts.warning("connection.rejected", 1000, uid=1000)

    run_virtual(main())
    assert [facts for _, _, facts in lines] == [
        {"uid": 1000},
        {"uid": 1001},
        {"uid": 1000, "suppressed": 1},
    ]


def test_sources_without_number_share_one_line(log, lines):
    async def main():
        bursts = RateLimitedLog(log)
        for uid in range(1000):
            bursts.warning("connection.rejected", uid, uid=uid)
        assert len(bursts._until) <= MOST_SOURCES + 1
        await elapse(QUIET)
        for uid in range(2000, 3000):
            bursts.warning("connection.rejected", uid, uid=uid)
        assert len(bursts._until) <= MOST_SOURCES + 1
        assert len(bursts._suppressed) <= MOST_SOURCES + 1

    run_virtual(main())
    own_lines = [facts["uid"] for _, _, facts in lines]
    first_shared = MOST_SOURCES
    assert own_lines[: first_shared + 1] == list(range(first_shared + 1))
    # Nothing is forgotten: what has no line is counted in another.
    suppressed = sum(facts.get("suppressed", 0) for _, _, facts in lines)
    assert suppressed == 1000 - (MOST_SOURCES + 1)
