"""The way through a daemon that runs: its tunnel to the same place, if it has one."""

import socket
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ssmtunneld.listener.local import LocalDuplex
from ssmtunneld.listener.relay import Transfer, relay
from ssmtunneld.ssh.stdio import Stdio

CONNECT_TIMEOUT: Final = 2.0
"""Seconds for a connection to a listener on this machine."""
LINGER: Final = 60.0
"""Seconds of silence after which the far side has nothing to say any more, once ours
has ended: what tunnels have by default."""
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - names, not binds


def find_listener(
    tunnels: Iterable[Mapping[str, Any]], target: str, port: int
) -> str | None:
    """Return where a tunnel to ``port`` of ``target`` listens; None without any.

    Args:
        tunnels: Those of a status document (``observe/status.py``).
        target: As the configuration spells it.
        port: On the target itself.
    """
    for tunnel in tunnels:
        leads_there = (
            tunnel["target"] == target and tunnel["destination"] == f"localhost:{port}"
        )
        if leads_there and tunnel.get("usable") and tunnel["listen"]:
            return str(tunnel["listen"][0])
    return None


def split_address(address: str) -> tuple[str, int]:
    """Return host and port to connect to, of a listener's ``127.0.0.1:2222``."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return ANYWHERE.get(host, host), int(port)


def connect(address: str) -> socket.socket | None:
    """Return a connection to a listener; None if it cannot be made.

    Blocks, for ``CONNECT_TIMEOUT`` seconds at most.
    """
    try:
        if address.startswith("unix:"):
            sock = _connect_unix(address.removeprefix("unix:"))
        else:
            sock = socket.create_connection(split_address(address), CONNECT_TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        return None
    sock.settimeout(0.0)
    return sock


def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(CONNECT_TIMEOUT)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


async def carry(sock: socket.socket, local: Stdio) -> Transfer:
    """Join ``local`` to a listener's connection until the end of either.

    Both are closed on return. Cancelling is safe: it resets the connection.
    """
    remote = await LocalDuplex.adopt(sock)
    return await relay(local, remote, linger=LINGER, client_left=local.client_left)
