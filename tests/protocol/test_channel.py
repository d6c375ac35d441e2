"""One data channel, driven by hand: transcripts of what it does and when."""

import json
from itertools import product

import pytest

from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import (
    ChannelClosed,
    DestinationForbidden,
    HandshakeFailed,
    LocalProtocolError,
    RemoteProtocolError,
)
from ssmtunneld.protocol.channel import (
    BATCH,
    HANDSHAKE_TIMEOUT,
    MALFORMED_LIMIT,
    PAUSE_TIMEOUT,
)
from ssmtunneld.protocol.events import Closed, Deliver, DialFailed, Opened, SendOpener
from ssmtunneld.protocol.handshake import CLIENT_VERSION
from ssmtunneld.protocol.message import (
    ACK_FLAGS,
    MAX_PAYLOAD,
    Flag,
    MessageType,
    PayloadType,
    decode,
)
from ssmtunneld.protocol.payloads import HandshakeResponse
from ssmtunneld.protocol.states import State
from ssmtunneld.protocol.window import INITIAL_WINDOW
from tests.support.bench import (
    STAMP,
    Acked,
    Bench,
    Sent,
    ack,
    agent_message,
    channel_closed,
    complete,
    flag,
    handshaking_bench,
    new_channel,
    open_bench,
    output,
    pause,
    request,
    start,
)


def _state(bench):
    return bench.core.statistics().state


# Handshake.


def test_the_first_thing_on_a_websocket_is_the_introduction():
    (introduction,) = Bench().attach("secret token")
    assert isinstance(introduction, SendOpener)
    assert json.loads(introduction.text) == {
        "MessageSchemaVersion": "1.0",
        "RequestId": "request",
        "TokenValue": "secret token",
        "ClientId": "client",
        "ClientVersion": CLIENT_VERSION,
    }


def test_a_request_is_acknowledged_then_answered():
    bench = handshaking_bench()
    acked, response = bench.receive(request())
    assert acked == Acked(0)
    assert response.sequence == 0
    assert response.payload_type == PayloadType.HANDSHAKE_RESPONSE
    assert HandshakeResponse.parse(response.payload).client_version == CLIENT_VERSION
    assert _state(bench) is State.HANDSHAKING


def test_the_channel_is_open_once_the_agent_says_complete():
    bench = handshaking_bench()
    bench.receive(request())
    assert bench.core.room == 0
    acked, opened = bench.receive(complete())
    assert acked == Acked(1)
    assert isinstance(opened, Opened)
    assert opened.terms.mux
    assert opened.terms.notice == ""
    assert _state(bench) is State.OPEN
    assert bench.core.room > 0


def test_the_agents_words_to_the_user_are_in_the_terms():
    bench = handshaking_bench()
    _, _, _, opened = bench.receive(request(), complete("update the agent"))
    assert opened.terms.notice == "update the agent"


def test_a_handshake_that_arrives_in_the_wrong_order_works():
    bench = handshaking_bench()
    assert bench.receive(complete()) == [Acked(1)]
    acked, _, opened = bench.receive(request())
    assert acked == Acked(0)
    assert isinstance(opened, Opened)


def test_a_second_request_is_acknowledged_and_not_answered():
    bench = handshaking_bench()
    bench.receive(request())
    assert bench.receive(request(sequence=1)) == [Acked(1)]


def test_a_second_completion_changes_nothing():
    bench = open_bench()
    assert bench.receive(complete(sequence=2)) == [Acked(2)]
    assert _state(bench) is State.OPEN


def test_a_request_that_we_cannot_grant_is_answered_then_ends_the_channel():
    bench = handshaking_bench()
    acked, response, closed = bench.receive(request(kms=True))
    assert acked == Acked(0)
    assert HandshakeResponse.parse(response.payload).errors != ()
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, HandshakeFailed)
    assert "KMS" in str(closed.error)


def test_an_agent_that_we_cannot_understand_ends_the_channel():
    bench = handshaking_bench()
    acked, closed = bench.receive(request(version="new"))
    assert acked == Acked(0)
    assert isinstance(closed.error, HandshakeFailed)


