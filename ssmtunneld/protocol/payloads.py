"""The JSON documents inside messages, and the text that opens a channel.

Key names and their order are the peers' own (protocol 2.2, 3.4, 4.1 and 5). Parsing is
liberal: unknown keys are ignored and absent ones have the Go zero value, because both
official peers are written in Go; a value of the wrong type is a RemoteProtocolError.

Each kind of document has a limit of its own, many times what peers were seen to send,
and so has the number of objects and arrays in it. Both are looked at before parsing, so
that no document takes more than a few milliseconds, or nests deeper than that number.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Self, TypeVar

from ssmtunneld.base.record import Record
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import RemoteProtocolError

SESSION_TYPE: Final = "SessionType"
KMS_ENCRYPTION: Final = "KMSEncryption"

MAX_ACKNOWLEDGEMENT: Final = 4 << 10
"""Bytes of an acknowledgement; agents send 200."""
MAX_HANDSHAKE: Final = 16 << 10
"""Bytes of each document of the handshake; agents send 2 KiB at most."""
MAX_CLOSED: Final = 64 << 10
"""Bytes of ``channel_closed``, which can quote a command's output; 2.5 KB were seen."""
MAX_CONTAINERS: Final = 64
"""Objects and arrays in one document: a handshake request with two actions has six."""
MAX_ACTIONS: Final = 16
"""Actions in one handshake; agents ask for one or two (protocol 5.1)."""

SUCCESS: Final = 1
FAILED: Final = 2
UNSUPPORTED: Final = 3

_T = TypeVar("_T")

# What agents write. An upload reads one for each of its messages, and the JSON parser
# takes five times as long as this; together a tenth of what an upload costs.
_USUAL_ACKNOWLEDGEMENT: Final = re.compile(
    rb'\{"AcknowledgedMessageType":"[a-z_]+","AcknowledgedMessageId":"[0-9a-f-]{36}",'
    rb'"AcknowledgedMessageSequenceNumber":(0|[1-9][0-9]{0,17}),'
    rb'"IsSequentialMessage":true\}'
)


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


# Possessive, and up to the end where one is not closed: no text makes it look twice.
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


def _load(payload: bytes, limit: int) -> dict[str, Any]:
    if len(payload) > limit:
        raise RemoteProtocolError(
            f"a JSON document of {len(payload)} bytes, more than {limit}"
        )
    outside = _STRINGS.sub(b"", payload)
    if outside.count(b"{") + outside.count(b"[") > MAX_CONTAINERS:
        raise RemoteProtocolError(
            f"a JSON document of more than {MAX_CONTAINERS} objects and arrays"
        )
    try:
        # As Go has it: always UTF-8, and what is none of it stands for itself.
        document = json.loads(payload.decode("utf-8", "replace"))
    except ValueError as error:
        raise RemoteProtocolError(
            f"not a JSON document: {type(error).__name__}"
        ) from None
    if not isinstance(document, dict):
        raise RemoteProtocolError("a JSON document that is not an object")
    return document


def _get(document: Mapping[str, Any], key: str, kind: type[_T], default: _T) -> _T:
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RemoteProtocolError(f"{key} is not of type {kind.__name__}")
    return value


