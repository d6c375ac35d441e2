"""Random bytes in small pieces: as many as asked for, and none twice."""

import pytest

from ssmtunneld.base.random_bytes import BLOCK, RandomBytes


@pytest.mark.parametrize("count", [1, 4, 16, 1000, BLOCK])
def test_a_piece_has_the_size_that_was_asked_for(count):
    random_bytes = RandomBytes()
    assert {len(random_bytes.take(count)) for _ in range(20)} == {count}


def test_no_piece_comes_twice():
    random_bytes = RandomBytes()
    pieces = [random_bytes.take(16) for _ in range(4 * BLOCK // 16)]
    assert len(set(pieces)) == len(pieces)


def test_what_is_left_of_a_block_and_too_small_is_not_used():
    random_bytes = RandomBytes()
    first = random_bytes.take(BLOCK - 1)
    assert len(random_bytes.take(2)) == 2
    assert len(first) == BLOCK - 1


def test_two_sources_have_nothing_in_common():
    assert RandomBytes().take(16) != RandomBytes().take(16)
