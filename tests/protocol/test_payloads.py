"""The documents inside messages: exact text out, liberal reading in."""

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.protocol.payloads import (
    FAILED,
    KMS_ENCRYPTION,
    MAX_ACKNOWLEDGEMENT,
    MAX_ACTIONS,
    MAX_CLOSED,
    MAX_CONTAINERS,
    MAX_HANDSHAKE,
    SESSION_TYPE,
    SUCCESS,
    UNSUPPORTED,
    ClientAction,
    ClosedDocument,
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    OpenDataChannel,
    ProcessedAction,
    encode_acknowledgement,
    parse_acknowledgement,
)

PARSERS = [
    pytest.param(parse_acknowledgement, id="acknowledgement"),
    pytest.param(OpenDataChannel.parse, id="open"),
    pytest.param(HandshakeRequest.parse, id="request"),
    pytest.param(HandshakeResponse.parse, id="response"),
    pytest.param(HandshakeComplete.parse, id="complete"),
    pytest.param(ClosedDocument.parse, id="closed"),
]

ACTIONS = {
    HandshakeRequest.parse: "RequestedClientActions",
    HandshakeResponse.parse: "ProcessedClientActions",
}

# What JSON can carry and Python compares: no NaN, no lone surrogates.
words = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
    ),
    max_leaves=8,
)
documents = st.dictionaries(words, values, max_size=3)


def _json(value):
    return json.dumps(value).encode()


def test_the_opening_message_has_the_official_keys_in_their_order():
    opening = OpenDataChannel("req", Secret("tok"), "client", "1.2.764.0")
    assert opening.encode() == (
        '{"MessageSchemaVersion":"1.0","RequestId":"req","TokenValue":"tok",'
        '"ClientId":"client","ClientVersion":"1.2.764.0"}'
    )


def test_the_opening_message_never_shows_its_token():
    opening = OpenDataChannel("req", Secret("canary"), "client", "1.2.764.0")
    assert "canary" not in repr(opening)


def test_the_opening_message_of_other_clients_may_lack_the_client_keys():
    parsed = OpenDataChannel.parse('{"RequestId":"r","TokenValue":"t"}')
    assert parsed == OpenDataChannel("r", Secret("t"), "", "")


def test_an_acknowledgement_is_written_as_the_peers_write_it():
    message_id = UUID("00112233-4455-6677-8899-aabbccddeeff").bytes
    assert encode_acknowledgement("output_stream_data", message_id, 4) == (
        b'{"AcknowledgedMessageType":"output_stream_data",'
        b'"AcknowledgedMessageId":"00112233-4455-6677-8899-aabbccddeeff",'
        b'"AcknowledgedMessageSequenceNumber":4,"IsSequentialMessage":true}'
    )


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**63 - 1))
def test_an_acknowledgement_is_read_again_and_names_its_message(message_id, sequence):
    payload = encode_acknowledgement("input_stream_data", message_id, sequence)
    assert parse_acknowledgement(payload) == sequence
    document = json.loads(payload)
    assert document["AcknowledgedMessageId"] == str(UUID(bytes=message_id))


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"AcknowledgedMessageSequenceNumber":null}',
        b'{"AcknowledgedMessageSequenceNumber":-1}',
    ],
)
def test_an_acknowledgement_of_nothing_is_refused(payload):
    with pytest.raises(RemoteProtocolError, match="of nothing"):
        parse_acknowledgement(payload)


@pytest.mark.parametrize("value", [True, 1.0, "1", [1], {}])
def test_an_acknowledged_number_must_be_an_integer(value):
    with pytest.raises(RemoteProtocolError, match="is not of type int"):
        parse_acknowledgement(_json({"AcknowledgedMessageSequenceNumber": value}))


def test_the_handshake_request_is_written_as_the_agent_writes_it():
    request = HandshakeRequest(
        "3.3.987.0",
        (
            ClientAction(
                SESSION_TYPE,
                {"SessionType": "Port", "Properties": {"portNumber": "5432"}},
            ),
            ClientAction(KMS_ENCRYPTION),
        ),
    )
    assert request.encode() == (
        b'{"AgentVersion":"3.3.987.0","RequestedClientActions":['
        b'{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port",'
        b'"Properties":{"portNumber":"5432"}}},'
        b'{"ActionType":"KMSEncryption","ActionParameters":{}}]}'
    )


