import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.listener.limits import ConnectionLimit, files_needed


def fill(quota, most=10**6):
    """Take all that there is; return how many that were."""
    number = 0
    while not quota.full and number < most:
        quota.take()
        number += 1
    return number


def test_one_tunnel_may_have_everything():
    quota = ConnectionLimit(10).join(100)
    assert fill(quota) == 10
    quota.give_back()
    assert not quota.full


def test_a_greedy_tunnel_leaves_every_other_its_part():
    connection_limit = ConnectionLimit(100)
    greedy, *others = [connection_limit.join(1000) for _ in range(5)]
    assert fill(greedy) == 60  # its part of ten, and the half that is for all
    assert [fill(other) for other in others] == [10] * 4
    assert connection_limit.taken == connection_limit.limit


def test_a_tunnel_is_kept_no_more_than_it_may_have():
    connection_limit = ConnectionLimit(100)
    greedy, _ = connection_limit.join(1000), connection_limit.join(3)
    assert fill(greedy) == 97


def test_with_more_tunnels_than_connections_nothing_is_kept():
    connection_limit = ConnectionLimit(2)
    shares = [connection_limit.join(10) for _ in range(3)]
    assert fill(shares[0]) == 2
    assert shares[1].full


def test_with_hardly_more_connections_than_tunnels_each_has_one():
    connection_limit = ConnectionLimit(4)
    shares = [connection_limit.join(10) for _ in range(4)]
    assert [fill(quota) for quota in shares] == [1, 1, 1, 1]


def test_who_found_no_room_is_told_once_when_there_is_some():
    connection_limit = ConnectionLimit(4)
    one, two = connection_limit.join(10), connection_limit.join(10)
    told = []
    assert (fill(one), fill(two)) == (3, 1)
    two.waiting = lambda: told.append("two")
    one.give_back()
    assert told == ["two"]
    one.give_back()
    assert told == ["two"]


def test_nobody_is_told_of_room_that_is_anothers():
    connection_limit = ConnectionLimit(2)
    one, two = connection_limit.join(10), connection_limit.join(10)
    told = []
    assert (fill(one), fill(two)) == (1, 1)
    two.waiting = lambda: told.append("two")
    one.give_back()
    assert told == []
    assert two.full
    one.leave()
    assert told == ["two"]


def test_a_tunnel_that_is_over_keeps_nothing_but_its_connections():
    connection_limit = ConnectionLimit(10)
    one, two = connection_limit.join(10), connection_limit.join(10)
    assert fill(one) == 8
    two.leave()
    two.leave()
    assert fill(one) == 2
    one.leave()
    one.give_back()
    assert connection_limit.taken == 9
    assert not connection_limit.join(10).full


def test_the_limit_may_change():
    connection_limit = ConnectionLimit(10)
    quota = connection_limit.join(100)
    told = []
    fill(quota)
    quota.waiting = lambda: told.append(1)
    connection_limit.limit = 12
    assert (told, fill(quota), quota.limit) == ([1], 2, 12)
    connection_limit.limit = 1
    quota.give_back()
    assert quota.full


@given(
    limit=st.integers(1, 40),
    mosts=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    steps=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=200),
)
def test_there_are_never_too_many_and_nobodys_part_is_taken(limit, mosts, steps):
    connection_limit = ConnectionLimit(limit)
    shares = [connection_limit.join(most) for most in mosts]
    for index, more in steps:
        quota = shares[index % len(shares)]
        if more and not quota.full and quota.taken < quota.most:
            quota.take()
        elif not more and quota.taken:
            quota.give_back()
        assert connection_limit.taken == sum(s.taken for s in shares) <= limit
        assert connection_limit.unused == sum(max(0, s.part - s.taken) for s in shares)
        assert all(not s.full for s in shares if s.taken < s.part)


@pytest.mark.parametrize("connections", [1, 10_000])
def test_files_are_for_everything_that_is_open_at_once(connections):
    assert files_needed(connections, 4, 2) > connections + 6
