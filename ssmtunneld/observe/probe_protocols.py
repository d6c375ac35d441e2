"""Words of a probe to a destination, and the answers that are signs of life.

Nothing here logs in, and nothing that a destination says goes into a reason: it is
payload. What it may say is bounded: ``LONGEST_ANSWER``.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ssmtunneld.base.duplex import Duplex
from ssmtunneld.config.probes import LONGEST_BANNER, Probe
from ssmtunneld.version import __version__

LONGEST_ANSWER: Final = 4096
"""Bytes of an answer that are looked at; all that is asked for comes sooner."""

# PostgreSQL: length, and the code of SSLRequest in place of a protocol version.
_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
# Errors of Redis that say that it cannot serve anybody; others only that we may not.
_REDIS_TROUBLES: Final = {
    b"-LOADING": "Redis is loading its data",
    b"-MASTERDOWN": "Redis has lost its master",
    b"-MISCONF": "Redis cannot save its data",
    b"-BUSY": "Redis is busy with a script",
    b"-DENIED": "Redis is in protected mode and refuses the target",
}
# The same of an error without a class of its own.
_REDIS_FULL: Final = b"-ERR max number of clients"
_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9.]{1,3} ([1-5][0-9]{2})\b")
_SILENT: Final = "it closed the connection without an answer"

# MySQL's client/server protocol, version 10, which MariaDB shares: packets of a length
# of three bytes, a number, and so many bytes.
_MYSQL_OK: Final = 0x00
_MYSQL_VERSION: Final = 0x0A
_MYSQL_SWITCH: Final = 0xFE
_MYSQL_ERROR: Final = 0xFF
_MYSQL_QUIT: Final = b"\x01"
_MYSQL_ROUNDS: Final = 4
# CLIENT_LONG_PASSWORD, PROTOCOL_41, SECURE_CONNECTION and PLUGIN_AUTH; the largest
# packet; utf8mb4; a user that nobody has, with an empty password.
_MYSQL_LOGIN: Final = (
    struct.pack("<IIB23x", 0x0008_8201, 1 << 24, 45)
    + b"ssmtunneld-probe\0"
    + b"\0"
    + b"mysql_native_password\0"
)
# A server lets an unknown user answer by any of its users' plugins. An answer of the
# wrong form would count as an error of the handshake, as if we had hung up (tried with
# MariaDB 10.11; MySQL's sha2_password.cc takes both spellings of an empty password).
_MYSQL_ANSWERS: Final = {
    b"mysql_native_password": b"",
    b"caching_sha2_password": b"\0",
    b"sha256_password": b"\0",
    b"mysql_clear_password": b"\0",
    b"dialog": b"\0",
    b"client_ed25519": bytes(64),
}
# Errors that say that nobody is served from where we come; others only that we may not.
_MYSQL_TROUBLES: Final = {
    1040: ("MySQL has too many connections (1040)", "raise max_connections of MySQL"),
    1053: ("MySQL is shutting down (1053)", ""),
    1129: (
        "MySQL has locked out the target's address after too many failed "
        "connections (1129)",
        'run "FLUSH HOSTS" or "mysqladmin flush-hosts" on the server, end what '
        "connects to it and hangs up, or raise max_connect_errors",
    ),
    1130: (
        "MySQL has no user who may connect from the target's address (1130)",
        "allow a database user to connect from the target's address",
    ),
}
_USE_MYSQL: Final = 'set probe = "mysql": other probes make it lock out the target'
_IS_MYSQL: Final = "it is MySQL or MariaDB"
_NOT_MYSQL: Final = "it does not speak MySQL's protocol"


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault of a destination, with its cure if that is known."""

    reason: str
    advice: str = ""


_MYSQL_STRANGE_LOGIN: Final = Fault(
    "MySQL asks for a way to log in that this probe does not know, and can count that "
    "as a failed connection",
    "set probe = false",
)


async def converse(probe: Probe, duplex: Duplex, host: str) -> Fault | None:
    """Ask a destination for a sign of life; return what is wrong, None for nothing.

    The caller bounds the time and closes the stream. Cancelling is safe.

    Args:
        probe: What to say.
        duplex: A new stream to the destination.
        host: What HTTP servers know the destination by.

    Raises:
        StreamError: The destination refused, or the stream was cut.
    """
    match probe.kind:
        case "tcp":
            return await _connect(duplex)
        case "banner":
            return await _read_banner(duplex, probe.detail)
        case "mysql":
            return await _ask_mysql(_MysqlPackets(duplex))
        case "postgres":
            return _fault(await _ask_postgres(duplex))
        case "redis":
            return _fault(await _ask_redis(duplex))
        case "http":
            return _fault(await _ask_http(duplex, probe.detail, host))


def _fault(reason: str) -> Fault | None:
    return Fault(reason) if reason else None


async def _connect(duplex: Duplex) -> Fault | None:
    # An agent says nothing when it has connected; but it answers our end of file with
    # its own, and not before that (protocol 6.6).
    await duplex.send_eof()
    if _is_mysql(await duplex.receive()):
        return Fault(_IS_MYSQL, _USE_MYSQL)
    return None


