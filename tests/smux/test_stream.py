"""One stream: what waits to be sent, and what waits to be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.smux.stream import PIECE_OVERHEAD, Stream


def _stream(*pieces):
    stream = Stream(3)
    for piece in pieces:
        stream.put(piece)
    return stream


def test_a_new_stream_has_its_beginning_to_say():
    assert Stream(3).ready


@pytest.mark.parametrize(
    ("pending", "finishing", "fin_sent", "ready"),
    [
        (b"", False, False, False),
        (b"x", False, False, True),
        (b"", True, False, True),
        (b"x", True, False, True),
        (b"", True, True, False),
    ],
)
def test_a_stream_is_ready_while_it_has_data_or_its_end_to_say(
    pending, finishing, fin_sent, ready
):
    stream = _stream(pending)
    stream.syn_sent = True
    stream.finishing, stream.fin_sent = finishing, fin_sent
    assert stream.ready is ready


def test_small_pieces_are_gathered():
    stream = _stream(b"ab", b"cd", b"ef")
    assert stream.take(5) == b"abcde"
    assert stream.pending == 1
    assert stream.take(5) == b"f"
    assert stream.sent == 6


def test_a_piece_that_fits_exactly_goes_alone():
    stream = _stream(b"abc", b"d")
    assert stream.take(3) == b"abc"
    assert stream.take(3) == b"d"


def test_a_large_piece_is_cut():
    stream = _stream(b"abcdefgh")
    assert [stream.take(3) for _ in range(3)] == [b"abc", b"def", b"gh"]


def test_what_was_taken_stays_as_it_is():
    taken = _stream(b"abcdef").take(3)
    assert type(taken) is bytes


def test_discarded_data_is_not_sent():
    stream = _stream(b"abc", b"def")
    stream.take(2)
    stream.discard_pending()
    assert stream.pending == 0
    assert stream.sent == 2


@given(st.lists(st.binary(min_size=1), max_size=20), st.integers(1, 30))
def test_cutting_and_gathering_lose_nothing(pieces, limit):
    stream = _stream(*pieces)
    taken = []
    while stream.pending:
        before = stream.pending
        taken.append(stream.take(limit))
        assert len(taken[-1]) == min(limit, before)
    assert b"".join(taken) == b"".join(pieces)


def test_nothing_to_read_is_nothing():
    assert Stream(3).read() == b""


def test_everything_that_arrived_is_read_at_once():
    stream = Stream(3)
    stream.arrive(b"ab")
    assert stream.read() == b"ab"
    stream.arrive(b"cd")
    stream.arrive(b"ef")
    assert stream.read() == b"cdef"
    assert stream.received == 6
    assert stream.unread == 0


def test_unread_data_counts_the_memory_it_takes():
    stream = Stream(3)
    for _ in range(10):
        stream.arrive(b"x")
    assert stream.unread == 10 * (1 + PIECE_OVERHEAD)


def test_what_waits_is_taken_whole_and_only_what_was_not_taken_before():
    stream = _stream(b"abc", b"def")
    assert stream.take(2) == b"ab"
    assert stream.take_all() == b"cdef"
    assert stream.pending == 0
    assert stream.take_all() == b""
    stream.put(b"gh")
    assert stream.take(9) == b"gh"
