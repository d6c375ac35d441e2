"""The AgentMessage: a binary header and its payload (protocol 3).

One binary websocket message carries exactly one of these. Integers are big-endian.
The service's own ``channel_closed`` has a header of 112 bytes, without PayloadType and
padded with NULs; everything else has 116 and is padded with spaces. Both are accepted.
"""

from enum import IntEnum, StrEnum
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

from ssmtunneld.errors import RemoteProtocolError


class MessageType(StrEnum):
    """The words of protocol 3.1."""

    INPUT = "input_stream_data"
    OUTPUT = "output_stream_data"
    ACKNOWLEDGE = "acknowledge"
    CHANNEL_CLOSED = "channel_closed"
    START_PUBLICATION = "start_publication"
    PAUSE_PUBLICATION = "pause_publication"
    AGENT_SESSION_STATE = "agent_session_state"


class PayloadType(IntEnum):
    """The numbers of protocol 3.2."""

    UNSET = 0
    OUTPUT = 1
    ERROR = 2
    SIZE = 3
    PARAMETER = 4
    HANDSHAKE_REQUEST = 5
    HANDSHAKE_RESPONSE = 6
    HANDSHAKE_COMPLETE = 7
    ENC_CHALLENGE_REQUEST = 8
    ENC_CHALLENGE_RESPONSE = 9
    FLAG = 10
    STDERR = 11
    EXIT_CODE = 12


class Flag(IntEnum):
    """The payload of a message of type ``PayloadType.FLAG`` (protocol 6.3)."""

    DISCONNECT_TO_PORT = 1
    TERMINATE_SESSION = 2
    CONNECT_TO_PORT_ERROR = 3


SCHEMA_VERSION: Final = 1
ACK_FLAGS: Final = 3
"""SYN and FIN: set by peers on acknowledgements, and never read (protocol 3)."""
MAX_PAYLOAD: Final = 1024
"""Bytes of payload in one message: what both official peers send (protocol 4.4)."""

_HEADER: Final = Struct(">I32sIQqQ16s32sII")
_OFFSET_OF_PAYLOAD_LENGTH: Final = 116
_OFFSET_WITHOUT_PAYLOAD_TYPE: Final = 112
_COMMON: Final = Struct(">I32sIQqQ8s8s32s")
_UINT32: Final = Struct(">I")

_PADDED: Final = {kind.value: kind.value.encode().ljust(32) for kind in MessageType}
_NAMES: Final = {padded: name for name, padded in _PADDED.items()}
_UNVALIDATED: Final = frozenset(
    {MessageType.START_PUBLICATION.value, MessageType.PAUSE_PUBLICATION.value}
)


class Message(NamedTuple):
    """One AgentMessage.

    ``message_id`` is the 16 bytes of the UUID in the order of RFC 4122 (on the wire its
    halves are swapped); ``created_ms`` is the Unix time in milliseconds.
    """

    message_type: str
    sequence: int
    message_id: bytes
    created_ms: int
    payload: bytes
    payload_type: int = 0
    flags: int = 0
    schema_version: int = SCHEMA_VERSION


def encode(message: Message) -> bytes:
    """Return the bytes of ``message``, with a header of 116 bytes.

    The payload must not be empty: the peers' serialiser refuses that (protocol 3).
    """
    return encode_fields(*message)


def encode_fields(
    kind: str,
    sequence: int,
    message_id: bytes,
    created_ms: int,
    payload: bytes,
    payload_type: int = 0,
    flags: int = 0,
    schema: int = SCHEMA_VERSION,
) -> bytes:
    """Return the bytes of a message that is not needed itself; see :func:`encode`."""
    assert payload, "a message without payload"
    return (
        _HEADER.pack(
            _OFFSET_OF_PAYLOAD_LENGTH,
            _PADDED.get(kind) or kind.encode().ljust(32),
            schema,
            created_ms,
            sequence,
            flags,
            message_id[8:] + message_id[:8],
            sha256(payload).digest(),
            payload_type,
            len(payload),
        )
        + payload
    )


def encode_short(message: Message) -> bytes:
    """Return ``message`` as the service itself writes: header 112, NUL padding.

    There is no room for ``payload_type`` in this form (protocol 3, example E).
    """
    kind, sequence, message_id, created_ms, payload, _, flags, schema = message
    return (
        _COMMON.pack(
            _OFFSET_WITHOUT_PAYLOAD_TYPE,
            kind.encode(),
            schema,
            created_ms,
            sequence,
            flags,
            message_id[8:],
            message_id[:8],
            sha256(payload).digest(),
        )
        + _UINT32.pack(len(payload))
        + payload
    )


def decode(data: bytes, *, check_digest: bool = True) -> Message:
    """Return the message in ``data``.

    Args:
        data: One binary websocket message.
        check_digest: As the plugin does; the agent never does (protocol 3).

    Raises:
        RemoteProtocolError: ``data`` is too short, names no type, has no creation date,
            or its digest does not match the payload. Such a message must be dropped
            without an acknowledgement (protocol 3).
    """
    if len(data) < _OFFSET_WITHOUT_PAYLOAD_TYPE + 4:
        raise RemoteProtocolError(f"a message of {len(data)} bytes has no whole header")
    header_length, padded, schema, created_ms, sequence, flags, low, high, digest = (
        _COMMON.unpack_from(data)
    )
    payload_type = 0
    if header_length == _OFFSET_OF_PAYLOAD_LENGTH:
        if len(data) < _HEADER.size:
            raise RemoteProtocolError(f"a message of {len(data)} bytes is cut short")
        (payload_type,) = _UINT32.unpack_from(data, _OFFSET_WITHOUT_PAYLOAD_TYPE)
    elif header_length != _OFFSET_WITHOUT_PAYLOAD_TYPE:
        raise RemoteProtocolError(f"header length {header_length}, not 112 or 116")
    kind = _NAMES.get(padded) or _type_name(padded)
    # The rest of the message, regardless of PayloadLength: as the peers do.
    payload = data[header_length + 4 :]
    if kind not in _UNVALIDATED:
        if created_ms == 0:
            raise RemoteProtocolError("a message without a creation date")
        (payload_length,) = _UINT32.unpack_from(data, header_length)
        if check_digest and payload_length and sha256(payload).digest() != digest:
            raise RemoteProtocolError(f"message {sequence} does not match its digest")
    return Message(
        kind, sequence, high + low, created_ms, payload, payload_type, flags, schema
    )


def _type_name(padded: bytes) -> str:
    name = padded.strip(b"\0").strip()
    text = name.decode("ascii", "replace")
    if not text or not text.isascii() or not text.isprintable():
        raise RemoteProtocolError("a message without a type")
    return text


def encode_flag(flag: Flag) -> bytes:
    """Return the payload of a flag message."""
    return _UINT32.pack(flag)


def decode_flag(payload: bytes) -> int:
    """Return the number in a flag message; unknown ones are for the caller to ignore.

    Raises:
        RemoteProtocolError: The payload is not four bytes.
    """
    if len(payload) != _UINT32.size:
        raise RemoteProtocolError(f"a flag of {len(payload)} bytes")
    number: int = _UINT32.unpack(payload)[0]
    return number
