"""Sources of fuzz inputs: a corpus of valid ones, and seeded damage to it.

Everything is a function of the ``random.Random`` that is passed in, so a failure names
its seed and happens again.
"""

import json
from hashlib import sha256
from itertools import pairwise

from ssmtunneld.base.secret import Secret
from ssmtunneld.protocol.message import (
    Message,
    MessageType,
    PayloadType,
    encode,
    encode_flag,
    encode_short,
)
from ssmtunneld.protocol.payloads import (
    KMS_ENCRYPTION,
    SESSION_TYPE,
    ClientAction,
    ClosedDocument,
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    OpenDataChannel,
    ProcessedAction,
    encode_acknowledgement,
)
from ssmtunneld.smux.frame import Command, encode_frame

_ID = bytes(range(16))
_CREATED_MS = 1_700_000_000_123

DOCUMENTS = (
    encode_acknowledgement(MessageType.OUTPUT, _ID, 4),
    encode_acknowledgement(MessageType.INPUT, _ID, 2**63 - 1),
    OpenDataChannel("request", Secret("token"), "client", "1.2.764.0")
    .encode()
    .encode(),
    HandshakeRequest(
        "3.3.987.0",
        (
            ClientAction(
                SESSION_TYPE,
                {
                    "SessionType": "Port",
                    "Properties": {"host": "db", "portNumber": "5432"},
                },
            ),
            ClientAction(KMS_ENCRYPTION, {"KMSKeyId": "key", "Challenge": "AAAA"}),
        ),
    ).encode(),
    HandshakeResponse(
        "1.2.764.0",
        (
            ProcessedAction(SESSION_TYPE, 1),
            ProcessedAction(KMS_ENCRYPTION, 3, {"KMSCipherTextKey": "AA"}, "no"),
        ),
        ("no", "nö"),
    ).encode(),
    HandshakeComplete(247_000_000, "welcome").encode(),
    ClosedDocument("s-1", "bye\n----------ERROR-------\n", "m", _CREATED_MS).encode(),
    b"{}",
    b'{"Errors":[[1,{"a":null}],-1e9,"\\ud800"]}',
)

_FRAMES = (
    encode_frame(Command.SYN, 3),
    encode_frame(Command.PSH, 3, b"hi"),
    encode_frame(Command.PSH, 2**32 - 1, bytes(range(256)) * 2),
    encode_frame(Command.PSH, 5),
    encode_frame(Command.UPD, 3, bytes(8)),
    encode_frame(Command.NOP, 0),
    encode_frame(Command.FIN, 3),
)

MESSAGES = tuple(
    write(Message(kind, sequence, _ID, _CREATED_MS, payload, payload_type, flags))
    for write in (encode, encode_short)
    for kind, sequence, payload, payload_type, flags in (
        (MessageType.INPUT, 0, b"hello", PayloadType.OUTPUT, 1),
        (MessageType.OUTPUT, 2**63 - 1, _FRAMES[2], PayloadType.OUTPUT, 0),
        (MessageType.OUTPUT, 7, encode_flag(2), PayloadType.FLAG, 0),
        (MessageType.ACKNOWLEDGE, 0, DOCUMENTS[0], PayloadType.UNSET, 3),
        (MessageType.OUTPUT, 0, DOCUMENTS[3], PayloadType.HANDSHAKE_REQUEST, 1),
        (MessageType.CHANNEL_CLOSED, 0, DOCUMENTS[6], PayloadType.UNSET, 0),
        (MessageType.PAUSE_PUBLICATION, 0, b"{}", PayloadType.UNSET, 0),
        ("agent_job", -1, b"\0", PayloadType.EXIT_CODE, 2**64 - 1),
    )
)

_KEYS = sorted(
    {
        key
        for document in DOCUMENTS
        for key in json.loads(document)
        if isinstance(key, str)
    }
    | {"ActionType", "ActionParameters", "ActionStatus", "ActionResult", "Error"}
)

# Sizes, signs and limits that parsers get wrong.
_EDGES = tuple(
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for order in ("big", "little")
    for value in (0, 1, 112, 116, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
)


def damaged(random, corpus):
    """Return one member of ``corpus`` after one to four random injuries."""
    data = random.choice(corpus)
    for _ in range(random.randint(1, 4)):
        data = random.choice(_INJURIES)(random, data, corpus)
    return data


def message(random):
    """Return a damaged message, half of the time with its digest put right again."""
    data = damaged(random, MESSAGES)
    if random.random() < 0.5 and len(data) > 120:
        start = 120 if data[3] == 116 else 116
        data = data[:80] + sha256(data[start:]).digest() + data[112:]
    return data


def document(random):
    """Return a damaged document, or a whole one with random values under its keys."""
    if random.random() < 0.5:
        return damaged(random, DOCUMENTS)
    keys = random.sample(_KEYS, random.randint(0, 5))
    return json.dumps({key: _value(random, 3) for key in keys}).encode()


def frame_pieces(random):
    """Return a stream of damaged frames, cut anywhere."""
    data = b"".join(random.choices(_FRAMES, k=random.randint(0, 8)))
    if random.random() < 0.7:
        data = random.choice(_INJURIES)(random, data, _FRAMES)
    cuts = sorted(random.randint(0, len(data)) for _ in range(random.randint(0, 6)))
    return [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]


def _value(random, depth):
    choice = random.randrange(9 if depth else 7)
    match choice:
        case 0:
            return None
        case 1:
            return random.random() < 0.5
        case 2:
            return random.choice([0, 1, -1, 2**31, 2**63, -(2**64), 10**40])
        case 3:
            return random.choice([0.5, -1e308, float("inf"), float("nan")])
        case 4 | 5 | 6:
            return random.choice(["", "x", "Port", "\0", "é", "\ud800", "1" * 50])
        case 7:
            return [_value(random, depth - 1) for _ in range(random.randrange(4))]
        case _:
            return {
                random.choice(_KEYS): _value(random, depth - 1)
                for _ in range(random.randrange(4))
            }


def _flip(random, data, corpus):
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def _overwrite(random, data, corpus):
    at = random.randint(0, len(data))
    edge = random.choice(_EDGES)
    return data[:at] + edge + data[at + len(edge) :]


def _insert(random, data, corpus):
    at = random.randint(0, len(data))
    return data[:at] + random.randbytes(random.randint(1, 16)) + data[at:]


def _remove(random, data, corpus):
    at = random.randint(0, len(data))
    return data[:at] + data[at + random.randint(1, 32) :]


def _repeat(random, data, corpus):
    at = random.randint(0, len(data))
    piece = data[at : at + random.randint(1, 32)]
    return data[:at] + piece * random.randint(2, 8) + data[at:]


def _cut(random, data, corpus):
    return data[: random.randint(0, len(data))]


def _splice(random, data, corpus):
    other = random.choice(corpus)
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _replace(random, data, corpus):
    return random.randbytes(random.randint(0, 200))


_INJURIES = (_flip, _overwrite, _insert, _remove, _repeat, _cut, _splice, _replace)
