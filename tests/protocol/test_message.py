"""The message codec: golden vectors, the validation rules, and properties P1-P3."""

from hashlib import sha256
from struct import Struct, pack
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.protocol.message import (
    ACK_FLAGS,
    MAX_PAYLOAD,
    Flag,
    Message,
    MessageType,
    PayloadType,
    decode,
    decode_flag,
    encode,
    encode_flag,
    encode_short,
)
from ssmtunneld.protocol.payloads import encode_acknowledgement

ID = UUID("00112233-4455-6677-8899-aabbccddeeff").bytes
CREATED_MS = 1700000000123

# The five worked examples of protocol 3.3. A, B and C are also what the official Go
# serialiser writes; D and E were parsed by the official Go parser.
VECTOR_A = bytes.fromhex(
    "00000074 696e7075745f73747265616d5f64617461202020202020202020202020202020"
    "00000001 0000018bcfe5687b 0000000000000005 0000000000000000"
    "8899aabbccddeeff 0011223344556677"
    "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    "00000001 00000005 68656c6c6f"
)
VECTOR_B = bytes.fromhex(
    "00000074 696e7075745f73747265616d5f64617461202020202020202020202020202020"
    "00000001 0000018bcfe5687b 0000000000000007 0000000000000000"
    "8899aabbccddeeff 0011223344556677"
    "433ebf5bc03dffa38536673207a21281612cef5faa9bc7a4d5b9be2fdb12cf1a"
    "0000000a 00000004 00000002"
)
VECTOR_C = (
    bytes.fromhex(
        "00000074 61636b6e6f776c65646765202020202020202020202020202020202020202020"
        "00000001 0000018bcfe5687b 0000000000000000 0000000000000003"
        "8899aabbccddeeff 0011223344556677"
        "7ea64de82bb3f441295c9037f9e3724e1cd94276c109f7d7fd87dd2760a06f68"
        "00000000 000000b0"
    )
    + b'{"AcknowledgedMessageType":"output_stream_data",'
    b'"AcknowledgedMessageId":"00112233-4455-6677-8899-aabbccddeeff",'
    b'"AcknowledgedMessageSequenceNumber":4,"IsSequentialMessage":true}'
)
VECTOR_D = bytes.fromhex(
    "00000074 696e7075745f73747265616d5f64617461202020202020202020202020202020"
    "00000001 0000018bcfe5687b 0000000000000001 0000000000000000"
    "8899aabbccddeeff 0011223344556677"
    "3842ce499b65b89256329c9bf60e8d14c22719888eba221695bdf5bbda9e0cc3"
    "00000001 00000012 0100000003000000 0102020003000000 6869"
)
VECTOR_E = (
    bytes.fromhex(
        "00000070 6368616e6e656c5f636c6f736564 000000000000000000000000000000000000"
        "00000001 0000018bcfe5687b 0000000000000000 0000000000000000"
        "8899aabbccddeeff 0011223344556677"
        "659015af140c26163e7910d7c838b985cc8fe3401d3db800a58cc9465c17b0f2"
        "00000050"
    )
    + b'{"MessageType":"channel_closed","SessionId":"s-1",'
    b'"SchemaVersion":1,"Output":""}'
)

MESSAGE_A = Message(MessageType.INPUT, 5, ID, CREATED_MS, b"hello", PayloadType.OUTPUT)
MESSAGE_B = Message(
    MessageType.INPUT,
    7,
    ID,
    CREATED_MS,
    encode_flag(Flag.TERMINATE_SESSION),
    PayloadType.FLAG,
)
MESSAGE_C = Message(
    MessageType.ACKNOWLEDGE,
    0,
    ID,
    CREATED_MS,
    encode_acknowledgement(MessageType.OUTPUT, ID, 4),
    PayloadType.UNSET,
    ACK_FLAGS,
)
MESSAGE_D = Message(
    MessageType.INPUT,
    1,
    ID,
    CREATED_MS,
    bytes.fromhex("0100000003000000 0102020003000000 6869"),
    PayloadType.OUTPUT,
)
MESSAGE_E = Message(
    MessageType.CHANNEL_CLOSED,
    0,
    ID,
    CREATED_MS,
    b'{"MessageType":"channel_closed","SessionId":"s-1","SchemaVersion":1,"Output":""}',
)

