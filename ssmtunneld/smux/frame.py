"""smux frames: encode, and decode from bytes cut anywhere (protocol 7.1).

Unlike AgentMessages, frames are little-endian: version, command, length, stream id.
"""

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from ssmtunneld.errors import RemoteProtocolError

VERSION: Final = 1
HEADER_SIZE: Final = 8
MAX_FRAME_PAYLOAD: Final = 65535

_HEADER: Final = Struct("<BBHI")


class Command(IntEnum):
    """The command of a frame."""

    SYN = 0
    FIN = 1
    PSH = 2
    NOP = 3
    UPD = 4


class Frame(NamedTuple):
    """One frame, or one piece of a PSH frame as far as it has arrived."""

    command: Command
    stream_id: int
    payload: bytes = b""


_COMMANDS: Final = tuple(Command)


def encode_frame(command: Command, stream_id: int, payload: bytes = b"") -> bytes:
    """Return the bytes of one frame; the payload is at most 65535 bytes."""
    return _HEADER.pack(VERSION, command, len(payload), stream_id) + payload


class FrameDecoder:
    """Turns a byte stream into frames.

    A PSH frame is delivered piece by piece as its bytes arrive, so that a 32 KiB frame
    of the official agent does not delay its first byte by 32 messages (design D3). UPD,
    which version 1 does not use, is skipped. The decoder holds at most seven bytes.
    """

    __slots__ = ("_pending", "_remaining", "_skip", "_stream_id")

    def __init__(self) -> None:
        self._pending = b""
        self._stream_id = 0
        self._remaining = 0
        self._skip = False

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames, and pieces of frames, that ``data`` completes.

        Raises:
            RemoteProtocolError: Another version, an unknown command, or a payload on a
                frame that has none. The stream of frames is lost from here on.
        """
        if 0 < len(data) < self._remaining and not self._skip:
            # From the middle of a frame of 32 KiB, as nearly all is in a download.
            self._remaining -= len(data)
            return [Frame(Command.PSH, self._stream_id, data)]
        frames: list[Frame] = []
        if self._pending:
            data = self._pending + data
            self._pending = b""
        offset, end = 0, len(data)
        while offset < end:
            if self._remaining:
                offset = self._take(data, offset, frames)
                continue
            if end - offset < HEADER_SIZE:
                self._pending = data[offset:]
                break
            command, length, stream_id = _parse_header(data, offset)
            offset += HEADER_SIZE
            if command is Command.PSH or command is Command.UPD:
                self._stream_id = stream_id
                self._remaining = length
                self._skip = command is Command.UPD
            else:
                frames.append(Frame(command, stream_id))
        return frames

    def _take(self, data: bytes, offset: int, frames: list[Frame]) -> int:
        piece = data[offset : offset + self._remaining]
        self._remaining -= len(piece)
        if not self._skip:
            frames.append(Frame(Command.PSH, self._stream_id, piece))
        return offset + len(piece)


def _parse_header(data: bytes, offset: int) -> tuple[Command, int, int]:
    version, number, length, stream_id = _HEADER.unpack_from(data, offset)
    if version != VERSION:
        raise RemoteProtocolError(f"smux version {version} instead of {VERSION}")
    if number >= len(_COMMANDS):
        raise RemoteProtocolError(f"smux command {number} is unknown")
    command = _COMMANDS[number]
    if length and command not in (Command.PSH, Command.UPD):
        raise RemoteProtocolError(f"smux {command.name} with {length} bytes of payload")
    return command, length, stream_id