def test_nothing_comes_out_after_a_refusal_even_of_what_had_arrived_before_it():
    bench = handshaking_bench()
    bench.receive(complete(), flag(2, Flag.CONNECT_TO_PORT_ERROR), output(3, b"x"))
    *_, last = bench.receive(request(kms=True))
    assert isinstance(last, Closed)
    assert isinstance(last.error, HandshakeFailed)


@pytest.mark.parametrize("requested", [False, True], ids=["before request", "after it"])
@pytest.mark.parametrize(
    ("payload", "payload_type"),
    [(b"data", PayloadType.OUTPUT), (b"\0\0\0\3", PayloadType.FLAG)],
    ids=["data", "flag"],
)
def test_data_before_the_channel_is_open_breaks_the_protocol(
    requested, payload, payload_type
):
    """Whoever carries it out has nobody yet to give it to."""
    bench = handshaking_bench()
    if requested:
        bench.receive(request())
    with pytest.raises(RemoteProtocolError, match="before the handshake"):
        bench.receive(output(int(requested), payload, payload_type))
    assert not any(isinstance(e, Deliver | DialFailed) for e in bench.effects())


def test_a_completion_without_a_request_breaks_the_protocol():
    bench = handshaking_bench()
    with pytest.raises(RemoteProtocolError, match="without a request"):
        bench.receive(complete(sequence=0))


def test_a_handshake_that_takes_too_long_ends_the_channel():
    bench = handshaking_bench()
    assert bench.core.next_deadline() == HANDSHAKE_TIMEOUT
    assert bench.at(HANDSHAKE_TIMEOUT - 0.001).tick() == []
    (closed,) = bench.at(HANDSHAKE_TIMEOUT).tick()
    assert isinstance(closed.error, HandshakeFailed)
    assert bench.core.next_deadline() is None


def test_a_complete_handshake_has_no_deadline():
    bench = open_bench()
    assert bench.core.next_deadline() is None
    assert bench.at(HANDSHAKE_TIMEOUT + 1).tick() == []


def test_our_answer_is_repeated_until_it_is_acknowledged():
    bench = handshaking_bench()
    _, response = bench.receive(request())
    assert bench.core.next_deadline() == 1.0
    assert bench.at(1.0).tick() == [response]
    assert bench.at(1.1).receive(ack(0)) == []
    assert bench.core.next_deadline() == HANDSHAKE_TIMEOUT


# Data.


def test_data_is_numbered_after_the_handshake():
    bench = open_bench()
    assert bench.send(b"a", b"b") == [Sent(1, b"a"), Sent(2, b"b")]


def test_a_message_is_encoded_as_the_peers_do():
    bench = open_bench()
    bench.core.send(b"hello", 1.0)
    (transmit,) = bench.core.drain()
    message = decode(transmit.data)
    assert message.message_type == MessageType.INPUT
    assert message.flags == 0
    assert message.created_ms == STAMP
    assert message.message_id != bytes(16)


def test_an_acknowledgement_names_what_it_acknowledges():
    bench = open_bench()
    bench.core.receive(output(2, b"x"), 1.0)
    transmit, _ = bench.core.drain()
    message = decode(transmit.data)
    assert message.message_type == MessageType.ACKNOWLEDGE
    assert message.flags == ACK_FLAGS
    assert message.sequence == 0
    assert json.loads(message.payload) == {
        "AcknowledgedMessageType": "output_stream_data",
        "AcknowledgedMessageId": "00112233-4455-6677-8899-aabbccddeeff",
        "AcknowledgedMessageSequenceNumber": 2,
        "IsSequentialMessage": True,
    }


def test_data_is_acknowledged_then_delivered():
    bench = open_bench()
    assert bench.receive(output(2, b"x")) == [Acked(2), Deliver(b"x")]


