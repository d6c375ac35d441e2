"""Pairs of connected sockets, and what their ends see."""

import asyncio
import socket
import struct


def socket_pair(family="tcp4"):
    """Return two connected non-blocking sockets: tcp4, tcp6 or unix."""
    if family == "unix":
        pair = socket.socketpair()
    else:
        host = {"tcp4": "127.0.0.1", "tcp6": "::1"}[family]
        kind = socket.AF_INET6 if family == "tcp6" else socket.AF_INET
        with socket.create_server((host, 0), family=kind) as listening:
            first = socket.create_connection(listening.getsockname()[:2])
            second, _ = listening.accept()
        pair = first, second
    for sock in pair:
        sock.setblocking(False)
    return pair


def reset(sock):
    """Close ``sock`` so that its peer sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def read_all(sock):
    """Read to the end of file; raises what the socket raises."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while data := await loop.sock_recv(sock, 65536):
        received += data
    return bytes(received)
