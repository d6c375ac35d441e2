"""Answers to the agent, and the mode that follows from its version."""

import pytest

from ssmtunneld.errors import HandshakeFailed
from ssmtunneld.protocol.handshake import CLIENT_VERSION, answer, parse_version
from ssmtunneld.protocol.payloads import (
    FAILED,
    KMS_ENCRYPTION,
    SESSION_TYPE,
    SUCCESS,
    UNSUPPORTED,
    ClientAction,
    HandshakeRequest,
    ProcessedAction,
)

CURRENT = "3.3.987.0"
FORWARDING = {"type": "LocalPortForwarding", "portNumber": "5432"}


def _session(properties, kind="Port"):
    return ClientAction(SESSION_TYPE, {"SessionType": kind, "Properties": properties})


def _answer(version=CURRENT, properties=FORWARDING):
    return answer(HandshakeRequest(version, (_session(properties),)))


def _terms(version=CURRENT, properties=FORWARDING):
    terms = _answer(version, properties).terms
    assert terms is not None
    return terms


def test_a_port_session_is_accepted():
    reply = _answer()
    assert reply.response.client_version == CLIENT_VERSION
    assert reply.response.actions == (ProcessedAction(SESSION_TYPE, SUCCESS),)
    assert reply.response.errors == ()
    assert reply.refusal == ""


def test_the_terms_repeat_the_document_as_text():
    terms = _terms(properties={**FORWARDING, "portNumber": 22})
    assert terms.properties == {"type": "LocalPortForwarding", "portNumber": "22"}
    assert terms.agent_version == CURRENT
    assert terms.notice == ""


def test_a_notice_is_added_to_the_terms():
    terms = _terms()
    noted = terms.noted("please update")
    assert noted.notice == "please update"
    assert noted.properties == terms.properties


@pytest.mark.parametrize("properties", [None, "words", [1], {}])
def test_properties_that_are_no_object_are_none(properties):
    assert dict(_terms(properties=properties).properties) == {}


@pytest.mark.parametrize(
    ("version", "mux"),
    [
        ("3.0.196.0", False),
        ("3.0.196.1", True),
        ("3.0.222.0", True),
        ("2.3.714.0", False),
        ("10.0.0.0", True),
    ],
)
def test_agents_above_3_0_196_speak_mux(version, mux):
    terms = _terms(version)
    assert terms.mux is mux
    # An agent that forwards a local port without mux connects anew after each end.
    assert terms.redials is not mux


@pytest.mark.parametrize("properties", [{"portNumber": "22"}, {"type": "Remote"}])
def test_the_ssh_document_is_one_connection(properties):
    terms = _terms(properties=properties)
    assert not terms.mux
    assert not terms.redials
    assert not terms.needs_nop


@pytest.mark.parametrize(
    ("version", "needed"),
    [
        ("3.0.196.0", False),
        ("3.0.222.0", True),
        ("3.1.1446.0", True),
        ("3.1.1511.0", True),
        ("3.1.1574.9", True),
        ("3.1.1575.0", False),
        (CURRENT, False),
    ],
)
def test_agents_that_may_close_a_silent_mux_need_nops(version, needed):
    assert _terms(version).needs_nop is needed


@pytest.mark.parametrize(
    ("version", "understood"), [("2.3.722.0", False), ("2.3.722.1", True)]
)
def test_agents_above_2_3_722_understand_the_terminate_flag(version, understood):
    assert _terms(version).understands_terminate is understood


def test_an_agent_that_would_connect_to_itself_instead_of_the_host_is_refused():
    properties = {**FORWARDING, "host": "db.internal"}
    with pytest.raises(
        HandshakeFailed, match=r"3\.1\.1187\.9 cannot forward to another"
    ):
        _answer("3.1.1187.9", properties)
    assert _terms("3.1.1188.0", properties).properties["host"] == "db.internal"


def test_an_empty_host_is_the_target_itself():
    assert _terms("3.0.222.0", {**FORWARDING, "host": ""}).mux


def test_another_session_type_is_refused_to_the_agent_and_to_us():
    reply = answer(HandshakeRequest(CURRENT, (_session({}, "Standard_Stream"),)))
    reason = "session type Standard_Stream is not Port"
    assert reply.terms is None
    assert reply.refusal == reason
    assert reply.response.errors == (reason,)
    assert reply.response.actions == (
        ProcessedAction(SESSION_TYPE, FAILED, error=reason),
    )


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (KMS_ENCRYPTION, "KMS encryption is not used by port sessions"),
        ("Dance", "unknown action Dance"),
    ],
)
def test_what_we_cannot_do_is_unsupported_one_answer_per_action_in_order(kind, reason):
    reply = answer(HandshakeRequest(CURRENT, (_session({}), ClientAction(kind))))
    assert reply.terms is None
    assert reply.refusal == reason
    assert reply.response.actions == (
        ProcessedAction(SESSION_TYPE, SUCCESS),
        ProcessedAction(kind, UNSUPPORTED, error=reason),
    )


def test_all_refusals_are_told():
    actions = (_session({}, "Shell"), ClientAction("Dance"))
    reply = answer(HandshakeRequest(CURRENT, actions))
    assert reply.refusal == "session type Shell is not Port; unknown action Dance"


def test_a_request_without_a_session_type_fails():
    with pytest.raises(HandshakeFailed, match="did not say what type"):
        answer(HandshakeRequest(CURRENT, ()))


@pytest.mark.parametrize(
    "version",
    ["", "3", "3.3.987", "3.3.987.0.1", "v3.3.987.0", "3.3.x.0", "3.3.987.0\n"],
)
def test_a_version_that_cannot_be_compared_is_refused(version):
    with pytest.raises(HandshakeFailed, match="cannot be understood"):
        _answer(version)


def test_a_version_of_absurd_length_is_neither_parsed_nor_shown_in_full():
    with pytest.raises(HandshakeFailed) as caught:
        parse_version("9" * 10_000)
    assert len(str(caught.value)) < 200


def test_our_own_version_is_one_that_switches_everything_on():
    assert parse_version(CLIENT_VERSION) >= (1, 2, 764, 0)


def test_a_version_that_cannot_be_understood_is_quoted_in_one_short_line():
    with pytest.raises(HandshakeFailed) as caught:
        parse_version("\x1b[2J3.3\n" + "9" * 10_000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 120