def test_early_data_is_acknowledged_at_once_and_delivered_in_order():
    bench = open_bench()
    assert bench.receive(output(4, b"c")) == [Acked(4)]
    assert bench.receive(output(3, b"b")) == [Acked(3)]
    assert bench.core.statistics().early == 2
    expected = [Acked(2), Deliver(b"a"), Deliver(b"b"), Deliver(b"c")]
    assert bench.receive(output(2, b"a")) == expected


def test_a_repeated_message_is_acknowledged_again_and_not_delivered_again():
    bench = open_bench()
    bench.receive(output(2, b"x"))
    assert bench.receive(output(2, b"x")) == [Acked(2)]
    assert bench.core.statistics().duplicates == 1


def test_what_does_not_fit_is_left_to_be_sent_again():
    bench = open_bench()
    sequence = 3
    while bench.receive(output(sequence, bytes(4 << 20))) == [Acked(sequence)]:
        sequence += 1
    assert bench.core.statistics().early == sequence - 3
    bench.receive(output(2, b"x"))
    assert bench.receive(output(sequence, b"y")) == [Acked(sequence), Deliver(b"y")]


@pytest.mark.parametrize(
    "payload_type",
    [PayloadType.SIZE, PayloadType.STDERR, PayloadType.EXIT_CODE, 4711],
)
def test_payloads_of_shell_sessions_are_acknowledged_and_ignored(payload_type):
    bench = open_bench()
    assert bench.receive(output(2, b"x", payload_type)) == [Acked(2)]


def test_a_failed_dial_is_a_fact():
    bench = open_bench()
    expected = [Acked(2), DialFailed()]
    assert bench.receive(flag(2, Flag.CONNECT_TO_PORT_ERROR)) == expected


def test_other_flags_are_ignored():
    bench = open_bench()
    assert bench.receive(flag(2, Flag.DISCONNECT_TO_PORT)) == [Acked(2)]


def test_messages_of_other_types_are_ignored():
    bench = open_bench()
    message = agent_message(MessageType.AGENT_SESSION_STATE, 0, b"{}", 0)
    assert bench.receive(message) == []


def test_room_is_what_send_takes():
    bench = open_bench()
    for _ in range(bench.core.room):
        bench.core.send(bytes(MAX_PAYLOAD), 1.0)
    assert bench.core.room == 0
    with pytest.raises(AssertionError, match="without room"):
        bench.core.send(b"x", 1.0)


def test_room_is_what_send_takes_also_of_full_messages_in_a_wide_window():
    bench = open_bench()
    acknowledged = 1
    while bench.core.statistics().window < 4 * INITIAL_WINDOW:
        for _ in range(bench.core.room):
            bench.core.send(bytes(MAX_PAYLOAD), 1.0)
        bench.at(1.0).receive(ack(acknowledged))
        acknowledged += 1
    for _ in range(bench.core.room):
        bench.core.send(bytes(MAX_PAYLOAD), 1.0)
    assert bench.core.room == 0


def test_a_lost_message_is_sent_again():
    bench = open_bench()
    assert bench.at(1.0).send(b"hi") == [Sent(1, b"hi")]
    assert bench.at(1.1).tick() == []
    assert bench.at(1.2).tick() == [Sent(1, b"hi")]
    assert bench.at(1.3).receive(ack(1)) == []
    assert bench.core.next_deadline() is None


def test_a_repetition_is_the_same_bytes():
    bench = open_bench()
    bench.core.send(b"hi", 1.0)
    first = bench.core.drain()
    bench.core.on_deadline(9.0)
    assert bench.core.drain() == first


def test_acknowledgements_of_later_messages_show_a_loss():
    bench = open_bench()
    bench.at(1.0).send(b"a", b"b", b"c", b"d")
    assert bench.at(1.05).receive(ack(2), ack(3)) == []
    assert bench.receive(ack(4)) == [Sent(1, b"a")]
    assert bench.core.statistics().retransmitted == 1


@pytest.mark.parametrize("sequence", [0, 99])
def test_an_acknowledgement_of_anything_else_is_ignored(sequence):
    bench = open_bench()
    assert bench.receive(ack(sequence)) == []


