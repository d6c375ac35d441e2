"""The client's end of smux: frames in messages, turns, ends, refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.errors import LocalProtocolError, RemoteProtocolError
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.smux.frame import HEADER_SIZE, Command, FrameDecoder, encode_frame
from ssmtunneld.smux.mux import (
    FIRST_STREAM_ID,
    MAX_SILENT,
    MAX_STREAM_ID,
    Mux,
)
from ssmtunneld.smux.stream import PIECE_OVERHEAD

SYN, FIN, PSH, NOP = Command.SYN, Command.FIN, Command.PSH, Command.NOP
MAX_DATA = MAX_PAYLOAD - HEADER_SIZE


def _frames(payload):
    """Return the frames of one message, which must be whole."""
    decoder = FrameDecoder()
    frames = decoder.feed(payload)
    # If a frame were cut, the header of this one would be taken for its rest.
    assert decoder.feed(encode_frame(NOP, 99)) == [(NOP, 99, b"")]
    return [tuple(frame) for frame in frames]


def _next(mux):
    return _frames(mux.next_payload())


def _messages(mux):
    """Return the frames of each message until there is none."""
    messages = []
    while payload := mux.next_payload():
        assert len(payload) <= MAX_PAYLOAD
        messages.append(_frames(payload))
    return messages


def _connected(mux):
    """Return a stream whose SYN has gone out."""
    stream = mux.open()
    assert _next(mux) == [(SYN, stream.stream_id, b"")]
    return stream


def _arrive(mux, *frames):
    return mux.receive(b"".join(encode_frame(*frame) for frame in frames))


# Opening.


def test_the_first_stream_is_number_3_and_the_next_ones_are_odd():
    mux = Mux()
    assert [mux.open().stream_id for _ in range(3)] == [3, 5, 7]
    assert FIRST_STREAM_ID == 3


def test_a_stream_begins_without_data_if_there_is_none_yet():
    mux = Mux()
    mux.open()
    assert _messages(mux) == [[(SYN, 3, b"")]]


def test_the_first_data_travels_with_the_beginning():
    mux = Mux()
    mux.send(mux.open(), b"hello")
    assert _messages(mux) == [[(SYN, 3, b""), (PSH, 3, b"hello")]]


def test_a_whole_short_conversation_travels_in_one_message():
    mux = Mux()
    stream = mux.open()
    mux.send(stream, b"hello")
    mux.finish(stream)
    assert _messages(mux) == [[(SYN, 3, b""), (PSH, 3, b"hello"), (FIN, 3, b"")]]


def test_stream_ids_run_out_one_day():
    mux = Mux()
    mux._next_id = MAX_STREAM_ID
    assert not mux.exhausted
    assert mux.open().stream_id == MAX_STREAM_ID
    assert mux.exhausted
    with pytest.raises(LocalProtocolError, match="used up"):
        mux.open()


# Messages.


def test_there_is_no_message_without_anything_to_say():
    assert Mux().next_payload() == b""


def test_one_message_holds_one_full_frame():
    mux = Mux()
    stream = _connected(mux)
    data = bytes(range(256)) * 10
    mux.send(stream, data)
    assert _messages(mux) == [
        [(PSH, 3, data[:MAX_DATA])],
        [(PSH, 3, data[MAX_DATA : 2 * MAX_DATA])],
        [(PSH, 3, data[2 * MAX_DATA :])],
    ]


@pytest.mark.parametrize("size", range(MAX_DATA - 20, MAX_DATA + 20))
@pytest.mark.parametrize("connected", [False, True])
def test_beginning_data_and_end_fit_whatever_the_size(size, connected):
    mux = Mux()
    stream = _connected(mux) if connected else mux.open()
    mux.send(stream, b"x" * size)
    mux.finish(stream)
    frames = [frame for message in _messages(mux) for frame in message]
    assert frames[-1] == (FIN, 3, b"")
    assert sum(len(data) for _, _, data in frames) == size
    assert len([frame for frame in frames if frame[0] is SYN]) == (not connected)
    assert mux.next_payload() == b""


def test_small_frames_that_are_ready_together_share_a_message():
    mux = Mux()
    streams = [_connected(mux) for _ in range(3)]
    for stream in streams:
        mux.send(stream, b"key")
    assert _messages(mux) == [[(PSH, s.stream_id, b"key") for s in streams]]


def test_small_pieces_of_one_stream_are_one_frame():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"ab")
    mux.send(stream, b"cd")
    assert _messages(mux) == [[(PSH, 3, b"abcd")]]


def test_no_frame_is_begun_where_it_would_be_mostly_header():
    mux = Mux()
    first, second = _connected(mux), _connected(mux)
    mux.send(first, b"x" * (MAX_DATA - HEADER_SIZE - 63))
    mux.send(second, b"y" * 100)
    assert [len(message) for message in _messages(mux)] == [1, 1]


def test_a_small_frame_uses_what_is_left_of_a_message():
    mux = Mux()
    first, second = _connected(mux), _connected(mux)
    mux.send(first, b"x" * (MAX_DATA - HEADER_SIZE - 3))
    mux.send(second, b"key")
    assert [len(message) for message in _messages(mux)] == [2]


def test_a_beginning_waits_if_it_does_not_fit():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"x" * (MAX_DATA - 15))
    mux.open()
    assert [len(message) for message in _messages(mux)] == [1, 1]


@pytest.mark.parametrize("limit", range(HEADER_SIZE + 1))
def test_a_limit_that_holds_no_data_gives_no_message(limit):
    mux = Mux()
    mux.send(_connected(mux), b"x")
    assert mux.next_payload(limit) == b""


def test_a_message_may_hold_a_beginning_only():
    mux = Mux()
    mux.send(mux.open(), b"x")
    assert _frames(mux.next_payload(2 * HEADER_SIZE)) == [(SYN, 3, b"")]
    assert _frames(mux.next_payload(2 * HEADER_SIZE)) == [(PSH, 3, b"x")]


def test_a_nop_is_sent_once():
    mux = Mux()
    mux.nop()
    assert _messages(mux) == [[(NOP, 0, b"")]]


def test_a_nop_shares_its_message():
    mux = Mux()
    stream = _connected(mux)
    mux.nop()
    mux.send(stream, b"x")
    assert _messages(mux) == [[(NOP, 0, b""), (PSH, 3, b"x")]]


# Turns.


def test_streams_take_turns():
    mux = Mux()
    streams = [_connected(mux) for _ in range(3)]
    for stream in streams:
        mux.send(stream, bytes(2 * MAX_DATA))
    turns = [message[0][1] for message in _messages(mux)]
    assert turns == [3, 3, 5, 5, 7, 7]


def test_a_keystroke_waits_for_the_first_turns_of_those_that_came_before():
    mux = Mux()
    bulk = [_connected(mux) for _ in range(5)]
    keys = _connected(mux)
    for stream in bulk:
        mux.send(stream, bytes(100 * MAX_DATA))
    _next(mux)
    mux.send(keys, b"k")
    waited = 0
    while (PSH, keys.stream_id, b"k") not in _next(mux):
        waited += 1
    assert waited <= 2 * len(bulk)


def test_a_keystroke_passes_those_that_have_had_their_turn():
    mux = Mux()
    bulk, keys = [_connected(mux) for _ in range(5)], _connected(mux)
    for stream in bulk:
        mux.send(stream, bytes(100 * MAX_DATA))
    for _ in range(50):
        _next(mux)
    mux.send(keys, b"k")
    assert (PSH, keys.stream_id, b"k") in [*_next(mux), *_next(mux)]


def test_a_stream_takes_one_turn_at_a_time_however_often_it_was_given_data():
    mux = Mux()
    first, second = _connected(mux), _connected(mux)
    for _ in range(4):
        mux.send(first, bytes(MAX_DATA))
    mux.send(second, bytes(2 * MAX_DATA))
    turns = [message[0][1] for message in _messages(mux)]
    assert turns == [3, 3, 5, 3, 3, 5]


# Receiving.


def test_data_goes_to_its_stream():
    mux = Mux()
    first, second = _connected(mux), _connected(mux)
    assert _arrive(mux, (PSH, 5, b"b"), (PSH, 3, b"a")) == [second, first]
    assert mux.read(first) == b"a"
    assert mux.read(second) == b"b"


def test_data_is_there_before_its_frame_is_complete():
    mux = Mux()
    stream = _connected(mux)
    frame = encode_frame(PSH, 3, b"x" * 32768)
    assert mux.receive(frame[:100]) == [stream]
    assert mux.read(stream) == b"x" * 92


def test_unread_memory_is_counted_over_all_streams():
    mux = Mux()
    first, second = _connected(mux), _connected(mux)
    _arrive(mux, (PSH, 3, b"ab"), (PSH, 5, b"cde"))
    assert mux.unread == first.unread + second.unread == 5 + 2 * PIECE_OVERHEAD
    mux.read(first)
    assert mux.unread == 3 + PIECE_OVERHEAD
    mux.close(second)
    assert mux.unread == 0


def test_frames_of_nobody_are_dropped_and_counted():
    mux = Mux()
    assert _arrive(mux, (PSH, 9, b"abc"), (FIN, 9), (NOP, 0), (SYN, 2)) == []
    assert mux.statistics().dropped == 3


def test_a_beginning_of_the_peers_for_our_stream_is_ignored():
    mux = Mux()
    _connected(mux)
    assert _arrive(mux, (SYN, 3)) == []


def test_another_version_is_not_understood():
    with pytest.raises(RemoteProtocolError, match="version 2"):
        Mux().receive(b"\x02" + bytes(7))


# Ends.


def test_our_end_follows_what_is_pending():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"bye")
    mux.finish(stream)
    mux.finish(stream)
    mux.send(stream, b"too late")
    assert _messages(mux) == [[(PSH, 3, b"bye"), (FIN, 3, b"")]]
    mux.finish(stream)
    assert mux.next_payload() == b""


def test_after_our_end_data_still_arrives():
    mux = Mux()
    stream = _connected(mux)
    mux.finish(stream)
    _next(mux)
    assert mux.streams == 1
    _arrive(mux, (PSH, 3, b"late"), (FIN, 3))
    assert mux.read(stream) == b"late"
    assert stream.ended
    assert mux.streams == 0


def test_the_peers_end_is_answered_with_ours_and_drops_what_is_pending():
    """The agent has closed its destination: it would drop it too (protocol 6.6)."""
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"x" * 5000)
    _next(mux)
    assert _arrive(mux, (PSH, 3, b"answer"), (FIN, 3)) == [stream, stream]
    assert stream.ended
    assert mux.streams == 1
    assert _messages(mux) == [[(FIN, 3, b"")]]
    assert mux.streams == 0
    assert mux.read(stream) == b"answer"


def test_the_peers_end_of_a_quiet_stream_is_answered():
    mux = Mux()
    _connected(mux)
    _arrive(mux, (FIN, 3))
    assert _messages(mux) == [[(FIN, 3, b"")]]


def test_the_peers_end_before_our_beginning_was_sent_still_says_both():
    mux = Mux()
    stream = mux.open()
    mux.send(stream, b"x")
    _arrive(mux, (FIN, 3))
    assert _messages(mux) == [[(SYN, 3, b""), (FIN, 3, b"")]]
    assert mux.streams == 0


def test_the_peers_end_while_ours_waits_behind_data_drops_the_data():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"x" * 5000)
    mux.finish(stream)
    _arrive(mux, (FIN, 3))
    assert _messages(mux) == [[(FIN, 3, b"")]]


def test_closing_sends_what_is_pending_then_our_end_and_forgets():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"bye")
    mux.close(stream)
    mux.close(stream)
    assert mux.streams == 1
    assert _messages(mux) == [[(PSH, 3, b"bye"), (FIN, 3, b"")]]
    assert mux.streams == 0


def test_closing_what_both_have_ended_says_nothing():
    mux = Mux()
    stream = _connected(mux)
    _arrive(mux, (PSH, 3, b"unread"), (FIN, 3))
    _next(mux)
    mux.close(stream)
    assert mux.next_payload() == b""
    assert mux.unread == 0


def test_closing_after_our_end_forgets_at_once():
    mux = Mux()
    stream = _connected(mux)
    mux.finish(stream)
    _next(mux)
    mux.close(stream)
    assert mux.streams == 0
    assert mux.next_payload() == b""


def test_what_arrives_for_a_closed_stream_is_dropped():
    mux = Mux()
    stream = _connected(mux)
    _arrive(mux, (PSH, 3, b"unread"))
    mux.close(stream)
    assert _arrive(mux, (PSH, 3, b"late")) == []
    _next(mux)
    assert _arrive(mux, (PSH, 3, b"later"), (FIN, 3)) == []
    assert mux.unread == 0
    assert mux.statistics().dropped == len(b"late" + b"later")
    assert mux.read(stream) == b""


def test_the_peers_end_lets_a_closed_stream_forget_what_is_pending():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"x" * 5000)
    mux.close(stream)
    assert _arrive(mux, (FIN, 3)) == [stream]
    assert _messages(mux) == [[(FIN, 3, b"")]]
    assert mux.streams == 0


@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "begun"])
@pytest.mark.parametrize("pending", [b"", b"secret" * 1000], ids=["empty", "pending"])
def test_aborting_says_only_the_end_and_says_it_once(begun, pending):
    mux = Mux()
    stream = _connected(mux) if begun else mux.open()
    mux.send(stream, pending)
    mux.abort(stream)
    mux.abort(stream)
    beginning = [] if begun else [(SYN, 3, b"")]
    assert _messages(mux) == [[*beginning, (FIN, 3, b"")]]
    assert mux.streams == 0
    mux.abort(stream)
    assert mux.next_payload() == b""


def test_aborting_a_closed_stream_drops_what_is_still_pending():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"x" * 5000)
    mux.close(stream)
    mux.abort(stream)
    assert _messages(mux) == [[(FIN, 3, b"")]]


def test_an_end_is_said_once_however_the_two_sides_end():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"x")
    _arrive(mux, (FIN, 3), (FIN, 3))
    mux.abort(stream)
    assert _messages(mux) == [[(FIN, 3, b"")]]


# Refusals.


def test_a_stream_that_ends_without_a_byte_after_a_failed_dial_was_refused():
    mux = Mux()
    stream = _connected(mux)
    mux.dial_failed()
    _arrive(mux, (FIN, 3))
    assert stream.refused
    assert mux.statistics().refused == 1


def test_a_stream_that_ends_without_a_failed_dial_was_not_refused():
    mux = Mux()
    stream = _connected(mux)
    _arrive(mux, (FIN, 3))
    assert not stream.refused


def test_a_stream_that_spoke_was_not_refused():
    mux = Mux()
    spoke, silent = _connected(mux), _connected(mux)
    mux.dial_failed()
    _arrive(mux, (PSH, 3, b"x"), (FIN, 3), (FIN, 5))
    assert not spoke.refused
    assert silent.refused


def test_one_failed_dial_refuses_one_stream():
    mux = Mux()
    first, second = _connected(mux), _connected(mux)
    mux.dial_failed()
    _arrive(mux, (FIN, 3), (FIN, 5))
    assert [first.refused, second.refused] == [True, False]


def test_the_failed_dial_of_a_stream_we_gave_up_is_not_blamed_on_the_next():
    mux = Mux()
    mux.abort(_connected(mux))
    _next(mux)
    mux.dial_failed()
    _arrive(mux, (FIN, 3))
    stream = _connected(mux)
    _arrive(mux, (FIN, 5))
    assert not stream.refused


def test_the_end_of_a_stream_we_gave_up_does_not_excuse_a_refused_one_if_it_spoke():
    mux = Mux()
    spoke, refused = _connected(mux), _connected(mux)
    early = _connected(mux)
    _arrive(mux, (PSH, 3, b"x"))
    mux.abort(spoke)
    mux.abort(early)
    _next(mux)
    _arrive(mux, (PSH, early.stream_id, b"x"))
    mux.dial_failed()
    _arrive(mux, (FIN, 3), (FIN, early.stream_id), (FIN, 5))
    assert refused.refused


def test_what_a_closed_stream_was_sent_shows_that_it_was_connected():
    mux = Mux()
    closing, refused = _connected(mux), _connected(mux)
    mux.send(closing, b"x" * 5000)
    mux.close(closing)
    mux.dial_failed()
    _arrive(mux, (PSH, 3, b"x"), (FIN, 3), (FIN, 5))
    assert not closing.refused
    assert refused.refused


# Snapshots.


def test_statistics_count_what_happened():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"abc")
    mux.open()
    now = mux.statistics()
    assert (now.streams, now.opened, now.pending) == (2, 2, 3)
    assert (now.unread, now.refused, now.dropped) == (0, 0, 0)


@given(st.lists(st.integers(1, 3000), max_size=8), st.integers(17, MAX_PAYLOAD))
def test_any_limit_gives_whole_frames_within_it(sizes, limit):
    mux = Mux()
    streams = {}
    for size in sizes:
        stream = mux.open()
        streams[stream.stream_id] = b"x" * size
        mux.send(stream, b"x" * size)
        mux.finish(stream)
    got = dict.fromkeys(streams, b"")
    while payload := mux.next_payload(limit):
        assert len(payload) <= limit
        for command, stream_id, data in _frames(payload):
            if command is PSH:
                got[stream_id] += data
    assert got == streams


# A peer that does as it likes.


def test_streams_that_the_peer_opens_are_not_kept():
    mux = Mux()
    for number in range(0, 20_000, 2):
        mux.receive(encode_frame(SYN, number) + encode_frame(PSH, number, b"x"))
    assert mux.statistics().streams == 0
    assert mux.unread == 0
    assert mux.statistics().dropped == 10_000


def test_of_streams_that_are_never_ended_only_the_newest_are_remembered():
    mux = Mux()
    streams = []
    for _ in range(MAX_SILENT + 1):
        streams.append(_connected(mux))
        mux.abort(streams[-1])
        _messages(mux)
    assert mux.streams == 0
    # The oldest is forgotten: its end says nothing about the dial that failed.
    mux.dial_failed()
    mux.receive(encode_frame(FIN, streams[0].stream_id))
    silent = _connected(mux)
    mux.receive(encode_frame(FIN, silent.stream_id))
    assert silent.refused
    assert _messages(mux)
    # The newest is not.
    mux.dial_failed()
    mux.receive(encode_frame(FIN, streams[-1].stream_id))
    served = _connected(mux)
    mux.receive(encode_frame(FIN, served.stream_id))
    assert not served.refused


# Moving an unsent stream to another session.


def test_the_peer_never_hears_of_a_stream_that_is_withdrawn():
    mux = Mux()
    gone, other = mux.open(), mux.open()
    mux.send(gone, b"moved")
    mux.send(other, b"stays")
    mux.withdraw(gone)
    assert list(mux.open_streams) == [other]
    assert _messages(mux) == [
        [(SYN, other.stream_id, b""), (PSH, other.stream_id, b"stays")]
    ]


# Large messages (design D22).


LARGE = 8192


def test_a_bulk_transfer_fills_a_large_message_with_one_frame():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, bytes(3 * LARGE))
    payload = mux.next_payload(LARGE)
    assert len(payload) == LARGE
    assert _frames(payload) == [(PSH, 3, bytes(LARGE - HEADER_SIZE))]


@pytest.mark.parametrize("size", [1, 100, MAX_PAYLOAD])
def test_a_keystroke_does_not_share_a_large_message_with_a_bulk_transfer(size):
    mux = Mux()
    bulk, typed = mux.open(), mux.open()
    assert len(mux.next_payload(LARGE)) == 2 * HEADER_SIZE
    mux.send(bulk, bytes(4 * LARGE))
    assert [len(mux.next_payload(LARGE)) for _ in range(2)] == [LARGE, LARGE]
    mux.send(typed, b"k" * size)
    payload = mux.next_payload(LARGE)
    assert len(payload) <= MAX_PAYLOAD
    assert _frames(payload)[0][:2] == (PSH, typed.stream_id)


def test_large_uploads_take_turns_after_each_message():
    mux = Mux()
    first, second = mux.open(), mux.open()
    assert len(mux.next_payload(LARGE)) == 2 * HEADER_SIZE
    for stream in (first, second):
        mux.send(stream, bytes(4 * LARGE))
    order = [_frames(mux.next_payload(LARGE))[0][1] for _ in range(6)]
    assert order[2:] == [second.stream_id, first.stream_id] * 2


def test_small_writes_stay_small_where_large_messages_are_allowed():
    mux = Mux()
    stream = _connected(mux)
    mux.send(stream, b"x")
    assert _frames(mux.next_payload(LARGE)) == [(PSH, 3, b"x")]
    assert mux.next_payload(LARGE) == b""
