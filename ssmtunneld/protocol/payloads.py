"""The JSON documents inside messages, and the text that opens a channel.

Key names and their order are the peers' own (protocol 2.2, 3.4, 4.1 and 5). Parsing is
liberal: unknown keys are ignored and absent ones have the Go zero value, because both
official peers are written in Go; a value of the wrong type is a RemoteProtocolError.
A document of n bytes takes at most about 100 n bytes while it is parsed (an empty JSON
array is the worst case).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.secret import Secret

SESSION_TYPE: Final = "SessionType"
KMS_ENCRYPTION: Final = "KMSEncryption"

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


def _load(payload: bytes | str) -> dict[str, Any]:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
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


@dataclass(frozen=True, slots=True)
class OpenDataChannel:
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
        document = _load(text)
        return cls(
            request_id=_get(document, "RequestId", str, ""),
            token=Secret(_get(document, "TokenValue", str, "")),
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
    sequence = _get(_load(payload), "AcknowledgedMessageSequenceNumber", int, -1)
    if sequence < 0:
        raise RemoteProtocolError("an acknowledgement of nothing")
    return sequence


@dataclass(frozen=True, slots=True)
class ClientAction:
    """One thing that the agent asks of the client (protocol 5.1)."""

    action_type: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
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
        document = _load(payload)
        actions: list[ClientAction] = []
        for item in _get(document, "RequestedClientActions", list, []):
            if not isinstance(item, dict):
                raise RemoteProtocolError("a requested action that is not an object")
            actions.append(
                ClientAction(
                    _get(item, "ActionType", str, ""),
                    _get(item, "ActionParameters", dict, {}),
                )
            )
        return cls(_get(document, "AgentVersion", str, ""), tuple(actions))


@dataclass(frozen=True, slots=True)
class ProcessedAction:
    """The client's answer to one requested action (protocol 5.2)."""

    action_type: str
    status: int
    result: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class HandshakeResponse:
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
        document = _load(payload)
        actions: list[ProcessedAction] = []
        for item in _get(document, "ProcessedClientActions", list, []):
            if not isinstance(item, dict):
                raise RemoteProtocolError("a processed action that is not an object")
            actions.append(
                ProcessedAction(
                    _get(item, "ActionType", str, ""),
                    _get(item, "ActionStatus", int, 0),
                    item.get("ActionResult"),
                    _get(item, "Error", str, ""),
                )
            )
        errors = _get(document, "Errors", list, [])
        return cls(
            _get(document, "ClientVersion", str, ""),
            tuple(actions),
            tuple(str(error) for error in errors),
        )


@dataclass(frozen=True, slots=True)
class HandshakeComplete:
    """The agent's last word of the handshake (protocol 5.3)."""

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
        document = _load(payload)
        return cls(
            _get(document, "HandshakeTimeToComplete", int, 0),
            _get(document, "CustomerMessage", str, ""),
        )


@dataclass(frozen=True, slots=True)
class ClosedDocument:
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
        document = _load(payload)
        return cls(
            session_id=_get(document, "SessionId", str, ""),
            output=_get(document, "Output", str, ""),
        )