_FULL = pytest.mark.parametrize(
    ("vector", "message", "length"),
    [
        pytest.param(VECTOR_A, MESSAGE_A, 125, id="A"),
        pytest.param(VECTOR_B, MESSAGE_B, 124, id="B"),
        pytest.param(VECTOR_C, MESSAGE_C, 296, id="C"),
        pytest.param(VECTOR_D, MESSAGE_D, 138, id="D"),
    ],
)

messages = st.builds(
    Message,
    message_type=st.sampled_from(sorted(MessageType))
    | st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=32),
    sequence=st.integers(-(2**63), 2**63 - 1),
    message_id=st.binary(min_size=16, max_size=16),
    created_ms=st.integers(1, 2**64 - 1),
    payload=st.binary(min_size=1, max_size=2 * MAX_PAYLOAD),
    payload_type=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 2**64 - 1),
    schema_version=st.integers(0, 2**32 - 1),
)


def _with(data, offset, replacement):
    return data[:offset] + replacement + data[offset + len(replacement) :]


@_FULL
def test_a_golden_vector_is_written_byte_for_byte(vector, message, length):
    assert encode(message) == vector
    assert len(vector) == length


@_FULL
def test_a_golden_vector_is_read_as_the_message_it_names(vector, message, length):
    assert decode(vector) == message


def test_the_service_own_form_is_written_byte_for_byte():
    assert encode_short(MESSAGE_E) == VECTOR_E
    assert len(VECTOR_E) == 196


def test_the_service_own_form_is_read_without_a_payload_type():
    assert decode(VECTOR_E) == MESSAGE_E
    assert decode(VECTOR_E).payload_type == PayloadType.UNSET


def test_both_vectors_with_documents_name_their_own_digest():
    for vector in (VECTOR_C, VECTOR_E):
        assert sha256(decode(vector).payload).digest() in vector


@given(messages)
def test_what_is_encoded_is_decoded_again(message):
    assert decode(encode(message)) == message


@given(messages)
def test_the_short_form_keeps_everything_but_the_payload_type(message):
    assert decode(encode_short(message)) == message._replace(payload_type=0)


@given(messages)
def test_a_canonical_message_is_reproduced_byte_for_byte(message):
    wire = encode(message)
    assert encode(decode(wire)) == wire


@given(st.binary(max_size=400))
def test_any_bytes_give_a_message_or_a_protocol_error(data):
    try:
        message = decode(data)
    except RemoteProtocolError:
        return
    assert data.endswith(message.payload)


@given(messages, st.integers(0, 119), st.integers(1, 255))
def test_a_flipped_header_gives_a_message_or_a_protocol_error(message, at, change):
    wire = bytearray(encode(message))
    wire[at] ^= change
    try:
        assert decode(bytes(wire)).payload
    except RemoteProtocolError:
        return


def test_an_empty_payload_is_never_written():
    with pytest.raises(AssertionError, match="without payload"):
        encode(MESSAGE_A._replace(payload=b""))


@pytest.mark.parametrize("length", [0, 1, 36, 115])
def test_a_message_shorter_than_the_shorter_header_is_refused(length):
    with pytest.raises(RemoteProtocolError, match="no whole header"):
        decode(VECTOR_A[:length])


@pytest.mark.parametrize("length", [116, 119])
def test_a_full_header_that_is_cut_is_refused(length):
    with pytest.raises(RemoteProtocolError, match="cut short"):
        decode(VECTOR_A[:length])


@pytest.mark.parametrize("header_length", [0, 1, 111, 113, 115, 117, 2**32 - 1])
def test_another_header_length_is_refused(header_length):
    with pytest.raises(RemoteProtocolError, match=f"header length {header_length}"):
        decode(_with(VECTOR_A, 0, pack(">I", header_length)))