def test_a_flag_goes_out_whatever_the_window_says():
    bench = open_bench()
    sent = bench.core.room
    bench.send(*[bytes(MAX_PAYLOAD)] * sent)
    assert bench.core.room == 0
    number = sent + 1
    expected = [Sent(number, b"\0\0\0\2", PayloadType.FLAG)]
    assert bench.flag(Flag.TERMINATE_SESSION) == expected


def test_a_flag_is_not_sent_unless_the_channel_is_open():
    assert Bench().flag(Flag.TERMINATE_SESSION) == []
    assert handshaking_bench().flag(Flag.TERMINATE_SESSION) == []
    bench = open_bench()
    bench.detach()
    assert bench.flag(Flag.TERMINATE_SESSION) == []
    assert bench.attach()[1:] == []


# Pause.


def test_pause_stops_new_data_until_its_time_is_over():
    bench = open_bench()
    before = bench.core.room
    bench.at(1.0).receive(pause())
    assert bench.core.room == 0
    assert bench.core.statistics().paused
    assert bench.core.next_deadline() == 1.0 + PAUSE_TIMEOUT
    assert bench.at(1.0 + PAUSE_TIMEOUT).tick() == []
    assert bench.core.room == before
    assert bench.core.next_deadline() is None


@pytest.mark.parametrize(
    "message", [start(), ack(0), output(2, b"x")], ids=["start", "ack", "data"]
)
def test_any_sign_of_the_agent_ends_a_pause(message):
    bench = open_bench()
    before = bench.core.room
    bench.receive(pause())
    bench.receive(message)
    assert bench.core.room == before


def test_a_pause_stops_neither_acknowledgements_nor_repetitions_nor_flags():
    bench = open_bench()
    bench.at(1.0).send(b"a")
    bench.receive(pause())
    assert bench.at(1.2).tick() == [Sent(1, b"a")]
    assert bench.flag(Flag.TERMINATE_SESSION) != []
    assert bench.receive(output(3, b"early")) == [Acked(3)]


def test_a_new_websocket_ends_a_pause():
    bench = open_bench()
    before = bench.core.room
    bench.receive(pause())
    bench.detach()
    bench.attach()
    assert bench.core.room == before


def test_start_without_pause_is_ignored():
    bench = open_bench()
    assert bench.receive(start()) == []


# Websockets that come and go.


def test_a_new_websocket_gets_everything_unacknowledged_at_once_and_in_order():
    bench = open_bench()
    bench.at(1.0).send(b"a", b"b", b"c")
    bench.at(1.05).receive(ack(2))
    assert bench.detach() == []
    introduction, *again = bench.at(5.0).attach()
    assert isinstance(introduction, SendOpener)
    assert again == [Sent(1, b"a"), Sent(3, b"c")]


def test_a_detached_channel_has_no_room_and_no_deadline():
    bench = open_bench()
    bench.send(b"a")
    bench.detach()
    assert bench.core.room == 0
    assert bench.core.next_deadline() is None
    assert bench.at(99.0).tick() == []


def test_numbers_and_order_survive_a_lost_websocket():
    bench = open_bench()
    bench.receive(output(3, b"b"))
    bench.detach()
    bench.attach()
    expected = [Acked(2), Deliver(b"a"), Deliver(b"b")]
    assert bench.receive(output(2, b"a")) == expected
    assert bench.send(b"x") == [Sent(1, b"x")]


def test_what_was_to_be_transmitted_is_dropped_with_its_websocket_but_facts_stay():
    bench = open_bench()
    bench.core.send(b"a", 1.0)
    bench.core.receive(output(2, b"x"), 1.0)
    assert bench.at(1.0).detach() == [Deliver(b"x")]
    introduction, *again = bench.attach()
    assert isinstance(introduction, SendOpener)
    assert again == [Sent(1, b"a")]


def test_an_introduction_that_was_never_sent_is_not_sent_to_the_next_websocket():
    bench = Bench()
    bench.core.attach("first", Secret("first token"), 0.0)
    bench.detach()
    (introduction,) = bench.attach("second token")
    assert "second token" in introduction.text