def test_the_handshake_response_is_written_as_the_official_client_writes_it():
    response = HandshakeResponse("1.2.764.0", (ProcessedAction(SESSION_TYPE, SUCCESS),))
    assert response.encode() == (
        b'{"ClientVersion":"1.2.764.0","ProcessedClientActions":['
        b'{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,'
        b'"Error":""}],"Errors":null}'
    )


def test_the_handshake_response_lists_its_errors():
    response = HandshakeResponse(
        "1.2.764.0",
        (ProcessedAction(KMS_ENCRYPTION, UNSUPPORTED, error="no"),),
        ("no",),
    )
    assert response.encode().endswith(b'"Error":"no"}],"Errors":["no"]}')


def test_the_handshake_completion_has_nanoseconds_and_words():
    complete = HandshakeComplete(247_000_000, "hello")
    assert complete.encode() == (
        b'{"HandshakeTimeToComplete":247000000,"CustomerMessage":"hello"}'
    )


def test_a_closing_document_has_all_keys_and_its_date_as_text():
    closed = ClosedDocument("s-1", "bye", "m-1", 1700000000123, "i-1")
    assert closed.encode() == (
        b'{"MessageType":"channel_closed","MessageId":"m-1","DestinationId":"i-1",'
        b'"SessionId":"s-1","SchemaVersion":1,"CreatedDate":"1700000000123",'
        b'"Output":"bye"}'
    )


def test_a_client_reads_of_a_closing_document_only_what_it_needs():
    closed = ClosedDocument("s-1", "bye", "m-1", 1700000000123, "i-1")
    assert ClosedDocument.parse(closed.encode()) == ClosedDocument("s-1", "bye")


@given(words, words, words, words)
def test_an_opening_message_is_read_again(request_id, token, client_id, version):
    opening = OpenDataChannel(request_id, Secret(token), client_id, version)
    assert OpenDataChannel.parse(opening.encode()) == opening


@given(words, st.lists(st.builds(ClientAction, words, documents), max_size=4))
def test_a_handshake_request_is_read_again(version, actions):
    request = HandshakeRequest(version, tuple(actions))
    assert HandshakeRequest.parse(request.encode()) == request


@given(
    words,
    st.lists(
        st.builds(
            ProcessedAction,
            words,
            st.sampled_from([SUCCESS, FAILED, UNSUPPORTED]),
            values,
            words,
        ),
        max_size=4,
    ),
    st.lists(words, max_size=3),
)
def test_a_handshake_response_is_read_again(version, actions, errors):
    response = HandshakeResponse(version, tuple(actions), tuple(errors))
    assert HandshakeResponse.parse(response.encode()) == response


@given(st.integers(0, 2**63 - 1), words)
def test_a_handshake_completion_is_read_again(duration_ns, message):
    complete = HandshakeComplete(duration_ns, message)
    assert HandshakeComplete.parse(complete.encode()) == complete


def test_absent_and_null_keys_have_the_zero_value_of_go():
    assert HandshakeRequest.parse(b"{}") == HandshakeRequest("", ())
    assert HandshakeResponse.parse(b'{"Errors":null}') == HandshakeResponse("", ())
    assert HandshakeComplete.parse(b"{}") == HandshakeComplete(0, "")
    assert ClosedDocument.parse(b'{"Output":null}') == ClosedDocument()


def test_actions_without_keys_have_the_zero_value_of_go():
    request = HandshakeRequest.parse(b'{"RequestedClientActions":[{}]}')
    assert request.actions == (ClientAction("", {}),)
    response = HandshakeResponse.parse(b'{"ProcessedClientActions":[{}]}')
    assert response.actions == (ProcessedAction("", 0, None, ""),)


def test_unknown_keys_are_ignored():
    assert HandshakeComplete.parse(b'{"Later":[1,{}]}') == HandshakeComplete()


