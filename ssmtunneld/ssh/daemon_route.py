"""The way through a daemon that runs: its tunnel to the same place, if it has one.

Light enough for every login: nothing here waits in an event loop.
"""

import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ssmtunneld.listener.relay import Transfer
    from ssmtunneld.ssh.stdio import Stdio

ANSWER_TIMEOUT: Final = 2.0
"""Seconds for a daemon to answer; without an answer a session is started."""
LINGER: Final = 60.0
"""Seconds of silence after which the far side has nothing to say any more, once ours
has ended: what tunnels have by default."""

_ANSWER_START: Final = 4096
_DONE: Final = b"200"


def connect(
    daemons: Iterable[Path], place: Mapping[str, str | int]
) -> socket.socket | None:
    """Return a connection to ``place`` through a warm session; None if there is none.

    Blocks, for ``ANSWER_TIMEOUT`` seconds at most for each daemon.

    Args:
        daemons: Control sockets; some can be left behind, or be another user's.
        place: As ``POST /connect`` has it (``serve/control_socket.py``).
    """
    request = _request("/connect", place)
    for path in daemons:
        try:
            answer, found = _ask(path, request)
        except OSError:
            continue
        if found and _is_done(answer):
            return found[0]
        for sock in found:
            sock.close()
    return None


def wake(
    daemons: Iterable[Path], place: Mapping[str, str | int]
) -> tuple[Path, str] | None:
    """Let a daemon start the target of ``place``; return its socket and its tunnel.

    None if no daemon has a tunnel there, or none whose target sleeps. Blocks, as
    `connect` does.

    Args:
        daemons: Control sockets, as of `connect`.
        place: As `connect` has it.
    """
    request = _request("/wake", place)
    for path in daemons:
        try:
            answer, _ = _ask(path, request)
            if _is_done(answer):
                document = json.loads(answer.partition(b"\r\n\r\n")[2])
                return path, str(document["tunnel"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _request(path: str, place: Mapping[str, str | int]) -> bytes:
    body = json.dumps(place).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _is_done(answer: bytes) -> bool:
    return answer.split(b" ", 2)[1:2] == [_DONE]


def _ask(path: Path, request: bytes) -> tuple[bytes, list[socket.socket]]:
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(ANSWER_TIMEOUT)
        control.connect(str(path))
        control.sendall(request)
        # It is sent at once, and a descriptor comes with the first byte.
        answer, passed, _, _ = socket.recv_fds(control, _ANSWER_START, 1)
    return answer, [socket.socket(fileno=descriptor) for descriptor in passed]


async def carry(sock: socket.socket, local: "Stdio") -> "Transfer":
    """Join ``local`` to the connection until the end of either.

    Both are closed on return. Cancelling is safe: it resets the connection.
    """
    from ssmtunneld.listener.local import LocalDuplex  # noqa: PLC0415 - asyncio is heavy
    from ssmtunneld.listener.relay import relay  # noqa: PLC0415 - asyncio is heavy

    sock.settimeout(0.0)
    remote = await LocalDuplex.adopt(sock)
    return await relay(local, remote, linger=LINGER, client_left=local.client_left)