@pytest.mark.parametrize("name", [b"\0" * 32, b" " * 32, b"\0  " + b"\0" * 29])
def test_a_message_without_a_type_is_refused(name):
    with pytest.raises(RemoteProtocolError, match="without a type"):
        decode(_with(VECTOR_A, 4, name))


@pytest.mark.parametrize("name", ["é", "agent\x1b[2J", "agent\njob", "\x7f"])
def test_a_type_that_does_not_print_in_ascii_is_refused(name):
    with pytest.raises(RemoteProtocolError, match="without a type"):
        decode(_with(VECTOR_A, 4, name.encode().ljust(32)))


@pytest.mark.parametrize(
    "padded",
    [
        b"input_stream_data".ljust(32, b"\0"),
        b"\0input_stream_data".ljust(32, b"\0"),
        b" input_stream_data".ljust(32),
    ],
)
def test_nuls_and_blanks_around_a_type_do_not_count(padded):
    assert decode(_with(VECTOR_A, 4, padded)) == MESSAGE_A


def test_an_unknown_type_is_read_for_the_caller_to_ignore():
    wire = encode(MESSAGE_A._replace(message_type="agent_job"))
    assert decode(wire).message_type == "agent_job"


def test_a_message_without_a_creation_date_is_refused():
    with pytest.raises(RemoteProtocolError, match="without a creation date"):
        decode(encode(MESSAGE_A._replace(created_ms=0)))


def test_a_payload_that_differs_from_its_digest_is_refused():
    with pytest.raises(RemoteProtocolError, match="does not match its digest"):
        decode(VECTOR_A[:-1] + b"O")


def test_a_payload_that_was_cut_is_refused():
    with pytest.raises(RemoteProtocolError, match="does not match its digest"):
        decode(VECTOR_A[:-1])


def test_the_payload_is_the_rest_whatever_its_length_says():
    wire = _with(VECTOR_A, 116, pack(">I", 2))
    assert decode(wire).payload == b"hello"


def test_the_digest_of_a_payload_of_length_zero_is_not_checked():
    wire = _with(VECTOR_A, 80, bytes(32))
    assert decode(_with(wire, 116, bytes(4))).payload == b"hello"


@pytest.mark.parametrize(
    "kind", [MessageType.START_PUBLICATION, MessageType.PAUSE_PUBLICATION]
)
def test_publication_messages_are_read_without_validation(kind):
    padded = kind.encode().ljust(32, b"\0")
    wire = _with(_with(VECTOR_A, 4, padded), 40, bytes(8))
    assert decode(_with(wire, 80, bytes(32))).message_type == kind


def test_sequence_numbers_are_signed_and_dates_are_not():
    wire = Struct(">Qq").pack(2**64 - 1, -1)
    message = decode(_with(VECTOR_A, 40, wire))
    assert (message.created_ms, message.sequence) == (2**64 - 1, -1)


@pytest.mark.parametrize("flag", list(Flag))
def test_a_flag_is_four_bytes_big_endian(flag):
    assert encode_flag(flag) == bytes([0, 0, 0, flag])
    assert decode_flag(encode_flag(flag)) == flag


def test_an_unknown_flag_is_a_number_for_the_caller_to_ignore():
    assert decode_flag(b"\xff\xff\xff\xff") == 2**32 - 1


@pytest.mark.parametrize("payload", [b"", b"\0\0\2", b"\0\0\0\0\2"])
def test_a_flag_that_is_not_four_bytes_is_refused(payload):
    with pytest.raises(RemoteProtocolError, match=f"a flag of {len(payload)} bytes"):
        decode_flag(payload)


def test_a_digest_is_not_looked_at_where_the_agent_would_not():
    data = bytearray(encode(Message("input_stream_data", 0, bytes(16), 1, b"x", 1)))
    data[80:112] = bytes(32)
    with pytest.raises(RemoteProtocolError):
        decode(bytes(data))
    assert decode(bytes(data), check_digest=False).payload == b"x"