def test_an_undrained_completion_is_still_told_after_a_lost_websocket():
    bench = handshaking_bench()
    bench.receive(request())
    bench.core.receive(complete(), 0.0)
    (opened,) = bench.detach()
    assert isinstance(opened, Opened)
    assert _state(bench) is State.SUSPENDED


@pytest.mark.parametrize("answered", [False, True], ids=["unanswered", "answered"])
def test_a_handshake_goes_on_with_the_next_websocket(answered):
    bench = handshaking_bench()
    response = bench.receive(request())[1:] if answered else []
    bench.detach()
    assert _state(bench) is State.INTERRUPTED
    assert bench.at(2.0).attach()[1:] == response
    acked, *_ = bench.receive(request())
    assert acked == Acked(0)
    opened = bench.receive(ack(0), complete())[-1]
    assert isinstance(opened, Opened)
    assert bench.send(b"x") == [Sent(1, b"x")]


def test_the_time_for_the_handshake_is_not_begun_anew_by_a_new_websocket():
    bench = handshaking_bench()
    bench.detach()
    assert bench.core.next_deadline() == HANDSHAKE_TIMEOUT
    bench.at(10.0).attach()
    assert bench.core.next_deadline() == HANDSHAKE_TIMEOUT
    bench.detach()
    (closed,) = bench.at(HANDSHAKE_TIMEOUT).tick()
    assert isinstance(closed.error, HandshakeFailed)


@pytest.mark.parametrize("when", ["never attached", "detached", "interrupted"])
def test_what_still_arrives_from_a_lost_websocket_is_left_to_be_sent_again(when):
    """An acknowledgement could not be sent, and must not precede an introduction."""
    bench = {
        "never attached": Bench,
        "interrupted": handshaking_bench,
        "detached": open_bench,
    }[when]()
    if when != "never attached":
        bench.detach()
    number = 2 if when == "detached" else 0
    message = output(2, b"x") if when == "detached" else request()
    assert bench.receive(message) == []
    (introduction,) = bench.at(1.0).attach()
    assert isinstance(introduction, SendOpener)
    assert bench.receive(message)[0] == Acked(number)


@pytest.mark.parametrize("bench", [handshaking_bench, open_bench])
def test_a_channel_has_one_websocket_at_a_time(bench):
    with pytest.raises(LocalProtocolError, match="cannot ATTACH"):
        bench().attach()


def test_a_websocket_that_is_not_there_cannot_be_lost():
    with pytest.raises(LocalProtocolError, match="cannot DETACH while IDLE"):
        Bench().detach()


# The end.


def test_the_services_end_closes_the_channel_with_its_words():
    bench = open_bench()
    (closed,) = bench.receive(channel_closed("Session timed out"))
    assert closed == Closed(closed.error)
    assert isinstance(closed.error, ChannelClosed)
    assert closed.error.output == "Session timed out"


@pytest.mark.parametrize(
    "words",
    [
        "Forwarding to IP address 127.0.0.1 is forbidden.",
        "----------ERROR-------\nForwarding to IP address fd00::1 is forbidden.\n",
    ],
)
def test_a_host_on_the_agents_deny_list_is_no_end_like_others(words):
    (closed,) = open_bench().receive(channel_closed(words))
    assert isinstance(closed.error, DestinationForbidden)
    assert "name another host" in closed.error.advice


def _idle():
    return Bench()


def _suspended():
    bench = open_bench()
    bench.detach()
    return bench


@pytest.mark.parametrize("bench", [_idle, handshaking_bench, open_bench, _suspended])
def test_closing_is_idempotent_and_nothing_comes_out_after_it(bench):
    bench = bench()
    error = ChannelClosed("first")
    assert bench.close(error) == [Closed(error)]
    assert bench.close(ChannelClosed("second")) == []
    assert bench.core.room == 0
    assert bench.core.next_deadline() is None
    assert bench.at(100.0).tick() == []
    assert bench.receive(output(2, b"x"), request(), pause(), channel_closed()) == []
    assert bench.flag(Flag.TERMINATE_SESSION) == []
    assert bench.detach() == []
    assert bench.close(error) == []


