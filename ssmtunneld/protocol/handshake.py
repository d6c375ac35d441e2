"""The handshake, and what follows from the agent's version (protocol 2.3, 5).

Client and agent decide independently, from each other's version, which mode they speak;
if they disagree the session is garbage. So this follows the table of protocol 6.1, and
refuses what it cannot decide.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Final, Self

from ssmtunneld.base.foreign import CleanText, clean
from ssmtunneld.base.record import Record
from ssmtunneld.errors import HandshakeFailed
from ssmtunneld.protocol.payloads import (
    FAILED,
    KMS_ENCRYPTION,
    SESSION_TYPE,
    SUCCESS,
    UNSUPPORTED,
    ClientAction,
    HandshakeRequest,
    HandshakeResponse,
    ProcessedAction,
)

CLIENT_VERSION: Final = "1.2.835.0"
"""Our version: four plain numbers, not below the supported 1.2.764.0 (D1)."""

PORT: Final = "Port"
LOCAL_PORT_FORWARDING: Final = "LocalPortForwarding"

NAME_LIMIT: Final = 64
"""Characters of a name that an agent gives us; its own have 13 at most."""
MAX_PROPERTIES: Final = 32
"""Properties of a session that are kept; documents have five at most (1.2)."""

_NO_WORDS: Final = clean("")
_VERSION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){3}")
_MUX_ABOVE: Final = (3, 0, 196, 0)
_REMOTE_HOST_FROM: Final = (3, 1, 1188, 0)
_TERMINATE_FLAG_ABOVE: Final = (2, 3, 722, 0)
# Between these two, releases differ and one cannot tell them apart for sure (7.5).
_KEEPALIVE_OFF_FROM: Final = (3, 1, 1575, 0)


class Terms(Record):
    """The result of the handshake."""

    agent_version: CleanText
    properties: Mapping[str, CleanText]
    """Of the session document, after substitution: ``portNumber``, ``host``, ..."""
    mux: bool
    """True if the payload is smux; otherwise it is one connection's bytes (6.1)."""
    redials: bool
    """In basic mode: whether the agent connects again after an end (6.4)."""
    needs_nop: bool
    """True if the agent closes an smux session that is silent for 30 s (7.5)."""
    understands_terminate: bool
    """True if flag 2 ends the session; otherwise only the API does (2.3)."""
    notice: CleanText = _NO_WORDS
    """The agent's words to the user, normally empty (5.3)."""

    def noted(self, notice: CleanText) -> Self:
        """Return these terms with the agent's words to the user."""
        return replace(self, notice=notice)


class Answer(Record):
    """The response to send, and the terms, or why there are none."""

    response: HandshakeResponse
    terms: Terms | None
    refusal: CleanText = _NO_WORDS


def answer(request: HandshakeRequest) -> Answer:
    """Return our answer to the agent's request.

    A refusal is sent to the agent all the same, so that it ends the session with a
    reason that the service's audit log shows.

    Raises:
        HandshakeFailed: The agent's version says nothing, or the agent is too old to
            do what the document asks for.
    """
    processed = tuple(_process(action) for action in request.actions)
    refusals = tuple(p.error for p in processed if p.status != SUCCESS)
    response = HandshakeResponse(CLIENT_VERSION, processed, refusals)
    if refusals:
        return Answer(response, None, clean("; ".join(refusals)))
    session = next((a for a in request.actions if a.action_type == SESSION_TYPE), None)
    if session is None:
        why = "the agent did not say what type the session has"
        raise HandshakeFailed(clean(why))
    return Answer(response, _terms(request.agent_version, session))


def _process(action: ClientAction) -> ProcessedAction:
    if action.action_type == SESSION_TYPE:
        kind = action.parameters.get("SessionType")
        if kind == PORT:
            return ProcessedAction(SESSION_TYPE, SUCCESS)
        reason = f"session type {_named(kind)} is not {PORT}"
        return ProcessedAction(SESSION_TYPE, FAILED, error=reason)
    name = _named(action.action_type)
    if name == KMS_ENCRYPTION:
        reason = "KMS encryption is not used by port sessions"
    else:
        reason = f"unknown action {name}"
    return ProcessedAction(name, UNSUPPORTED, error=reason)


def _named(value: object) -> CleanText:
    return clean(value if isinstance(value, str) else repr(value), NAME_LIMIT)


def _terms(agent_version: str, session: ClientAction) -> Terms:
    version = parse_version(agent_version)
    given = session.parameters.get("Properties")
    properties = _properties(given) if isinstance(given, dict) else {}
    if properties.get("host") and version < _REMOTE_HOST_FROM:
        why = (
            f"agent {agent_version} cannot forward to another host: it would connect "
            "to the target itself; update it to 3.1.1374.0 or later"
        )
        raise HandshakeFailed(clean(why))
    forwards = properties.get("type") == LOCAL_PORT_FORWARDING
    mux = forwards and version > _MUX_ABOVE
    return Terms(
        agent_version=clean(agent_version),
        properties=properties,
        mux=mux,
        redials=forwards and not mux,
        needs_nop=mux and version < _KEEPALIVE_OFF_FROM,
        understands_terminate=version > _TERMINATE_FLAG_ABOVE,
    )


def _properties(given: Mapping[str, object]) -> dict[str, CleanText]:
    some = islice(given.items(), MAX_PROPERTIES)
    return {_named(key): clean(str(value)) for key, value in some}


def parse_version(text: str) -> tuple[int, ...]:
    """Return the four numbers of an agent's version.

    Raises:
        HandshakeFailed: It is anything else: the agent's choice of mode is unknown.
    """
    if _VERSION.fullmatch(text) is None:
        why = f"the agent's version {_named(text)!r} cannot be understood"
        raise HandshakeFailed(clean(why))
    return tuple(map(int, text.split(".")))
