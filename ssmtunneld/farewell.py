"""Closing a server without forgetting those that came a moment ago."""

import asyncio
from typing import Final

# Turns of the loop from accept() until the protocol has its connection: the task that
# makes the transport begins, the transport is made, the protocol is told.
_TURNS: Final = 3


async def close_server(server: asyncio.Server) -> None:
    """Close ``server`` once all that it has accepted have reached their protocols.

    Between accept() and the transport, asyncio's own loop takes a turn. Closing a
    server in just that turn makes the transport fail half-way, without a word: nobody
    closes the connection, and its client waits until the garbage is collected. So we
    stop accepting first, and close the server some turns later. Connections that nobody
    has accepted yet are refused by the kernel; those with TLS may still be shaking
    hands. Idempotent. Connections are the caller's to close.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
    else:
        server.close()  # uvloop makes the transport at once
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()
