"""smux frames: exact bytes, refusals, and independence of where bytes were cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.smux.frame import (
    HEADER_SIZE,
    MAX_FRAME_PAYLOAD,
    Command,
    Frame,
    FrameDecoder,
    encode_frame,
)

stream_ids = st.integers(0, 2**32 - 1)
pushes = st.builds(
    Frame, st.just(Command.PSH), stream_ids, st.binary(min_size=1, max_size=300)
)
signals = st.builds(
    Frame,
    st.sampled_from([Command.SYN, Command.FIN, Command.NOP]),
    stream_ids,
    st.just(b""),
)
frames = st.lists(pushes | signals, max_size=12)


def _wire(sent):
    return b"".join(encode_frame(*frame) for frame in sent)


def _joined(received):
    """Return ``received`` with adjacent pieces for one stream put together."""
    joined = []
    for frame in received:
        last = joined[-1] if joined else None
        if (
            last
            and frame.command is last.command is Command.PSH
            and frame.stream_id == last.stream_id
        ):
            joined[-1] = last._replace(payload=last.payload + frame.payload)
        else:
            joined.append(frame)
    return joined


def _cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def test_frames_are_written_as_in_the_golden_vector():
    wire = encode_frame(Command.SYN, 3) + encode_frame(Command.PSH, 3, b"hi")
    assert wire == bytes.fromhex("0100000003000000 0102020003000000 6869")


def test_frames_of_the_golden_vector_are_read():
    wire = bytes.fromhex("0100000003000000 0102020003000000 6869")
    assert FrameDecoder().feed(wire) == [
        Frame(Command.SYN, 3),
        Frame(Command.PSH, 3, b"hi"),
    ]


def test_numbers_are_little_endian():
    wire = encode_frame(Command.PSH, 0x01020304, b"x" * 0x0102)
    assert wire[:HEADER_SIZE] == bytes.fromhex("0102 0201 04030201")


@given(frames)
def test_what_is_encoded_is_decoded_again(sent):
    assert FrameDecoder().feed(_wire(sent)) == sent


@given(frames)
def test_canonical_bytes_are_reproduced(sent):
    wire = _wire(sent)
    assert _wire(FrameDecoder().feed(wire)) == wire


@given(frames, st.lists(st.integers(0, 5000), max_size=30))
def test_frames_do_not_depend_on_how_the_bytes_were_cut(sent, places):
    decoder = FrameDecoder()
    received = [
        frame for piece in _cut(_wire(sent), places) for frame in decoder.feed(piece)
    ]
    assert _joined(received) == _joined(sent)


@given(frames)
def test_frames_fed_byte_by_byte_are_the_same(sent):
    decoder = FrameDecoder()
    received = [f for byte in _wire(sent) for f in decoder.feed(bytes([byte]))]
    assert _joined(received) == _joined(sent)


def test_data_is_handed_out_before_its_frame_is_complete():
    decoder = FrameDecoder()
    wire = encode_frame(Command.PSH, 5, b"abcdef")
    assert decoder.feed(wire[:9]) == [Frame(Command.PSH, 5, b"a")]
    assert decoder.feed(wire[9:12]) == [Frame(Command.PSH, 5, b"bcd")]
    assert decoder.feed(wire[12:] + encode_frame(Command.FIN, 5)) == [
        Frame(Command.PSH, 5, b"ef"),
        Frame(Command.FIN, 5),
    ]


def test_the_longest_frame_of_the_protocol_passes_whole():
    payload = bytes(MAX_FRAME_PAYLOAD)
    assert FrameDecoder().feed(encode_frame(Command.PSH, 3, payload)) == [
        Frame(Command.PSH, 3, payload)
    ]


def test_an_empty_push_says_nothing():
    decoder = FrameDecoder()
    assert decoder.feed(encode_frame(Command.PSH, 3)) == []
    assert decoder.feed(encode_frame(Command.FIN, 3)) == [Frame(Command.FIN, 3)]


def test_nothing_in_nothing_out():
    assert FrameDecoder().feed(b"") == []


@pytest.mark.parametrize("cut", range(HEADER_SIZE * 2))
def test_a_window_update_is_skipped_wherever_it_is_cut(cut):
    decoder = FrameDecoder()
    wire = encode_frame(Command.UPD, 3, bytes(8))
    received = decoder.feed(wire[:cut])
    received += decoder.feed(wire[cut:] + encode_frame(Command.PSH, 3, b"x"))
    assert received == [Frame(Command.PSH, 3, b"x")]


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused(version):
    wire = bytes([version]) + encode_frame(Command.SYN, 3)[1:]
    with pytest.raises(RemoteProtocolError, match=f"smux version {version}"):
        FrameDecoder().feed(wire)


@pytest.mark.parametrize("number", [5, 255])
def test_an_unknown_command_is_refused(number):
    wire = bytes([1, number, 0, 0, 3, 0, 0, 0])
    with pytest.raises(RemoteProtocolError, match=f"smux command {number}"):
        FrameDecoder().feed(wire)


@pytest.mark.parametrize("command", [Command.SYN, Command.FIN, Command.NOP])
def test_a_payload_where_none_belongs_is_refused(command):
    wire = encode_frame(command, 3, b"x")
    with pytest.raises(RemoteProtocolError, match=f"{command.name} with 1 bytes"):
        FrameDecoder().feed(wire)


def test_a_fault_behind_good_frames_is_still_refused():
    wire = encode_frame(Command.SYN, 3) + b"\2" * HEADER_SIZE
    with pytest.raises(RemoteProtocolError, match="smux version 2"):
        FrameDecoder().feed(wire)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_give_frames_or_a_protocol_error(pieces):
    decoder = FrameDecoder()
    try:
        received = [frame for piece in pieces for frame in decoder.feed(piece)]
    except RemoteProtocolError:
        return
    assert sum(len(f.payload) for f in received) <= sum(map(len, pieces))