def _get_actions(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    actions = _get(document, key, list, [])
    if len(actions) > MAX_ACTIONS:
        raise RemoteProtocolError(f"a handshake of {len(actions)} actions")
    if not all(isinstance(action, dict) for action in actions):
        raise RemoteProtocolError(f"{key} holds what is not an object")
    return actions


class OpenDataChannel(Record):
    """The first message on a websocket, as text (protocol 2.2)."""

    request_id: str
    token: Secret
    client_id: str
    client_version: str

    def encode(self) -> str:
        """Return the text; it holds the token in clear."""
        return _dump(
            {
                "MessageSchemaVersion": "1.0",
                "RequestId": self.request_id,
                "TokenValue": self.token.reveal(),
                "ClientId": self.client_id,
                "ClientVersion": self.client_version,
            }
        ).decode()

    @classmethod
    def parse(cls, text: bytes | str) -> Self:
        """Return the document in ``text``.

        Raises:
            RemoteProtocolError: It is not such a document.
        """
        payload = text.encode("utf-8", "replace") if isinstance(text, str) else text
        document = _load(payload, MAX_HANDSHAKE)
        return cls(
            request_id=_get(document, "RequestId", str, ""),
            token=Secret.token(_get(document, "TokenValue", str, "")),
            client_id=_get(document, "ClientId", str, ""),
            client_version=_get(document, "ClientVersion", str, ""),
        )


def encode_acknowledgement(
    message_type: str, message_id: bytes, sequence: int
) -> bytes:
    """Return the payload that acknowledges one message (protocol 4.1)."""
    digits = message_id.hex()
    return (
        f'{{"AcknowledgedMessageType":"{message_type}",'
        f'"AcknowledgedMessageId":"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-'
        f'{digits[16:20]}-{digits[20:]}",'
        f'"AcknowledgedMessageSequenceNumber":{sequence},"IsSequentialMessage":true}}'
    ).encode()


def parse_acknowledgement(payload: bytes) -> int:
    """Return the sequence number that is acknowledged, the only part that is read.

    Raises:
        RemoteProtocolError: There is none.
    """
    usual = _USUAL_ACKNOWLEDGEMENT.fullmatch(payload)
    if usual is not None:
        return int(usual[1])
    document = _load(payload, MAX_ACKNOWLEDGEMENT)
    sequence = _get(document, "AcknowledgedMessageSequenceNumber", int, -1)
    if sequence < 0:
        raise RemoteProtocolError("an acknowledgement of nothing")
    return sequence


class ClientAction(Record):
    """One thing that the agent asks of the client (protocol 5.1)."""

    action_type: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


class HandshakeRequest(Record):
    """The agent's first message."""

    agent_version: str
    actions: tuple[ClientAction, ...]

    def encode(self) -> bytes:
        """Return the payload."""
        return _dump(
            {
                "AgentVersion": self.agent_version,
                "RequestedClientActions": [
                    {"ActionType": a.action_type, "ActionParameters": a.parameters}
                    for a in self.actions
                ],
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Return the request in ``payload``.

        Raises:
            RemoteProtocolError: It is not such a document.
        """
        document = _load(payload, MAX_HANDSHAKE)
        actions = tuple(
            ClientAction(
                _get(item, "ActionType", str, ""),
                _get(item, "ActionParameters", dict, {}),
            )
            for item in _get_actions(document, "RequestedClientActions")
        )
        return cls(_get(document, "AgentVersion", str, ""), actions)


class ProcessedAction(Record):
    """The client's answer to one requested action (protocol 5.2)."""

    action_type: str
    status: int
    result: Any = None
    error: str = ""


class HandshakeResponse(Record):
    """The client's answer, one entry for each requested action, in order."""

    client_version: str
    actions: tuple[ProcessedAction, ...]
    errors: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the payload."""
        return _dump(
            {
                "ClientVersion": self.client_version,
                "ProcessedClientActions": [
                    {
                        "ActionType": a.action_type,
                        "ActionStatus": a.status,
                        "ActionResult": a.result,
                        "Error": a.error,
                    }
                    for a in self.actions
                ],
                "Errors": list(self.errors) or None,
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Return the response in ``payload``.

        Raises:
            RemoteProtocolError: It is not such a document.
        """
        document = _load(payload, MAX_HANDSHAKE)
        actions = tuple(
            ProcessedAction(
                _get(item, "ActionType", str, ""),
                _get(item, "ActionStatus", int, 0),
                item.get("ActionResult"),
                _get(item, "Error", str, ""),
            )
            for item in _get_actions(document, "ProcessedClientActions")
        )
        errors = _get(document, "Errors", list, [])
        return cls(
            _get(document, "ClientVersion", str, ""),
            actions,
            tuple(str(error) for error in errors),
        )


class HandshakeComplete(Record):
    """The agent's last message of the handshake (protocol 5.3)."""

    duration_ns: int = 0
    customer_message: str = ""

    def encode(self) -> bytes:
        """Return the payload."""
        return _dump(
            {
                "HandshakeTimeToComplete": self.duration_ns,
                "CustomerMessage": self.customer_message,
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Return the document in ``payload``.

        Raises:
            RemoteProtocolError: It is not such a document.
        """
        document = _load(payload, MAX_HANDSHAKE)
        return cls(
            _get(document, "HandshakeTimeToComplete", int, 0),
            _get(document, "CustomerMessage", str, ""),
        )


class ClosedDocument(Record):
    """The payload of ``channel_closed`` (protocol 3.4)."""

    session_id: str = ""
    output: str = ""
    message_id: str = ""
    created_ms: int = 0
    destination_id: str = ""

    def encode(self) -> bytes:
        """Return the payload."""
        return _dump(
            {
                "MessageType": "channel_closed",
                "MessageId": self.message_id,
                "DestinationId": self.destination_id,
                "SessionId": self.session_id,
                "SchemaVersion": 1,
                "CreatedDate": str(self.created_ms),
                "Output": self.output,
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Return the document in ``payload``, reading only what a client needs.

        Raises:
            RemoteProtocolError: It is not such a document.
        """
        document = _load(payload, MAX_CLOSED)
        return cls(
            session_id=_get(document, "SessionId", str, ""),
            output=_get(document, "Output", str, ""),
        )
