"""Floods of a hostile service, each kind against a whole daemon.

A good tunnel of the same daemon answers all the time. Each flood goes on until the
daemon has closed its link several times.
"""

import contextlib
import json
import socket

import pytest
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from ssmtunneld.protocol.message import MessageType, PayloadType
from tests.hostile.gateway import HostileService, hung_up, repeat
from tests.hostile.scene import scene
from tests.support.bench import agent_message, channel_closed, complete, output, request

LEFT = 3
"""Times that the daemon must leave a flood."""
ANSWERS = 100
"""Answers on the good tunnel while a flood goes on that breaks no rule."""
MIB = 1 << 20


def frame(opcode, data=b"", *, fin=True):
    """Return a frame of a server's."""
    return Frame(opcode, data, fin=fin).serialize(mask=False)


def said(*messages):
    """Return messages, each in one frame."""
    return b"".join(frame(Opcode.BINARY, message) for message in messages)


def handshake(payload):
    """Return a handshake request with any payload."""
    return output(0, payload, PayloadType.HANDSHAKE_REQUEST)


def action(kind):
    """Return a handshake request with one action."""
    document = {"AgentVersion": "3.3.987.0", "RequestedClientActions": kind}
    return handshake(json.dumps(document).encode())


def filled(key, size):
    """Return a document of ``size`` bytes that is full of empty objects."""
    start = b'{"AgentVersion":"3.3.987.0","%s":[' % key
    return start + b",".join([b"{}"] * (size // 3)) + b"]}"


PING = frame(Opcode.PING, b"x" * 125)
BEGUN = frame(Opcode.BINARY, b"x", fin=False)
OPENED = said(request(), complete())
LONG = "\x1b[31m\ud800\u202e" + "word " * 600_000


def acknowledgement(payload):
    """Return an acknowledgement with any payload."""
    return agent_message(MessageType.ACKNOWLEDGE, 0, payload, 0, 3)


# Each with what comes once behind the upgrade, and what comes again and again.
FLOODS = {
    "A1 an action called by a surrogate": (
        said(action([{"ActionType": "\ud800", "ActionParameters": {}}])),
        b"",
    ),
    "A1 an end whose words are a surrogate": (
        OPENED + said(channel_closed("\ud800 \x1b]0;owned\x07 \u202e")),
        b"",
    ),
    "A1 a close frame with controls": (
        OPENED + frame(Opcode.CLOSE, b"\x03\xe8\x1b[2J\r\n" + "\u202e".encode() * 30),
        b"",
    ),
    "A7 pings, read by nobody": (OPENED, PING * 500),
    "A7 empty pongs": (b"", frame(Opcode.PONG) * 9000),
    "A8 a handshake of 4 MiB": (said(handshake(filled(b"Actions", 4 * MIB))), b""),
    "A8 a handshake of many actions": (
        said(handshake(filled(b"RequestedClientActions", 120_000))),
        b"",
    ),
    "A8 a handshake that is nested": (said(handshake(b'{"a":' * 20_000)), b""),
    "A8 a handshake of open strings": (said(handshake(b'"\\' * 60_000)), b""),
    "A8 an acknowledgement of 4 MiB": (
        OPENED + said(acknowledgement(filled(b"Acknowledged", 4 * MIB))),
        b"",
    ),
    "A8 an acknowledgement of 100 KiB": (
        OPENED + said(acknowledgement(filled(b"Acknowledged", 100_000))),
        b"",
    ),
    "A8 words to the user of 3 MB": (said(request(), complete(LONG)), b""),
    "A8 words to the user of 15 KB": (
        said(request(), complete(LONG[:15_000].replace("\ud800", "\x9b"))),
        frame(Opcode.CLOSE, b"\x03\xe8"),
    ),
    "A8 an end with words of 3 MB": (OPENED + said(channel_closed(LONG)), b""),
    "A8 an end with words of 60 KB": (
        OPENED + said(channel_closed(LONG[:60_000])),
        b"",
    ),
    "A9 fragments without data": (BEGUN, frame(Opcode.CONT, fin=False) * 9000),
    "A9 fragments of one byte": (
        BEGUN,
        frame(Opcode.CONT, b"x", fin=False) * 9000,
    ),
    "A9 messages in fragments": (OPENED, (BEGUN + frame(Opcode.CONT, b"x")) * 3000),
    "frames of smux": (
        OPENED,
        said(*(output(2 + n, b"\x01\x03\0\0\0\0\0\0" * 7000) for n in range(20))),
    ),
    "messages of the future": (
        OPENED,
        lambda: said(*(output(3 + n, bytes(1024)) for n in range(40_000))),
    ),
    "unknown types": (OPENED, said(agent_message("agent_job", 0, b"{}", 0)) * 500),
    "nothing but zeros": (OPENED, bytes(65536)),
}


async def flood(name, reader, writer, key):
    """Play one flood."""
    once, again = FLOODS[name]
    writer.write(
        b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept_key(key).encode()
    )
    writer.write(once)
    await writer.drain()
    if again:
        await repeat(writer, again() if callable(again) else again)
    await hung_up(reader)


@contextlib.contextmanager
def notified(tmp_path):
    """Yield the environment of a service manager, and what it hears."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)
        yield {"NOTIFY_SOCKET": path}, sock


HEADS = {
    "A12 an endless status line": (b"HTTP/1.1 101 ", b"x" * 65536),
    "A12 endless headers": (b"HTTP/1.1 101 Go\r\n", b"A: b\r\n" * 9000),
    "A12 an endless refusal": (
        b"HTTP/1.1 403 No\r\nContent-Length: 9999999999\r\n\r\n",
        b"x" * 65536,
    ),
    "A12 endless chunks": (
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n" * 9000,
    ),
    "A12 endless interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
}
# These break no rule: what they cost is bounded, and they are taken as they come.
TAKEN = {"frames of smux", "messages of the future", "unknown types"}
ROWS = {
    row: [name for name in (*FLOODS, *HEADS) if name.startswith(f"{row} ")]
    for row in ("A1", "A7", "A8", "A9", "A12")
}
ROWS["others"] = [name for name in FLOODS if not name.startswith("A")]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", ROWS)
async def test_a_flood_hurts_its_own_tunnel_only(tmp_path, row):
    names = ROWS[row]

    async def converse(target, _, reader, writer, key):
        name = names[target]
        if name in FLOODS:
            await flood(name, reader, writer, key)
        else:
            start, piece = HEADS[name]
            writer.write(start)
            await repeat(writer, piece)

    with (
        notified(tmp_path) as (environ, manager),
        HostileService(converse) as service,
    ):
        async with scene(tmp_path, service, len(names), environ=environ) as found:
            left = [n for n, name in enumerate(names) if name not in TAKEN]
            await service.ended(LEFT, *left)
            await found.witness.answers(ANSWERS)
            found.check(await found.status())
            assert manager.recv(65536)