def test_a_closed_channel_takes_no_websocket():
    bench = open_bench()
    bench.close(ChannelClosed())
    with pytest.raises(LocalProtocolError, match="cannot ATTACH while CLOSED"):
        bench.attach()


def test_what_was_to_be_done_before_the_end_is_still_done_before_it():
    bench = open_bench()
    bench.core.send(b"a", 1.0)
    bench.core.receive(output(2, b"x"), 1.0)
    error = ChannelClosed()
    expected = [Sent(1, b"a"), Acked(2), Deliver(b"x"), Closed(error)]
    assert bench.close(error) == expected


# What breaks the protocol.


def test_undecodable_messages_are_dropped_without_an_acknowledgement():
    bench = open_bench()
    broken = bytearray(output(2, b"x"))
    broken[-1] ^= 1
    assert bench.receive(bytes(broken), b"", b"text") == []
    assert bench.core.statistics().malformed == 3
    assert bench.receive(output(2, b"x")) == [Acked(2), Deliver(b"x")]


def test_a_peer_that_speaks_something_else_is_given_up():
    bench = open_bench()
    bench.receive(*[b"GET / HTTP/1.1"] * MALFORMED_LIMIT)
    with pytest.raises(RemoteProtocolError):
        bench.receive(b"GET / HTTP/1.1")


@pytest.mark.parametrize(
    "message",
    [
        agent_message(MessageType.ACKNOWLEDGE, 0, b"{}", 0),
        output(2, b"[]", PayloadType.HANDSHAKE_COMPLETE),
        output(2, b"[]", PayloadType.HANDSHAKE_REQUEST),
        output(2, b"abc", PayloadType.FLAG),
        agent_message(MessageType.CHANNEL_CLOSED, 0, b"[]", 0),
    ],
    ids=["acknowledgement", "completion", "request", "flag", "end"],
)
def test_documents_that_make_no_sense_break_the_protocol(message):
    with pytest.raises(RemoteProtocolError):
        open_bench().receive(message)


# Snapshots.


def test_statistics_tell_where_the_channel_stands():
    bench = open_bench()
    bench.at(1.0).send(b"a", b"b")
    bench.at(1.05).receive(ack(1), output(9, b"early"), b"junk")
    now = bench.core.statistics()
    assert now.state is State.OPEN
    assert (now.unacked, now.acknowledged, now.early, now.malformed) == (1, 2, 1, 1)
    assert now.unacked_bytes == len(b"b") + 120
    assert now.rtt == pytest.approx(0.05)
    assert now.window == INITIAL_WINDOW
    assert now.least_rtt == pytest.approx(0.05)
    assert now.delivered_rate is None
    assert (now.retransmitted, now.duplicates, now.paused) == (0, 0, False)


def test_a_channel_is_settled_when_nothing_is_on_its_way_and_nothing_missing():
    bench = open_bench()
    assert bench.core.settled
    bench.send(b"a")
    assert not bench.core.settled
    bench.receive(ack(1))
    assert bench.core.settled
    bench.receive(output(4, b"early"))
    assert (bench.core.settled, bench.core.missing) == (False, 2)
    bench.receive(output(2, b"a"), output(3, b"b"))
    assert (bench.core.settled, bench.core.missing) == (True, 0)


def test_a_channel_is_silent_while_nothing_sent_is_acknowledged():
    bench = open_bench()
    sent_at = bench.now
    assert bench.core.silent_for(sent_at + 60.0) == 0.0
    bench.send(b"a")
    silence = bench.core.silent_for(sent_at + 60.0)
    assert silence == pytest.approx(60.0 - (bench.core.statistics().rtt or 0.0))
    bench.receive(ack(1))
    assert bench.core.silent_for(sent_at + 60.0) == 0.0


