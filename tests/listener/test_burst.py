from ssmtunneld.listener.burst import QUIET, Bursts
from tests.support.clockwork import run_virtual
from tests.support.turns import elapse


def test_a_burst_is_one_line_and_the_next_says_how_many_were_left_out(log, lines):
    async def main():
        bursts = Bursts(log)
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
