"""Frames that are cut out here mean what they mean to the library."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import DATA_OPCODES, Close, Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol, State

from ssmtunneld.transport.frames import (
    HEAD_LIMIT,
    FrameReader,
    Head,
    encode_frame,
)

LIMIT = 70_000


def encoded(opcode, data=b"", *, fin=True):
    return Frame(opcode, data, fin=fin).serialize(mask=False)


def a_library():
    return Protocol(CLIENT, state=State.OPEN, max_size=LIMIT)


def messages_of(frames):
    """Return whole messages, and control frames as pairs."""
    found, parts = [], None
    for frame in frames:
        if frame.opcode not in DATA_OPCODES:
            found.append((frame.opcode, bytes(frame.data)))
            continue
        parts = [*(parts or []), bytes(frame.data)]
        if frame.fin:
            found.append(b"".join(parts))
            parts = None
    return found


def by_library(stream):
    protocol = a_library()
    protocol.receive_data(stream)
    return messages_of(protocol.events_received()), protocol.close_sent


def by_reader(pieces):
    """Read ``pieces`` as a connection does: what is not plain goes to the library."""
    protocol, reader = a_library(), FrameReader(LIMIT)
    found, passed, messages = [], [], []
    for piece in pieces:
        if protocol.state is not State.OPEN:
            break
        reader.feed(piece)
        while protocol.state is State.OPEN:
            other = reader.read(messages)
            found += messages
            messages.clear()
            if other is None:
                break
            protocol.receive_data(other)
            passed += protocol.events_received()
            # Fragments wait for their message: nothing else is in between but control.
            if not passed or passed[-1].fin:
                found += messages_of(passed)
                passed = []
    return found, protocol.close_sent


def cut(stream, places):
    edges = sorted({0, len(stream), *(p % (len(stream) + 1) for p in places)})
    return [stream[a:b] for a, b in pairwise(edges)]


payloads = st.one_of(
    st.binary(max_size=140),
    st.sampled_from([b"", b"a" * 125, b"b" * 126, b"c" * 65_535, b"d" * 65_536]),
)
frames = st.one_of(
    payloads.map(lambda data: encoded(Opcode.BINARY, data)),
    st.binary(max_size=125).map(lambda data: encoded(Opcode.PING, data)),
    st.binary(max_size=125).map(lambda data: encoded(Opcode.PONG, data)),
    st.text(max_size=40).map(lambda text: encoded(Opcode.TEXT, text.encode())),
    st.lists(payloads, min_size=1, max_size=3).map(
        lambda parts: b"".join(
            encoded(Opcode.CONT if i else Opcode.BINARY, p, fin=i == len(parts) - 1)
            for i, p in enumerate(parts)
        )
    ),
)
ENDINGS = [
    b"",
    encoded(Opcode.CLOSE, Close(1000, "Bye").serialize()),
    encode_frame(b"masked", b"1234"),
    encoded(Opcode.CONT, b"of nothing"),
    encoded(Opcode.BINARY, b"a", fin=False) + encoded(Opcode.BINARY, b"b" * 9),
    encoded(Opcode.BINARY, bytes(LIMIT + 1)),
]
places = st.lists(st.integers(0, 1 << 20), max_size=12)


@settings(deadline=None)
@given(
    st.lists(frames, max_size=8),
    st.one_of(st.sampled_from(ENDINGS), st.binary(max_size=20)),
    places,
)
def test_whatever_it_is_cut_into_it_means_the_same(sent, ending, where):
    stream = b"".join(sent) + ending
    pieces = cut(stream, where)
    assert by_reader(pieces) == by_library(stream)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_each_end_means_the_same_too(ending, step):
    stream = encoded(Opcode.BINARY, b"before") + ending
    pieces = [stream[i : i + step] for i in range(0, min(len(stream), 99 * step), step)]
    assert by_reader(pieces) == by_library(b"".join(pieces))


def test_plain_frames_never_reach_the_library():
    reader, messages = FrameReader(LIMIT), []
    reader.feed(encoded(Opcode.TEXT, b"a") + encoded(Opcode.BINARY, b"b" * 1144))
    assert reader.read(messages) is None
    assert messages == [b"a", b"b" * 1144]


def test_another_frame_waits_until_it_is_whole():
    reader, messages = FrameReader(LIMIT), []
    ping = encoded(Opcode.PING, b"keepalive")
    for place in range(len(ping)):
        reader.feed(ping[place : place + 1])
        other = reader.read(messages)
        assert other == (ping if place == len(ping) - 1 else None)


def test_behind_what_the_library_may_refuse_everything_is_left_to_it():
    reader, messages = FrameReader(LIMIT), []
    plain = encoded(Opcode.BINARY, b"plain")
    for piece in (b"\x83\x05", plain, b"\x82\x01", b"a"):
        reader.feed(piece)
        assert reader.read(messages) == piece
        assert reader.read(messages) is None
    assert messages == []


def test_one_that_is_too_long_is_refused_when_its_header_is_here():
    reader = FrameReader(LIMIT)
    header = encoded(Opcode.BINARY, bytes(LIMIT + 1))[:10]
    reader.feed(header)
    assert reader.read([]) == header


@pytest.mark.parametrize("step", [1, 2, 3, 5, 100])
def test_a_head_ends_where_it_ends(step):
    head, rest = b"HTTP/1.1 101 Go\r\nA: b\r\n\r\n", b"\x82\x01\r\n\r\n"
    data, found = head + rest, Head()
    fed = 0
    while not found.over:
        piece = data[fed : fed + step]
        fed += len(piece)
        assert found.feed(piece) is (fed >= len(head))
    assert found.whole == head
    assert found.rest == data[len(head) : fed]
    assert found.status == 101


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_a_head_that_does_not_end_is_over_all_the_same(step):
    found, fed = Head(), 0
    while not found.feed(b"x" * step):
        fed += step
    assert fed < HEAD_LIMIT
    assert (found.whole, found.status, found.rest) == (b"", None, b"")
    assert not found._data


def test_a_head_may_have_just_the_limit():
    head = b"HTTP/1.1 200\r\n".ljust(HEAD_LIMIT - 4, b"x") + b"\r\n\r\n"
    found = Head()
    assert found.feed(head + b"more")
    assert (found.whole, found.rest, found.status) == (head, b"more", 200)
    assert Head().feed(b"x" + head)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200", 200),
        (b"HTTP/1.0 407 Who?", 407),
        (b"HTTP/1.1  101 two spaces", 101),
        (b"HTTP/2 200 OK", None),
        (b"HTTP/1.1 20", None),
        (b"HTTP/1.1 2000 OK", None),
        (b"HTTP/1.1 600 OK", None),
        (b"SSH-2.0-OpenSSH_9.9", None),
        (b"", None),
    ],
)
def test_a_status_is_a_number_of_http(line, status):
    found = Head()
    found.feed(line + b"\r\n\r\n")
    assert found.status == status


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_what_is_sent_is_read_by_a_server(size):
    server = Protocol(SERVER, state=State.OPEN)
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    server.receive_data(encode_frame(data, b"mask"))
    (frame,) = server.events_received()
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.BINARY, True, data)
