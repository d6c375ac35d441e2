import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.listener.allowance import Allowance, files_needed


def fill(share, most=10**6):
    """Take all that there is; return how many that were."""
    number = 0
    while not share.full and number < most:
        share.take()
        number += 1
    return number


def test_one_mapping_may_have_everything():
    share = Allowance(10).join(100)
    assert fill(share) == 10
    share.give_back()
    assert not share.full


def test_a_greedy_mapping_leaves_every_other_its_part():
    allowance = Allowance(100)
    greedy, *others = [allowance.join(1000) for _ in range(5)]
    assert fill(greedy) == 60  # its part of ten, and the half that is for all
    assert [fill(other) for other in others] == [10] * 4
    assert allowance.taken == allowance.limit


def test_a_mapping_is_kept_no_more_than_it_may_have():
    allowance = Allowance(100)
    greedy, _ = allowance.join(1000), allowance.join(3)
    assert fill(greedy) == 97


def test_with_more_mappings_than_connections_nothing_is_kept():
    allowance = Allowance(2)
    shares = [allowance.join(10) for _ in range(3)]
    assert fill(shares[0]) == 2
    assert shares[1].full


def test_with_hardly_more_connections_than_mappings_each_has_one():
    allowance = Allowance(4)
    shares = [allowance.join(10) for _ in range(4)]
    assert [fill(share) for share in shares] == [1, 1, 1, 1]


def test_who_found_no_room_is_told_once_when_there_is_some():
    allowance = Allowance(4)
    one, two = allowance.join(10), allowance.join(10)
    told = []
    assert (fill(one), fill(two)) == (3, 1)
    two.waiting = lambda: told.append("two")
    one.give_back()
    assert told == ["two"]
    one.give_back()
    assert told == ["two"]


def test_nobody_is_told_of_room_that_is_anothers():
    allowance = Allowance(2)
    one, two = allowance.join(10), allowance.join(10)
    told = []
    assert (fill(one), fill(two)) == (1, 1)
    two.waiting = lambda: told.append("two")
    one.give_back()
    assert told == []
    assert two.full
    one.leave()
    assert told == ["two"]


def test_a_mapping_that_is_over_keeps_nothing_but_its_connections():
    allowance = Allowance(10)
    one, two = allowance.join(10), allowance.join(10)
    assert fill(one) == 8
    two.leave()
    two.leave()
    assert fill(one) == 2
    one.leave()
    one.give_back()
    assert allowance.taken == 9
    assert not allowance.join(10).full


def test_the_limit_may_change():
    allowance = Allowance(10)
    share = allowance.join(100)
    told = []
    fill(share)
    share.waiting = lambda: told.append(1)
    allowance.limit = 12
    assert (told, fill(share), share.limit) == ([1], 2, 12)
    allowance.limit = 1
    share.give_back()
    assert share.full


@given(
    limit=st.integers(1, 40),
    mosts=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    steps=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=200),
)
def test_there_are_never_too_many_and_nobodys_part_is_taken(limit, mosts, steps):
    allowance = Allowance(limit)
    shares = [allowance.join(most) for most in mosts]
    for index, more in steps:
        share = shares[index % len(shares)]
        if more and not share.full and share.taken < share.most:
            share.take()
        elif not more and share.taken:
            share.give_back()
        assert allowance.taken == sum(s.taken for s in shares) <= limit
        assert allowance.unused == sum(max(0, s.part - s.taken) for s in shares)
        assert all(not s.full for s in shares if s.taken < s.part)


@pytest.mark.parametrize("connections", [1, 10_000])
def test_files_are_for_everything_that_is_open_at_once(connections):
    assert files_needed(connections, 4, 2) > connections + 6