def test_the_same_inputs_give_the_same_bytes():
    def transcript():
        channel = new_channel()
        channel.attach("request", Secret("token"), 0.0)
        for number, message in product(range(2), (request(), complete())):
            channel.receive(message, float(number))
        channel.send(b"x", 2.0)
        channel.on_deadline(9.0)
        return channel.drain()

    assert transcript() == transcript()


# What others said.

HOSTILE = "\x1b[2J\ud800\u202e" + "x" * 300_000


def _shown(bench):
    """Return the text of the error that ended the channel."""
    (closed,) = [e for e in bench.effects() if isinstance(e, Closed)]
    return str(closed.error)


@pytest.mark.parametrize(
    "properties", [HOSTILE[:9000], {"host": HOSTILE[:9000]}, [[]] * 40, None]
)
def test_a_session_type_is_told_cleaned(properties):
    bench = handshaking_bench()
    bench.core.receive(request(session_type=HOSTILE[:3000], properties=properties), 0)
    text = _shown(bench)
    assert "session type" in text
    assert text.isprintable()
    assert len(text) <= 300


def test_an_unknown_action_is_told_and_answered_cleaned():
    bench = handshaking_bench()
    payload = json.dumps({"RequestedClientActions": [{"ActionType": "\ud800\n!"}]})
    bench.core.receive(
        output(0, payload.encode(), PayloadType.HANDSHAKE_REQUEST), now=0
    )
    _, answered, closed = bench.core.drain()
    response = HandshakeResponse.parse(decode(answered.data).payload)
    assert response.actions[0].action_type == "!"
    assert str(closed.error) == "unknown action !"


def test_properties_are_bounded_and_cleaned():
    bench = handshaking_bench()
    many = {f"key{n}": f"value\r\n{n}" for n in range(100)}
    bench.receive(request(properties=many), complete())
    terms = bench.core._terms
    assert len(terms.properties) == 32
    assert terms.properties["key7"] == "value 7"


def test_the_words_of_the_end_are_cleaned():
    bench = open_bench()
    bench.core.receive(channel_closed("\ud800 gone\n\x1b[31m" + "x" * 9000), 1.0)
    text = _shown(bench)
    assert text.isprintable()
    assert len(text) < 400
    assert "gone" in text


def test_an_end_that_is_too_long_is_an_end_all_the_same():
    bench = open_bench()
    with pytest.raises(RemoteProtocolError, match="more than 65536"):
        bench.receive(channel_closed("x" * 70_000))


def test_the_service_cannot_have_our_token_shown():
    bench = handshaking_bench()
    token = "canary-0123456789-token"
    bench.detach()
    bench.attach(token)
    for words in (f"token {token}", f"x{token[4:14]}y"):
        assert "secret" in bench.core.words(words)
    assert bench.core.words(f"ends with {token[:7]}") == f"ends with {token[:7]}"
    bench.core.receive(request(version=token), 0.0)
    assert token not in _shown(bench)


# What waits for one message is handled in turns with other channels.


def _crowded(count):
    """Return an open channel with so many messages that wait for one."""
    bench = open_bench()
    for number in range(3, 3 + count):
        bench.core.receive(output(number, b"%d" % number), bench.now)
    bench.core.drain()
    return bench


def _delivered(effects):
    return [int(effect.payload) for effect in effects if isinstance(effect, Deliver)]


def test_messages_that_waited_are_handled_some_at_a_time_and_in_order():
    bench = _crowded(2 * BATCH)
    delivered = _delivered(bench.receive(output(2, b"2")))
    assert len(delivered) == BATCH
    while bench.core.next_deadline() == 0.0:
        delivered += _delivered(bench.tick())
    assert delivered == list(range(2, 3 + 2 * BATCH))
    assert bench.core.statistics().early == 0


def test_what_arrives_meanwhile_comes_behind_them():
    bench = _crowded(BATCH)
    delivered = _delivered(bench.receive(output(2, b"2")))
    delivered += _delivered(bench.receive(output(3 + BATCH, b"%d" % (3 + BATCH))))
    assert len(delivered) == BATCH
    delivered += _delivered(bench.tick())
    assert delivered == list(range(2, 4 + BATCH))