def test_errors_that_are_not_text_are_read_as_text():
    assert HandshakeResponse.parse(b'{"Errors":[1,"two"]}').errors == ("1", "two")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"AgentVersion":3}',
        b'{"RequestedClientActions":{}}',
        b'{"RequestedClientActions":[{"ActionType":1}]}',
        b'{"RequestedClientActions":[{"ActionParameters":[]}]}',
    ],
)
def test_a_handshake_request_with_a_wrong_type_is_refused(payload):
    with pytest.raises(RemoteProtocolError, match="is not of type"):
        HandshakeRequest.parse(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"ClientVersion":[]}',
        b'{"Errors":"one"}',
        b'{"ProcessedClientActions":[{"ActionStatus":true}]}',
        b'{"ProcessedClientActions":[{"Error":{}}]}',
    ],
)
def test_a_handshake_response_with_a_wrong_type_is_refused(payload):
    with pytest.raises(RemoteProtocolError, match="is not of type"):
        HandshakeResponse.parse(payload)


def test_a_requested_action_must_be_an_object():
    with pytest.raises(RemoteProtocolError, match="RequestedClientActions holds"):
        HandshakeRequest.parse(b'{"RequestedClientActions":["SessionType"]}')


def test_a_processed_action_must_be_an_object():
    with pytest.raises(RemoteProtocolError, match="ProcessedClientActions holds"):
        HandshakeResponse.parse(b'{"ProcessedClientActions":[[]]}')


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "payload", [b"", b"{", b"\xff", b"{'a':1}", b"1" * 4096, b"[" * MAX_CONTAINERS]
)
def test_what_is_not_json_is_refused(parse, payload):
    with pytest.raises(RemoteProtocolError, match=r"not a JSON document|not an obj"):
        parse(payload)


LIMITS = {
    "acknowledgement": (parse_acknowledgement, MAX_ACKNOWLEDGEMENT),
    "open": (OpenDataChannel.parse, MAX_HANDSHAKE),
    "request": (HandshakeRequest.parse, MAX_HANDSHAKE),
    "response": (HandshakeResponse.parse, MAX_HANDSHAKE),
    "complete": (HandshakeComplete.parse, MAX_HANDSHAKE),
    "closed": (ClosedDocument.parse, MAX_CLOSED),
}


@pytest.mark.parametrize("kind", LIMITS)
def test_each_document_has_a_limit_that_it_may_reach(kind):
    parse, limit = LIMITS[kind]
    payload = b'{"AcknowledgedMessageSequenceNumber":0}'.ljust(limit)
    parse(payload)
    with pytest.raises(RemoteProtocolError, match=f"{limit + 1} bytes"):
        parse(payload + b" ")


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b"{},", b'"",['])
def test_few_objects_and_arrays_are_parsed(parse, opening):
    with pytest.raises(RemoteProtocolError, match="objects and arrays"):
        parse(opening * (MAX_CONTAINERS + 1))


def test_brackets_inside_of_text_are_only_text():
    words = '[{"\\' * MAX_CONTAINERS
    assert ClosedDocument.parse(_json({"Output": words})).output == words


def test_text_that_is_not_closed_is_looked_at_once():
    """Looking for its end from each of its quotes would take seconds."""
    with pytest.raises(RemoteProtocolError, match="not a JSON document"):
        ClosedDocument.parse(b'"\\' * (MAX_CLOSED // 2))


def test_bytes_that_are_not_utf_8_are_read_as_go_reads_them():
    assert (
        ClosedDocument.parse(b'{"Output":"a\xff\xed\xa0\x80"}').output[:2] == "a\ufffd"
    )


@pytest.mark.parametrize("parse", [HandshakeRequest.parse, HandshakeResponse.parse])
def test_a_handshake_has_few_actions(parse):
    key = ACTIONS[parse]
    parse(_json({key: [{}] * MAX_ACTIONS}))
    with pytest.raises(RemoteProtocolError, match="17 actions"):
        parse(_json({key: [{}] * (MAX_ACTIONS + 1)}))


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("payload", [b"null", b"[]", b'"text"', b"1", b"NaN"])
def test_json_that_is_not_an_object_is_refused(parse, payload):
    with pytest.raises(RemoteProtocolError, match="not an object"):
        parse(payload)


@pytest.mark.parametrize("parse", PARSERS)
@given(data=st.binary(max_size=200) | values.map(_json))
def test_any_bytes_give_a_document_or_a_protocol_error(parse, data):
    try:
        assert parse(data) is not None
    except RemoteProtocolError:
        return
