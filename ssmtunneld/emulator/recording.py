"""Whole sessions in a file: written as they pass, and read again to be played.

One JSON object a line; docs/emulator.md has the table. Tokens are never written, and
payloads only where that was asked for: they hold whatever users send.
"""

import base64
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import IO, Any, Final

from ssmtunneld.emulator.faults import Direction
from ssmtunneld.errors import ConfigError, RemoteProtocolError
from ssmtunneld.protocol.message import Message, MessageType, PayloadType, decode
from ssmtunneld.protocol.message import decode_flag as read_flag
from ssmtunneld.protocol.payloads import parse_acknowledgement

FORMAT: Final = 1


class Recorder:
    """Writes the sessions of one emulator.

    Each line is written at once and as a whole. When one cannot be written, as on a
    full disk, the recording ends with the line before it, and sessions go on.

    Args:
        path: The file; one that exists is replaced. Only its owner can read it.
        payloads: Keep what users send.
        now: A clock in seconds.
        failed: Called with the reason when the recording ends early.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        payloads: bool,
        now: Callable[[], float],
        failed: Callable[[str], None],
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._file = FileIO(os.open(path, flags, 0o600), "w")
        self._is_regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self._size = 0
        self._payloads = payloads
        self._now = now
        self._failed = failed
        self._began = now()
        self._sessions = 0
        try:
            if self._is_regular:
                # One that exists keeps the mode that it had.
                os.fchmod(self._file.fileno(), 0o600)
            self._append(_line({"format": FORMAT, "payloads": payloads}))
        except OSError:
            self._file.close()
            raise

    def start(
        self, document: str, properties: Mapping[str, str], agent_version: str
    ) -> "SessionRecorder":
        """Note a new session and return what notes its messages."""
        self._sessions += 1
        recorder = SessionRecorder(self, self._sessions)
        recorder.note(
            "start",
            document=document,
            properties=dict(properties),
            agent_version=agent_version,
        )
        return recorder

    def write(self, session: int, event: str, facts: Mapping[str, object]) -> None:
        """Write one line about a session."""
        at = round(self._now() - self._began, 6)
        self._write({"session": session, "at": at, "event": event, **facts})

    def message(self, session: int, direction: Direction, data: bytes) -> None:
        """Write one binary message."""
        facts: dict[str, object] = {
            "from": "client" if direction is Direction.UP else "service",
            "size": len(data),
        }
        try:
            message = decode(data)
        except RemoteProtocolError as error:
            # It does not say what it is, so it is kept as a whole or not at all.
            facts["error"] = str(error)
            if self._payloads:
                facts["data"] = base64.b64encode(data).decode()
        else:
            facts |= _facts(message)
            if self._payloads:
                facts["payload"] = base64.b64encode(message.payload).decode()
        self.write(session, "message", facts)

    def close(self) -> None:
        """Close the file; what comes later is not written."""
        self._file.close()

    def _write(self, line: Mapping[str, object]) -> None:
        if self._file.closed:
            return
        try:
            self._append(_line(line))
        except OSError as error:
            with suppress(OSError):
                if self._is_regular:
                    self._file.truncate(self._size)
            with suppress(OSError):
                self._file.close()
            self._failed(error.strerror or str(error))

    def _append(self, data: bytes) -> None:
        rest = data
        while rest:  # a disk that becomes full takes a part, and only then refuses
            rest = rest[self._file.write(rest) or 0 :]
        self._size += len(data)


def _line(line: Mapping[str, object]) -> bytes:
    return (json.dumps(line, separators=(",", ":")) + "\n").encode()


@dataclass(frozen=True, slots=True)
class SessionRecorder:
    """Writes one session."""

    recorder: Recorder
    number: int

    def note(self, event: str, **facts: object) -> None:
        """Write that something happened."""
        self.recorder.write(self.number, event, facts)

    def message(self, direction: Direction, data: bytes) -> None:
        """Write one binary message."""
        self.recorder.message(self.number, direction, data)


def _facts(message: Message) -> dict[str, object]:
    facts: dict[str, object] = {
        "type": message.message_type,
        "sequence": message.sequence,
        "flags": message.flags,
        "message_id": message.message_id.hex(),
        "created_ms": message.created_ms,
        "payload_type": message.payload_type,
        "payload_size": len(message.payload),
    }
    with suppress(RemoteProtocolError):
        if message.message_type == MessageType.ACKNOWLEDGE:
            facts["acknowledges"] = parse_acknowledgement(message.payload)
        elif message.payload_type == PayloadType.FLAG:
            facts["flag"] = read_flag(message.payload)
    return facts


@dataclass(slots=True)
class RecordedSession:
    """Messages of both sides of a session, in the order of the service."""

    document: str
    properties: Mapping[str, str]
    agent_version: str
    messages: list[tuple[Direction, Message]] = field(default_factory=list)


def load(path: Path) -> list[RecordedSession]:
    """Read a recording that has payloads.

    Raises:
        ConfigError: It cannot be read, or has none.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            sessions = _Reader(path).read(lines)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror or error}"]) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError([f"{path}: not a recording: {error!r}"]) from None
    if not sessions:
        raise ConfigError([f"{path}: there is no session in it"])
    return sessions


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._sessions: dict[int, RecordedSession] = {}

    def read(self, lines: Iterator[str] | IO[str]) -> list[RecordedSession]:
        head = json.loads(next(iter(lines), "null"))
        if head["format"] != FORMAT:
            raise ConfigError([f"{self._path}: unknown format"])
        if not head["payloads"]:
            raise ConfigError(
                [f"{self._path}: recorded without --record-payloads: not to be played"]
            )
        for text in lines:
            self._take(json.loads(text))
        return list(self._sessions.values())

    def _take(self, line: Mapping[str, Any]) -> None:
        number, event = line["session"], line["event"]
        if event == "start":
            self._sessions[number] = RecordedSession(
                line["document"], line["properties"], line["agent_version"]
            )
        elif event == "message" and "payload" in line:
            direction = Direction.UP if line["from"] == "client" else Direction.DOWN
            self._sessions[number].messages.append((direction, _message(line)))


def _message(line: Mapping[str, Any]) -> Message:
    return Message(
        line["type"],
        line["sequence"],
        bytes.fromhex(line["message_id"]),
        line["created_ms"],
        base64.b64decode(line["payload"], validate=True),
        line["payload_type"],
        line["flags"],
    )