def test_an_end_waits_for_what_was_sent_before_it():
    bench = _crowded(BATCH)
    assert bench.receive(output(2, b"2"), channel_closed())[-1] == Deliver(
        b"%d" % (1 + BATCH)
    )
    # Nothing comes behind it, and it counts once.
    assert bench.receive(output(3 + BATCH, b"late"), channel_closed("again")) == []
    last, closed = bench.tick()
    assert last == Deliver(b"%d" % (2 + BATCH))
    assert closed == Closed(closed.error)
    assert closed.error.output == ""


def test_those_that_wait_for_their_turn_outlive_a_lost_websocket():
    bench = _crowded(BATCH)
    bench.receive(output(2, b"2"))
    bench.detach()
    assert bench.core.next_deadline() is None
    bench.attach()
    assert _delivered(bench.tick()) == [2 + BATCH]


def test_one_that_makes_no_sense_ends_the_channel_also_in_its_turn():
    bench = _crowded(BATCH - 1)
    bench.core.receive(output(2 + BATCH, b"{", PayloadType.HANDSHAKE_REQUEST), 0.05)
    bench.core.drain()
    bench.receive(output(2, b"2"))
    (closed,) = bench.tick()
    assert isinstance(closed.error, RemoteProtocolError)
    assert bench.core.next_deadline() is None


# Large messages (design D22).


def test_messages_are_of_the_usual_size_unless_more_is_known():
    bench = open_bench()
    bench.core._outbound.window.rate = 100e6
    assert bench.core.choose_size() == 1024
    assert bench.core.statistics().message_size == 1024


def _fast_bench(limit=8192, rate=100e6):
    """Return a bench whose agent acknowledges ``rate`` bytes per second."""
    bench = open_bench()
    bench.core.message_limit = limit
    assert bench.core.choose_size() == 1024
    bench.core._outbound.window.rate = rate
    return bench


def test_an_upload_gets_messages_as_large_as_its_rate_allows():
    bench = _fast_bench(rate=1.2e6)
    assert bench.core.message_limit == bench.core.statistics().message_size == 8192
    assert bench.core.choose_size() == 2048
    bench.core._outbound.window.rate = 100e6
    assert bench.core.choose_size() == 8192


def test_room_is_for_messages_of_the_chosen_size():
    bench = _fast_bench(32768)
    usual = bench.core.room
    size = bench.core.choose_size()
    assert size == 32768
    assert 1 <= bench.core.room < usual
    bench.send(*[bytes(size)] * bench.core.room)
    assert bench.core.room == 0
    assert bench.core.large_unacked
    assert not open_bench().core.large_unacked


def test_a_new_websocket_gets_large_messages_again_unchanged():
    bench = _fast_bench()
    payload = bytes(range(256)) * 8
    (message,) = bench.send(payload)
    bench.detach()
    assert bench.attach()[1:] == [message]


def test_a_lost_large_message_is_repeated_unchanged():
    bench = _fast_bench()
    lost, *_ = bench.send(bytes(range(256)) * 8, b"a", b"b", b"c")
    repeated = bench.at(1.1).receive(*(ack(lost.sequence + n) for n in (1, 2, 3)))
    assert repeated == [lost]
    assert not bench.core.is_acknowledged(lost.sequence)
    bench.receive(ack(lost.sequence))
    assert bench.core.is_acknowledged(lost.sequence)


def test_a_delay_does_not_narrow_the_window_of_a_channel_that_has_little_to_send():
    windows = {}
    for dry in (True, False):
        bench, now = open_bench(), 1.0
        bench.at(now).send(b"x")
        for number in range(1, 26):
            bench.send(b"x")  # so that there is always one on its way
            if dry:
                bench.core.note_dry()
            now += 0.05 if number < 20 else 0.5
            bench.at(now).receive(ack(number))
        windows[dry] = bench.core.statistics().window
    assert windows[True] == INITIAL_WINDOW
    assert windows[False] < INITIAL_WINDOW