async def _read_banner(duplex: Duplex, banner: str) -> Fault | None:
    wanted = banner.encode()
    assert len(wanted) <= LONGEST_BANNER, "the configuration checks it"

    def enough(data: bytes) -> bool:
        return len(data) >= len(wanted) or not wanted.startswith(data)

    data = await _read(duplex, enough)
    if data.startswith(wanted):
        return None
    if _is_mysql(data):
        # Hanging up now would bring the target nearer to being locked out.
        await _ask_mysql(_MysqlPackets(duplex, data))
        return Fault(_IS_MYSQL, _USE_MYSQL)
    return Fault(f"its first bytes are not {banner!r}" if data else _SILENT)


def _is_mysql(data: bytes) -> bool:
    """Return True if ``data`` begins as MySQL's greeting, or its refusal, does."""
    return (
        len(data) > 4
        and data[1:4] == b"\0\0\0"
        and data[4] in {_MYSQL_VERSION, _MYSQL_ERROR}
    )


class _MysqlPackets:
    """MySQL's packets on a stream; ``data`` has arrived already."""

    def __init__(self, duplex: Duplex, data: bytes = b"") -> None:
        self._duplex = duplex
        self._data = data
        self._number = 0

    async def read(self) -> bytes:
        """Return what the next packet holds; less of it, or nothing, at the end."""
        header = await self._take(4)
        size = int.from_bytes(header[:3], "little")
        self._number = header[3] if len(header) == 4 else 0
        return await self._take(min(size, LONGEST_ANSWER))

    async def answer(self, payload: bytes) -> None:
        """Send the packet that follows the last one."""
        await self._send(self._number + 1, payload)

    async def command(self, payload: bytes) -> None:
        """Send the packet that begins a command."""
        await self._send(0, payload)

    async def _send(self, number: int, payload: bytes) -> None:
        size = len(payload).to_bytes(3, "little")
        await self._duplex.send(size + bytes([number & 0xFF]) + payload)

    async def _take(self, size: int) -> bytes:
        while len(self._data) < size and (more := await self._duplex.receive()):
            self._data += more
        taken, self._data = self._data[:size], self._data[size:]
        return taken


async def _ask_mysql(packets: _MysqlPackets) -> Fault | None:
    """Try to log in, and be refused: that alone ends a handshake and does not count.

    Hanging up, or COM_QUIT in the place of a login, counts towards
    ``max_connect_errors`` (tried with MariaDB 10.11), and a server that has counted to
    it refuses everybody from that address.
    """
    greeting = await packets.read()
    if greeting[:1] != bytes([_MYSQL_VERSION]):
        return _mysql_trouble(greeting)
    await packets.answer(_MYSQL_LOGIN)
    for _ in range(_MYSQL_ROUNDS):
        verdict = await packets.read()
        if verdict[:1] == bytes([_MYSQL_OK]):
            await packets.command(_MYSQL_QUIT)
            return None
        if verdict[:1] != bytes([_MYSQL_SWITCH]):
            return _mysql_trouble(verdict)
        plugin = verdict[1:].split(b"\0", 1)[0]
        if plugin not in _MYSQL_ANSWERS:
            return _MYSQL_STRANGE_LOGIN
        await packets.answer(_MYSQL_ANSWERS[plugin])
    return Fault(_NOT_MYSQL)


def _mysql_trouble(packet: bytes) -> Fault | None:
    """Return what an error says about everybody from there; None if nothing."""
    if not packet:
        return Fault(_SILENT)
    if packet[0] != _MYSQL_ERROR:
        return Fault(_NOT_MYSQL)
    code = int.from_bytes(packet[1:3], "little")
    return Fault(*_MYSQL_TROUBLES[code]) if code in _MYSQL_TROUBLES else None


async def _ask_postgres(duplex: Duplex) -> str:
    await duplex.send(_SSL_REQUEST)
    answer = await _read(duplex, bool)
    # One byte, and then it is our turn. An SSH server begins with an S too.
    if answer in {b"S", b"N"}:
        return ""
    if answer[:1] == b"E":
        return "PostgreSQL refuses connections"
    return "it does not speak PostgreSQL's protocol" if answer else _SILENT


async def _ask_redis(duplex: Duplex) -> str:
    await duplex.send(b"PING\r\n")
    answer = await _read(duplex, lambda data: b"\n" in data)
    if not answer:
        return _SILENT
    word = re.split(rb"[ \r\n]", answer, maxsplit=1)[0]
    if word == b"+PONG":
        return ""
    if answer.startswith(_REDIS_FULL):
        return "Redis has as many clients as it takes"
    if re.fullmatch(rb"-[A-Z]{2,20}", word):
        return _REDIS_TROUBLES.get(word, "")
    return "it does not speak Redis's protocol"


async def _ask_http(duplex: Duplex, path: str, host: str) -> str:
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Accept: */*\r\nUser-Agent: ssmtunneld/{__version__}\r\n\r\n"
    )
    await duplex.send(request.encode())
    answer = await _read(duplex, lambda data: b"\n" in data)
    if not answer:
        return _SILENT
    found = _STATUS_LINE.match(answer)
    if found is None:
        return "it does not speak HTTP"
    status = int(found[1])
    return "" if status < 500 else f"it answered with HTTP {status}"


async def _read(duplex: Duplex, enough: Callable[[bytes], bool]) -> bytes:
    """Return what arrives until it is ``enough``, or has an end, or is too long."""
    data = b""
    while not enough(data) and len(data) < LONGEST_ANSWER:
        more = await duplex.receive()
        if not more:
            break
        data += more
    return data[:LONGEST_ANSWER]
