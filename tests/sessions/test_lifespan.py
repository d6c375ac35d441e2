import pytest

from ssmtunneld.sessions.lifespan import SHORTEST, Lifespan
from ssmtunneld.transport.channel_timing import Pauses


def test_nothing_is_known_at_first():
    assert Lifespan().limit is None


def test_the_least_of_what_is_known_counts():
    lifespan = Lifespan(7200.0)
    assert lifespan.limit == 7200
    lifespan.tell(3600.0)
    assert lifespan.limit == 3600
    lifespan.note_end(1800.0)
    lifespan.note_end(1800.0)
    assert lifespan.limit == 1800


def test_one_end_says_nothing():
    lifespan = Lifespan()
    lifespan.note_end(3600.0)
    assert lifespan.limit is None


@pytest.mark.parametrize(
    ("ages", "limit"),
    [
        pytest.param([3600, 3610], 3600, id="about the same"),
        pytest.param([3610, 3600], 3600, id="the lesser of the two"),
        pytest.param([3600, 3300], None, id="not alike"),
        pytest.param([3600, 300, 3600], None, id="not in a row"),
        pytest.param([300, 3600, 3601], 3600, id="the last two count"),
        pytest.param([30, 30, 30], None, id="too short to be a limit"),
        pytest.param([3600, 20, 3600], 3600, id="a short life says nothing"),
    ],
)
def test_two_alike_in_a_row_are_a_limit(ages, limit):
    lifespan = Lifespan()
    for age in ages:
        lifespan.note_end(age)
    assert lifespan.limit == limit


def test_what_the_service_told_last_counts():
    lifespan = Lifespan()
    lifespan.tell(3600.0)
    lifespan.tell(7200.0)
    assert lifespan.limit == 7200


def test_no_limit_is_below_the_shortest_that_the_service_has():
    # Sessions would be replaced before they are ready.
    assert Lifespan(1.0).limit == SHORTEST


@pytest.mark.parametrize(
    ("pauses", "limit"),
    [
        pytest.param(Pauses(180.0, 0.0), None, id="it was never used"),
        pytest.param(Pauses(180.0, 100.0), None, id="it was never silent for so long"),
        pytest.param(Pauses(180.0, 178.0), 1800, id="it outlived about as long"),
        pytest.param(Pauses(299.0, 300.0), 1800, id="it outlived such a pause"),
        pytest.param(Pauses(50.0, 0.0), 1800, id="no idle timeout is so short"),
    ],
)
def test_an_end_that_may_be_the_idle_timeout_says_nothing(pauses, limit):
    lifespan = Lifespan()
    lifespan.note_end(1800.0, pauses)
    lifespan.note_end(1800.0, pauses)
    assert lifespan.limit == limit


@pytest.mark.parametrize(
    ("ends", "timeout"),
    [
        pytest.param([Pauses(60.0, 0.0)], None, id="one end says nothing"),
        pytest.param([Pauses(60.0, 0.0), Pauses(61.0, 9.0)], 60, id="two alike"),
        pytest.param([Pauses(60.0, 0.0), Pauses(120.0, 0.0)], None, id="not alike"),
        pytest.param([Pauses(60.0, 62.0)] * 2, None, id="they outlived such a pause"),
        pytest.param([Pauses(30.0, 0.0)] * 2, None, id="no timeout is so short"),
        pytest.param([Pauses(400.0, 0.0)] * 2, None, id="NOPs were missing"),
        pytest.param(
            [Pauses(60.0, 0.0), Pauses(20.0, 0.0), Pauses(60.0, 0.0)],
            None,
            id="not in a row",
        ),
        pytest.param(
            [*[Pauses(180.0, 0.0)] * 2, *[Pauses(60.0, 0.0)] * 2],
            60,
            id="shorter",
        ),
    ],
)
def test_an_idle_timeout_is_learned_from_two_ends_alike(ends, timeout):
    lifespan = Lifespan()
    for pauses in ends:
        lifespan.note_idle_end(pauses, 300.0)
    assert lifespan.idle_timeout == timeout
    assert (lifespan.keep_alive is None) == (timeout is None)


def test_an_idle_timeout_is_news_once():
    lifespan = Lifespan()
    told = [lifespan.note_idle_end(Pauses(60.0, 0.0), 300.0) for _ in range(4)]
    assert told == [False, True, False, False]
