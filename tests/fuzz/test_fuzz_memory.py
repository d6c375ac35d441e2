"""No input takes more memory than a stated multiple of its size.

The multiple is the one that ``payloads.py`` promises, about 100 for a document; what
the constant covers is the code's own: compiled structs, exceptions, their messages,
and what a tool that measures coverage adds.
"""

import os
import tracemalloc
from random import Random

import pytest

from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.protocol.message import (
    Message,
    MessageType,
    decode,
    encode,
)
from ssmtunneld.protocol.payloads import (
    ClosedDocument,
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    OpenDataChannel,
    parse_acknowledgement,
)
from ssmtunneld.smux.frame import Command, FrameDecoder, encode_frame
from tests.fuzz import inputs

CONSTANT = 32 * 1024
DOCUMENT_MULTIPLE = 100
# One copy of the payload, and the text of an error.
MESSAGE_MULTIPLE = 2
# A frame of eight bytes becomes a tuple of three, its number and a place in a list.
FRAME_MULTIPLE = 20

SIZE = 100_000
# Of each kind of damaged input. Measuring is slow: all 200,000 take a minute.
COUNTS = (
    {"message": 80_000, "document": 70_000, "frame": 50_000}
    if os.environ.get("SSMTUNNELD_FULL_SIZE")
    else dict.fromkeys(("message", "document", "frame"), 2000)
)

_PARSERS = (
    parse_acknowledgement,
    OpenDataChannel.parse,
    HandshakeRequest.parse,
    HandshakeResponse.parse,
    HandshakeComplete.parse,
    ClosedDocument.parse,
)


def _peak(decoder, data):
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    try:
        kept = decoder(data)
    except RemoteProtocolError as error:
        kept = error
    _, peak = tracemalloc.get_traced_memory()
    del kept
    return peak - before


@pytest.fixture(autouse=True, scope="module")
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def _filled(opening, item, closing):
    """Return ``opening``, as many ``item`` as fit in SIZE, and ``closing``."""
    return opening + b",".join([item] * (SIZE // (len(item) + 1))) + closing


_ITEMS = (
    b"[]",
    b"{}",
    b"[0]",
    b'{"":0}',
    b'{"a":{}}',
    b"[[]]",
    b"1e1",
    b"-1",
    b"12345678901234567890",
    b'"ab"',
    '"€"'.encode(),
    b'"\\ud800"',
    b"null",
)
_LISTS = (
    b"[",
    b'{"Errors":[',
    b'{"RequestedClientActions":[',
    b'{"ProcessedClientActions":[',
)

WORST_DOCUMENTS = {
    "open brackets": b"[" * SIZE,
    "open objects": b'{"a":' * (SIZE // 5),
    "nested lists": b"[" * 900 + b"]" * 900,
    "nested objects": b'{"a":' * 900 + b"{}" + b"}" * 900,
    "one long word": b'{"Output":"' + b"x" * SIZE + b'"}',
    "one wide letter": b'{"Output":"' + b"x" * SIZE + "😀".encode() + b'"}',
    "escapes": b'{"Output":"' + b"\\u0041" * (SIZE // 6) + b'"}',
    "distinct keys": b"{" + b",".join(b'"%d":0' % i for i in range(SIZE // 9)) + b"}",
    "equal keys": _filled(b"{", b'"a":{}', b"}"),
    "digits": b"1" * SIZE,
    "utf-16": ('{"Output":"' + "x" * (SIZE // 2) + '"}').encode("utf-16"),
    "utf-32": ('{"Output":"' + "x" * (SIZE // 4) + '"}').encode("utf-32"),
    "a wrong type": b'{"SessionId":[' + b"[]," * (SIZE // 3) + b"[]]}",
    **{
        f"{opening.decode()}{item.decode()},...": _filled(
            opening, item, b"]" if opening == b"[" else b"]}"
        )
        for opening in _LISTS
        for item in _ITEMS
    },
}


@pytest.mark.parametrize("name", WORST_DOCUMENTS)
def test_the_worst_documents_stay_within_the_stated_multiple(name):
    data = WORST_DOCUMENTS[name]
    for parse in _PARSERS:
        assert _peak(parse, data) <= DOCUMENT_MULTIPLE * len(data) + CONSTANT


def test_damaged_documents_stay_within_the_stated_multiple():
    random = Random(1)
    for _ in range(COUNTS["document"]):
        data = inputs.document(random)
        parse = random.choice(_PARSERS)
        assert _peak(parse, data) <= DOCUMENT_MULTIPLE * len(data) + CONSTANT, data


def test_damaged_messages_stay_within_the_stated_multiple():
    random = Random(2)
    for _ in range(COUNTS["message"]):
        data = inputs.message(random)
        assert _peak(decode, data) <= MESSAGE_MULTIPLE * len(data) + CONSTANT, data


def test_a_length_that_lies_reserves_nothing():
    wire = encode(Message(MessageType.INPUT, 0, bytes(16), 1, b"x"))
    lying = wire[:116] + b"\xff\xff\xff\xff" + wire[120:]
    assert _peak(decode, lying) <= CONSTANT
    frame = encode_frame(Command.PSH, 3, b"x")[:2] + b"\xff\xff" + bytes(4)
    assert _peak(FrameDecoder().feed, frame) <= CONSTANT


def test_a_large_message_is_copied_once():
    wire = encode(Message(MessageType.INPUT, 0, bytes(16), 1, bytes(1_000_000)))
    assert _peak(decode, wire) <= MESSAGE_MULTIPLE * len(wire) + CONSTANT


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(Command.NOP, 2**32 - 1),
        encode_frame(Command.FIN, 2**31),
        encode_frame(Command.PSH, 2**31),
        encode_frame(Command.PSH, 2**31, b"xy"),
        encode_frame(Command.PSH, 3, bytes(1016)),
        encode_frame(Command.UPD, 3, bytes(8)),
    ],
    ids=lambda frame: f"{Command(frame[1]).name}-{len(frame)}",
)
def test_frames_stay_within_the_stated_multiple(frame):
    data = frame * (SIZE // len(frame))
    assert _peak(FrameDecoder().feed, data) <= FRAME_MULTIPLE * len(data) + CONSTANT


def test_damaged_frames_stay_within_the_stated_multiple():
    random = Random(3)
    for _ in range(COUNTS["frame"]):
        pieces = inputs.frame_pieces(random)
        decoder = FrameDecoder()
        for piece in pieces:
            peak = _peak(decoder.feed, piece)
            # Up to seven bytes of the piece before are joined to this one.
            assert peak <= FRAME_MULTIPLE * (len(piece) + 7) + CONSTANT, pieces
