"""What a probe says to a destination, and what it takes for a sign of life.

Nothing here logs in, and nothing that a destination says goes into a reason: it is
payload. What it may say is bounded: ``LONGEST_ANSWER``.
"""

import re
import struct
from collections.abc import Callable
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
}
_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9.]{1,3} ([1-5][0-9]{2})\b")
_SILENT: Final = "it closed the connection without an answer"


async def converse(probe: Probe, duplex: Duplex, host: str) -> str:
    """Ask a destination for a sign of life; return what is wrong, or ``""``.

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
        case "postgres":
            return await _ask_postgres(duplex)
        case "redis":
            return await _ask_redis(duplex)
        case "http":
            return await _ask_http(duplex, probe.detail, host)


async def _connect(duplex: Duplex) -> str:
    # An agent says nothing when it has connected; but it answers our end of file with
    # its own, and not before that (protocol 6.6).
    await duplex.send_eof()
    await duplex.receive()
    return ""


async def _read_banner(duplex: Duplex, banner: str) -> str:
    wanted = banner.encode()
    assert len(wanted) <= LONGEST_BANNER, "the configuration checks it"

    def enough(data: bytes) -> bool:
        return len(data) >= len(wanted) or not wanted.startswith(data)

    data = await _read(duplex, enough)
    if data.startswith(wanted):
        return ""
    return f"its first bytes are not {banner!r}" if data else _SILENT


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
