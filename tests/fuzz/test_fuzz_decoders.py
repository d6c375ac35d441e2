"""200,000 damaged inputs: each gives a value or RemoteProtocolError, nothing else.

Reproduce one failure by its seed: every input of a batch is a function of it.
"""

from random import Random

import pytest

from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.protocol.message import decode, decode_flag
from ssmtunneld.protocol.payloads import (
    ClosedDocument,
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    OpenDataChannel,
    parse_acknowledgement,
)
from ssmtunneld.smux.frame import FrameDecoder
from tests.fuzz import inputs

BATCH = 10_000

_PARSERS = (
    parse_acknowledgement,
    OpenDataChannel.parse,
    HandshakeRequest.parse,
    HandshakeResponse.parse,
    HandshakeComplete.parse,
    ClosedDocument.parse,
)


def _feed(pieces):
    decoder = FrameDecoder()
    for piece in pieces:
        decoder.feed(piece)


def _document_case(random):
    # Some with the parser that would be asked, some with one that would not.
    return random.choice(_PARSERS), inputs.document(random)


def _message_case(random):
    if random.random() < 0.02:
        return decode_flag, random.randbytes(random.randrange(8))
    return decode, inputs.message(random)


def _frame_case(random):
    return _feed, inputs.frame_pieces(random)


def _batches(case, count):
    return [pytest.param(case, seed, id=f"{case.__name__}-{seed}") for seed in count]


# 8 + 7 + 5 batches of 10,000.
@pytest.mark.parametrize(
    ("case", "seed"),
    [
        *_batches(_message_case, range(8)),
        *_batches(_document_case, range(7)),
        *_batches(_frame_case, range(5)),
    ],
)
def test_a_damaged_input_gives_a_value_or_a_protocol_error(case, seed):
    random = Random(seed)
    accepted = 0
    for number in range(BATCH):
        decoder, data = case(random)
        try:
            decoder(data)
        except RemoteProtocolError:
            continue
        except BaseException as error:
            error.add_note(f"input {number} of seed {seed}: {data!r}")
            raise
        accepted += 1
    # Both ends must be reached, or the damage is too light or too heavy to tell.
    assert BATCH // 50 < accepted < BATCH - BATCH // 50


@pytest.mark.parametrize(
    ("corpus", "decoder"),
    [
        pytest.param(inputs.MESSAGES, decode, id="messages"),
        pytest.param(inputs.DOCUMENTS, HandshakeComplete.parse, id="documents"),
    ],
)
def test_the_corpus_itself_is_valid(corpus, decoder):
    for data in corpus:
        assert decoder(data)
