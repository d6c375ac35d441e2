"""Sends what botocore has prepared and signed, on the same way as the data channel.

botocore's own sender knows neither SOCKS nor ``ALL_PROXY``, reads ``NO_PROXY`` in a
manner of its own, and has certificates of its own: what works for it need not work for
the websocket, and the other way round. It also has no deadline for a whole call, and no
limit on the size of an answer.
"""

from __future__ import annotations

import http.client
import re
import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.exceptions import (
    BotoCoreError,
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

from ssmtunneld.aws.api.dialing import (
    BODY_LIMIT,
    CONNECT_TIMEOUT,
    AnswerTooLong,
    BoundedResponse,
    Deadline,
    TooLate,
    dial,
    in_time,
    tunnel,
    words_of_http,
)
from ssmtunneld.aws.api.endpoints import SettingError, without_query
from ssmtunneld.aws.api.network import tls_context
from ssmtunneld.aws.api.proxies import Proxy, proxy_for
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.redaction import register, register_answer
from ssmtunneld.base.threads import NoThread

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

    from botocore.awsrequest import AWSPreparedRequest
    from botocore.compat import HTTPHeaders

CALL_TIMEOUT: Final = 30.0
"""Seconds for one call, from the look-up of the name to the last byte of the answer.
StartSession takes 0.3 to 2 s, and has been seen to take 20."""


PART_LIMIT: Final = 60_000
"""Tags of an answer in XML, or objects, lists and their items of one in JSON. A full
page of AWS's has 35,000. Parsers hold the interpreter's lock until they are done."""


class ProxyUnusable(ProxyConnectionError):
    """A proxy cannot be reached, or refuses to connect."""

    fmt = "proxy {proxy_url} failed: {error}"


class ProxyDemandsLogin(ProxyUnusable):
    """A proxy requires authentication."""


class ProxyForbids(ProxyUnusable):
    """A proxy forbids this endpoint."""


class CallTooSlow(ReadTimeoutError):
    """There was no complete answer in time."""

    fmt = "no complete answer from {endpoint_url} within {seconds:g} s"


class AnswerTooLarge(BotoCoreError):
    """An answer is longer than what AWS sends."""

    fmt = "{endpoint_url} answers with more than {limit} bytes"


class AnswerTooIntricate(AnswerTooLarge):
    """An answer has more parts, or longer numbers, than what AWS sends."""

    fmt = "{endpoint_url} answers with more than {limit} items, or such numbers"


class NotTls(SSLError):
    """Something answers, but does not support TLS."""

    fmt = "{endpoint_url} does not support TLS: {error}"


class WebPage(BotoCoreError):
    """A page for people was answered: something stands in AWS's place."""

    fmt = "{endpoint_url} answers with a web page, so it is not AWS"


SECRET_HEADERS: Final = (
    "Authorization",
    "X-Amz-Security-Token",
    "x-amz-sso_bearer_token",
    "X-aws-ec2-metadata-token",
)
"""Headers in which requests have secrets."""
OIDC_PATH: Final = "/token"
"""Path that renews a login of SSO: the whole request is a secret."""


class Sender:
    """A handler of botocore's event ``before-send``: its answer is taken for the API's.

    Calls are rare and most of them follow a broken network. A pooled connection that
    died with it would cost each of them the read timeout; a new one costs 2 RTT. So
    there is no pool. Thread-safe.

    Args:
        ca_bundle: As :func:`tls_context` has it.
        proxy: As :func:`proxy_for` has it.
        timeout: Seconds for a call and all of its answer.
    """

    def __init__(
        self, ca_bundle: str | None, proxy: str | None, timeout: float = CALL_TIMEOUT
    ) -> None:
        self._ca_bundle = ca_bundle
        self._proxy = proxy
        self._timeout = timeout

    def __call__(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        """Return the answer to ``request``; blocks for ``timeout`` seconds at most.

        Raises:
            BotoCoreError: There is none; says why as botocore itself would. Nothing of
                the request or the answer is quoted.
            SettingError: The proxy that is configured is none.
            NoThread: The system allows no thread that would keep the time.
        """
        url = str(request.url)
        _register_secrets(request)
        proxy = proxy_for(url, self._proxy)
        schemes = {url.partition(":")[0], "" if proxy is None else proxy.scheme}
        try:
            # The usual authorities take 5 MB of memory: not where nothing needs them.
            trust = tls_context(self._ca_bundle) if "https" in schemes else None
        except OSError as error:
            why = error.strerror or type(error).__name__
            text = f"{self._ca_bundle} contains no certificates: {why}"
            raise SettingError(text) from None
        with (
            Deadline(self._timeout) as deadline,
            _manager(proxy, trust, deadline) as manager,
        ):
            return _ask(manager, request, proxy, deadline)

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Do the same for those of botocore's classes that have a sender of their own.

        Raises:
            BotoCoreError: As above.
            SettingError: As above.
            NoThread: As above.
        """
        return self(request)


def _register_secrets(request: AWSPreparedRequest) -> None:
    """Let nothing that is said from now on have what ``request`` proves itself with.

    Some of it nobody else of ours sees: the login of SSO, and what renews it.
    """
    for name in SECRET_HEADERS:
        value: object = request.headers.get(name)  # bytes too, whatever its type says
        if value is not None:
            text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
            scheme, _, rest = text.partition(" ")
            # A signature is worth nothing by itself, and names its keys.
            if not scheme.startswith("AWS4-"):
                register(rest or scheme)
    if urlsplit(str(request.url)).path == OIDC_PATH and isinstance(request.body, bytes):
        register_answer(request.body)


def _ask(
    manager: PoolManager,
    request: AWSPreparedRequest,
    proxy: Proxy | None,
    deadline: Deadline,
) -> AWSResponse:
    where = without_query(str(request.url))
    try:
        response = _send(manager, request)
    except exceptions.HTTPError as error:
        # Where the deadline has cut a connection, libraries say that the peer did.
        failure = error
    else:
        if not deadline.has_passed:
            return response
        failure = exceptions.HTTPError()
    if deadline.has_passed:
        raise CallTooSlow(endpoint_url=where, seconds=deadline.seconds)
    raise _lack_of_threads(failure) or _as_botocores(failure, where, proxy)


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
    try:
        body = answer.read(BODY_LIMIT + 1, decode_content=False)
    finally:
        answer.close()  # with the connection, which nobody else closes
    if len(body) > BODY_LIMIT:
        raise exceptions.ProtocolError("too long", AnswerTooLong())
    if _is_intricate(body):
        where = without_query(str(request.url))
        raise AnswerTooIntricate(endpoint_url=where, limit=PART_LIMIT)
    # Not by its type: emulators call everything text/html.
    if answer.status == http.client.OK and _PAGE.match(body):
        raise WebPage(endpoint_url=without_query(str(request.url)))
    headers: Any = answer.headers  # any tunnel will do
    raw: Any = _Body(body)  # as botocore's own tests have it
    return AWSResponse(str(request.url), answer.status, headers, raw)


def _is_intricate(body: bytes) -> bool:
    """Return True for what a parser, in whichever thread, would hold up the loop."""
    if body.lstrip()[:1] == b"<":
        return body.count(b"<") > PART_LIMIT or b"<!ENTITY" in body
    parts = sum(body.count(mark) for mark in (b"{", b"[", b","))
    return parts > PART_LIMIT or _LONG_NUMBER in body.translate(_DIGITS)


class _Body:
    """The body of an answer, as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        """Yield the body."""
        yield self._content


def _text(headers: HTTPHeaders) -> dict[str, str]:
    """Return headers as text; botocore has some of them as bytes."""
    pairs: Iterable[tuple[str, str | bytes]] = headers.items()
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in pairs
    }


def _manager(
    proxy: Proxy | None, trust: ssl.SSLContext | None, deadline: Deadline
) -> PoolManager:
    # Of the whole, the deadline is the limit; this is for each step.
    timeout = Timeout(connect=deadline.seconds, read=deadline.seconds)
    if proxy is None or proxy.is_socks:
        manager = PoolManager(ssl_context=trust, timeout=timeout)
    else:
        manager = ProxyManager(
            str(proxy),
            proxy_headers=proxy.headers,
            proxy_ssl_context=trust if proxy.scheme == "https" else None,
            ssl_context=trust,
            timeout=timeout,
        )
    manager.pool_classes_by_scheme = _pools(_opener(proxy, deadline))
    return manager


def _opener(
    proxy: Proxy | None, deadline: Deadline
) -> Callable[[str, int], socket.socket]:
    if proxy is not None and proxy.is_socks:
        return lambda host, port: _connect(proxy, host, port, deadline)
    return lambda host, port: dial(host, port, deadline)


def _pools(
    opener: Callable[[str, int], socket.socket],
) -> dict[str, type[HTTPConnectionPool]]:
    """Return what connects by ``opener`` and bounds answers, as urllib3 wants it."""

    class Plain(HTTPConnection):
        response_class = BoundedResponse

        @override
        def _new_conn(self) -> socket.socket:
            return _new_connection(self, opener)

        @override
        def _tunnel(self) -> None:
            _lead_through(self)

    class Secure(Plain, HTTPSConnection):
        pass

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _new_connection(
    connection: HTTPConnection, opener: Callable[[str, int], socket.socket]
) -> socket.socket:
    try:
        return opener(connection.host.strip("[]"), connection.port)
    except (TooLate, TimeoutError) as error:
        words = str(error) or "no answer"
        raise exceptions.ConnectTimeoutError(connection, words) from error
    except OSError as error:
        words = error.strerror or type(error).__name__
        raise exceptions.NewConnectionError(connection, words) from error


def _lead_through(connection: HTTPConnection) -> None:
    """Let the proxy at the other end connect to what is called."""
    settings = vars(connection)
    host, port = str(settings["_tunnel_host"]), settings["_tunnel_port"]
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    try:
        tunnel(connection.sock, f"{host}:{port}", settings["_tunnel_headers"])
    except OSError as error:
        connection.close()
        raise exceptions.ProxyError(str(error), error) from None


def _connect(proxy: Proxy, host: str, port: int, deadline: Deadline) -> socket.socket:
    # Importing takes 20 ms, and few have such a proxy.
    from python_socks import ProxyError, ProxyType  # noqa: PLC0415 - few need it
    from python_socks.sync import Proxy as SocksProxy  # noqa: PLC0415 - few need it

    kind = ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else ProxyType.SOCKS5
    password = None if proxy.password is None else proxy.password.reveal()
    via = SocksProxy(
        kind, proxy.host, proxy.port, proxy.user, password, rdns=proxy.resolves
    )

    seconds = min(CONNECT_TIMEOUT, deadline.seconds)

    def greet() -> socket.socket:
        opened: socket.socket = via.connect(host, port, timeout=seconds)
        return opened

    try:
        # The library bounds each step of its conversation, not the whole.
        opened = in_time(greet, deadline, socket.socket.close, asked=str(proxy))
        opened.settimeout(deadline.seconds)
        return deadline.watch(opened)
    except (ProxyError, OSError) as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise exceptions.ProxyError(clean(text), error) from None


_DIGITS: Final = bytes(ord("0") * (0x30 <= byte <= 0x39) for byte in range(256))
"""Makes every digit the same one, and all else none."""
_LONG_NUMBER: Final = b"0" * 400
"""A number that takes longer to read than any of AWS's. A pattern would take 20 ms."""
_PAGE: Final = re.compile(
    rb"\s*+(?:<!--.{0,500}?-->\s*+)?<(?:!doctype\s++)?html\b",
    re.IGNORECASE | re.DOTALL,
)
"""First bytes of a web page."""
_TUNNEL_STATUS: Final = re.compile(r"the proxy answered ([0-9]{3})\b")
"""The message of ``tunnel`` when a proxy refuses."""
_REFUSALS: Final = {"407": ProxyDemandsLogin, "403": ProxyForbids}
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")
"""OpenSSL's errors for answers that are not TLS."""


def _lack_of_threads(error: exceptions.HTTPError) -> NoThread | None:
    """Return what the library made look like a failing network, if it is this."""
    reason = error.__cause__ or getattr(error, "original_error", None)
    return reason if isinstance(reason, NoThread) else None


def _as_botocores(
    error: exceptions.HTTPError, url: str, proxy: Proxy | None
) -> BotoCoreError:
    """Return what botocore itself would have raised, with words of ours."""
    match error:
        case exceptions.SSLError():
            return _tls_failure(error, url)
        case exceptions.ProxyError():
            return _proxy_failure(error.original_error, str(proxy))
        case exceptions.NewConnectionError():
            return EndpointConnectionError(endpoint_url=url, error=_words(error))
        case exceptions.ConnectTimeoutError():
            return ConnectTimeoutError(endpoint_url=url, error=_words(error))
        case exceptions.ReadTimeoutError():
            return ReadTimeoutError(endpoint_url=url, error=_words(error))
        case exceptions.ProtocolError() if isinstance(error.args[-1], AnswerTooLong):
            return AnswerTooLarge(endpoint_url=url, limit=BODY_LIMIT)
        case exceptions.ProtocolError():
            return ConnectionClosedError(endpoint_url=url, error=_words(error))
        case _:
            return HTTPClientError(error=_words(error))


def _tls_failure(error: exceptions.SSLError, url: str) -> BotoCoreError:
    # The words of OpenSSL, which names no value but that of a certificate's field.
    text = clean(str(error))
    # botocore's types ask for an exception, and all it does with that is to print it.
    told: Any = text
    if any(word in text for word in _NO_TLS):
        return NotTls(endpoint_url=url, error=told)
    return SSLError(endpoint_url=url, error=told)


def _proxy_failure(error: BaseException | None, proxy: str) -> ProxyUnusable:
    """Return why a proxy does not lead on."""
    words = _words(error)
    refused = _TUNNEL_STATUS.match(words)
    kind = (
        ProxyUnusable if refused is None else _REFUSALS.get(refused[1], ProxyUnusable)
    )
    return kind(proxy_url=proxy, error=words)


def _words(error: BaseException | None) -> str:
    """Return what is wrong, in words that quote no request and no answer."""
    if isinstance(error, http.client.HTTPException):
        return words_of_http(error)
    if isinstance(error, exceptions.ProtocolError) and len(error.args) > 1:
        return _words(error.args[1])
    if isinstance(error, exceptions.HTTPError):
        cause = error.__cause__
        return type(error).__name__ if cause is None else _words(cause)
    if isinstance(error, OSError):
        return clean(error.strerror or str(error)) or type(error).__name__
    return type(error).__name__
