"""A way through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6).

The websockets library has one too, but it refuses proxies that leave out the reason
phrase in ``HTTP/1.1 200``, which the API's client accepts.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import cast

from typing_extensions import override
from websockets.exceptions import ProxyError
from websockets.proxy import Proxy, parse_proxy

from ssmtunneld.base.on_error import on_error
from ssmtunneld.transport.addresses import connect_tcp
from ssmtunneld.transport.frames import Head


async def connect_through(
    url: str, host: str, port: int, context: ssl.SSLContext | None
) -> asyncio.Transport:
    """Return a connection to ``host`` and ``port``, through the proxy at ``url``.

    The caller sets the protocol that is spoken on it. Cancelling is safe.

    Args:
        url: With user and password, if the proxy wants any.
        host: A name, which the proxy looks up, or an address.
        port: The port.
        context: The TLS settings if the proxy's scheme is ``https``.

    Raises:
        InvalidProxy: The URL is not one of a proxy. Its text shows the password.
        ProxyError: The proxy refuses, or answers nonsense.
        OSError: It cannot be reached.
    """
    proxy = parse_proxy(url)
    if proxy.scheme == "https":
        context = context or ssl.create_default_context()
    else:
        context = None
    transport, answer = await connect_tcp(
        lambda: _Answer(_request(proxy, host, port)), proxy.host, proxy.port, context
    )
    with on_error(transport.abort):
        await answer.accepted
    return transport


def _request(proxy: Proxy, host: str, port: int) -> bytes:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.user_info is not None:
        words = base64.b64encode(":".join(proxy.user_info).encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {words}")
    return "\r\n".join([*lines, "", ""]).encode()


class _Answer(asyncio.Protocol):
    """Asks, and waits for the head of the answer; what follows is dropped.

    The host behind the proxy says nothing before it is spoken to.
    """

    def __init__(self, request: bytes) -> None:
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._head = Head()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.WriteTransport by inheritance.
        cast("asyncio.WriteTransport", transport).write(self._request)

    @override
    def data_received(self, data: bytes) -> None:
        head = self._head
        if head.over or self.accepted.done() or not head.feed(data):
            return
        status = head.status
        if status is None:
            self._refuse("the proxy's answer is not HTTP")
        elif 200 <= status < 300:
            self.accepted.set_result(None)
        else:
            self._refuse(f"proxy rejected connection: HTTP {status}")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.accepted.done():
            self._refuse("the proxy closed the connection without an answer")

    def _refuse(self, reason: str) -> None:
        self.accepted.set_exception(ProxyError(reason))
