"""The order of streams: fresh ones before lasting ones, but alternating."""

from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.smux.scheduler import QUANTUM, SendScheduler
from ssmtunneld.smux.stream import Stream

FRAME = 1024
FRAMES = QUANTUM // FRAME


def _stream(number, frames):
    stream = Stream(number)
    stream.syn_sent = True
    stream.put(bytes(FRAME * frames))
    return stream


def _turns(*streams):
    turns = SendScheduler()
    for stream in streams:
        turns.add(stream)
    return turns


def _take(turns):
    """Give one frame's turn; return its stream's number."""
    stream = turns.peek()
    turns.took(stream, len(stream.take(FRAME)))
    return stream.stream_id


def _rest(turns):
    numbers = []
    while turns.peek() is not None:
        numbers.append(_take(turns))
    return numbers


def test_nobody_has_the_turn_where_nobody_is():
    assert SendScheduler().peek() is None


def test_those_that_come_together_go_in_their_order():
    assert _rest(_turns(_stream(3, 1), _stream(5, 1), _stream(7, 1))) == [3, 5, 7]


def test_looking_changes_nothing():
    turns = _turns(_stream(3, 1), _stream(5, 1))
    assert turns.peek() is turns.peek()


def test_one_that_lasts_takes_several_frames_before_the_next():
    turns = _turns(_stream(3, 2 * FRAMES), _stream(5, 2 * FRAMES))
    # Their first frame each, turn and turn about with those that last already.
    assert [_take(turns) for _ in range(3)] == [3, 3, 5]
    rest = _rest(turns)
    assert rest[: FRAMES - 1] == [3] * (FRAMES - 1)
    assert rest[FRAMES - 1 : 2 * FRAMES - 1] == [5] * FRAMES


def test_one_with_large_frames_takes_one_of_them_before_the_next():
    streams = [_stream(3, 4 * FRAMES), _stream(5, 4 * FRAMES)]
    turns = _turns(*streams)
    order = []
    for _ in range(6):
        stream = turns.peek()
        turns.took(stream, len(stream.take(QUANTUM)))
        order.append(stream.stream_id)
    assert order == [3, 3, 5, 3, 5, 3]


def test_one_that_ends_early_leaves_a_whole_turn_to_the_next():
    turns = _turns(_stream(3, 4), _stream(5, 1 + FRAMES + 1))
    order = _rest(turns)
    assert order.count(3) == 4
    assert order[-FRAMES - 1 :] == [5] * (FRAMES + 1)


def test_a_fresh_one_goes_before_all_that_last():
    turns = _turns(*(_stream(number, 100) for number in (3, 5, 7, 9)))
    for _ in range(50):
        _take(turns)
    turns.add(_stream(11, 1))
    assert 11 in [_take(turns), _take(turns)]


def test_many_fresh_ones_leave_every_other_turn_to_those_that_last():
    turns = _turns(_stream(3, 100))
    _take(turns)
    order = []
    for number in range(5, 65, 2):
        turns.add(_stream(number, 1))
        turns.add(_stream(number + 100, 1))
        order += [_take(turns), _take(turns)]
    assert order[::2].count(3) + order[1::2].count(3) == len(order) // 2


@given(
    st.lists(
        st.one_of(st.tuples(st.integers(0, 4), st.integers(1, 2 * FRAMES)), st.none()),
        max_size=80,
    )
)
def test_every_frame_gets_its_turn_and_one_stream_stands_in_line_once(steps):
    streams = {number: _stream(number, 0) for number in range(5)}
    turns, given_frames, taken = SendScheduler(), 0, 0
    for step in steps:
        if step is None:
            if turns.peek() is not None:
                _take(turns)
                taken += 1
            continue
        number, frames = step
        stream = streams[number]
        if not stream.ready:
            turns.add(stream)
        stream.put(bytes(FRAME * frames))
        given_frames += frames
    assert taken + len(_rest(turns)) == given_frames
    assert not any(stream.ready for stream in streams.values())


def test_one_that_is_taken_out_has_no_turn():
    gone, other = _stream(3, 1), _stream(5, 1)
    turns = _turns(gone, other)
    turns.remove(gone)
    assert _rest(turns) == [5]
