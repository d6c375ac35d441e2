"""Sends what botocore has prepared and signed, on the same way as the data channel.

botocore's own sender knows neither SOCKS nor ``ALL_PROXY``, reads ``NO_PROXY`` in a
manner of its own, and has certificates of its own: what works for it need not work for
the websocket, and the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from botocore.awsrequest import AWSResponse
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from typing_extensions import override
from urllib3 import PoolManager, ProxyManager, Retry, Timeout, exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ssmtunneld.aws.network import tls_context
from ssmtunneld.aws.proxies import Proxy, proxy_for

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterable

    from botocore.awsrequest import AWSPreparedRequest
    from botocore.compat import HTTPHeaders
    from botocore.exceptions import BotoCoreError

# A link that needs longer for a handshake is down; StartSession itself takes 0.3-2 s,
# and an answer that comes after 20 s has lost its caller.
_CONNECT_TIMEOUT: Final = 5
_READ_TIMEOUT: Final = 20


class ProxyUnusable(ProxyConnectionError):
    """A proxy cannot be reached, or does not lead on."""

    fmt = "{proxy_url} does not lead there: {error}"


class Sender:
    """A handler of botocore's event ``before-send``: its answer is taken for the API's.

    Calls are rare and most of them follow a broken network. A pooled connection that
    died with it would cost each of them the read timeout; a new one costs 2 RTT. So
    there is no pool. Thread-safe.

    Args:
        ca_bundle: As :func:`tls_context` has it.
        proxy: As :func:`proxy_for` has it.
    """

    def __init__(self, ca_bundle: str | None, proxy: str | None) -> None:
        self._ca_bundle = ca_bundle
        self._proxy = proxy

    def __call__(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        """Return the answer to ``request``; blocks.

        Raises:
            BotoCoreError: There is none; says why as botocore itself would.
            ValueError: The proxy that is configured is none.
        """
        url = str(request.url)
        proxy = proxy_for(url, self._proxy)
        schemes = {url.partition(":")[0], "" if proxy is None else proxy.scheme}
        try:
            # The usual authorities take 5 MB of memory: not where nothing needs them.
            trust = tls_context(self._ca_bundle) if "https" in schemes else None
        except OSError as error:
            text = f"{self._ca_bundle} holds no certificates: {error}"
            raise ValueError(text) from None
        with _manager(proxy, trust) as manager:
            try:
                return _send(manager, request)
            except exceptions.HTTPError as error:
                raise _as_botocores(error, url, proxy) from error


def _send(manager: PoolManager, request: AWSPreparedRequest) -> AWSResponse:
    answer = manager.urlopen(
        str(request.method),
        str(request.url),
        body=request.body,
        headers={**_text(request.headers), "Connection": "close"},
        retries=Retry(total=False),
        redirect=False,
        assert_same_host=False,
        preload_content=False,
        decode_content=False,
    )
    headers: Any = answer.headers  # any mapping will do
    response = AWSResponse(str(request.url), answer.status, headers, answer)
    response.content  # noqa: B018 - read now: the connection is about to be closed
    return response


def _text(headers: HTTPHeaders) -> dict[str, str]:
    """Return headers as text; botocore has some of them as bytes."""
    pairs: Iterable[tuple[str, str | bytes]] = headers.items()
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in pairs
    }


def _manager(proxy: Proxy | None, trust: ssl.SSLContext | None) -> PoolManager:
    timeout = Timeout(connect=_CONNECT_TIMEOUT, read=_READ_TIMEOUT)
    if proxy is not None and not proxy.is_socks:
        return ProxyManager(
            str(proxy),
            proxy_headers=proxy.headers,
            proxy_ssl_context=trust if proxy.scheme == "https" else None,
            ssl_context=trust,
            timeout=timeout,
        )
    manager = PoolManager(ssl_context=trust, timeout=timeout)
    if proxy is not None:
        manager.pool_classes_by_scheme = _socks_pools(proxy)
    return manager


def _socks_pools(proxy: Proxy) -> dict[str, type[HTTPConnectionPool]]:
    """Return what connects through a SOCKS proxy, as urllib3 wants to be told."""

    class Plain(HTTPConnection):
        @override
        def _new_conn(self) -> socket.socket:
            return _connect(proxy, self.host, self.port)

    class Secure(HTTPSConnection):
        @override
        def _new_conn(self) -> socket.socket:
            return _connect(proxy, self.host, self.port)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _connect(proxy: Proxy, host: str, port: int) -> socket.socket:
    # Importing takes 20 ms, and few have such a proxy.
    from python_socks import ProxyError, ProxyType  # noqa: PLC0415 - few need it
    from python_socks.sync import Proxy as SocksProxy  # noqa: PLC0415 - few need it

    kind = ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else ProxyType.SOCKS5
    password = None if proxy.password is None else proxy.password.reveal()
    via = SocksProxy(
        kind, proxy.host, proxy.port, proxy.user, password, rdns=proxy.resolves
    )
    try:
        opened: socket.socket = via.connect(
            host.strip("[]"), port, timeout=_CONNECT_TIMEOUT
        )
    except (ProxyError, OSError) as error:
        text = str(error) or type(error).__name__
        raise exceptions.ProxyError(text, error) from error
    return opened


def _as_botocores(
    error: exceptions.HTTPError, url: str, proxy: Proxy | None
) -> BotoCoreError:
    """Return what botocore itself would have raised."""
    match error:
        case exceptions.SSLError():
            return SSLError(endpoint_url=url, error=error)
        case exceptions.ProxyError():
            return ProxyUnusable(proxy_url=str(proxy), error=error.original_error)
        case exceptions.NewConnectionError():
            return EndpointConnectionError(endpoint_url=url, error=error)
        case exceptions.ConnectTimeoutError():
            return ConnectTimeoutError(endpoint_url=url, error=error)
        case exceptions.ReadTimeoutError():
            return ReadTimeoutError(endpoint_url=url, error=error)
        case exceptions.ProtocolError():
            return ConnectionClosedError(endpoint_url=url, error=error)
        case _:
            return HTTPClientError(error=error)
