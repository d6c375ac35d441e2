"""From here to AWS's endpoints: proxies, names, connections, certificates, clocks.

Everything here blocks, for at most ``TIMEOUT`` seconds a step, and must be called in
threads. Nothing of ours is sent but a bare GET: no credentials, no token.
"""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from typing_extensions import override

from ssmtunneld.aws.api.dialing import (
    BoundedConnection,
    Deadline,
    TooLate,
    dial,
    look_up,
    tunnel,
)
from ssmtunneld.aws.api.endpoints import data_host, is_loopback_host
from ssmtunneld.aws.api.proxies import proxy_for
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.ports import SCHEME_PORTS
from ssmtunneld.doctor.report import Broken, Skipped

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from ssmtunneld.aws.api.proxies import Proxy
    from ssmtunneld.aws.client import AwsLocation

TIMEOUT: Final = 10.0
"""Seconds for one connection, TLS included."""
LARGEST_SKEW: Final = 240
"""Seconds; AWS refuses signatures from 300 on."""

_CHECK_PROXY: Final = "correct HTTPS_PROXY, or name the endpoint in NO_PROXY"
_CHECK_PORT: Final = (
    "open HTTPS to it, set HTTPS_PROXY, or name a VPC endpoint in endpoint_url and "
    "ssmmessages_endpoint"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the two hosts of AWS that a tunnel talks to."""

    service: str
    host: str
    port: int
    encrypted: bool
    proxy: Proxy | None
    """The proxy on the way, by configuration and environment."""

    @property
    def reachable(self) -> bool:
        """True if the way there can be tested here."""
        return self.proxy is None or self.proxy.scheme == "http"

    @override
    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def endpoints(
    place: AwsLocation, *, fips: bool, dual_stack: bool, proxy: str | None = None
) -> tuple[Endpoint, ...]:
    """Return where the API and the data channel are, as far as is known beforehand.

    Args:
        place: Where the identity's sessions live.
        fips: Whether FIPS endpoints are asked for.
        dual_stack: Whether those are that have IPv6 addresses.
        proxy: What the configuration says of proxies.

    Raises:
        Broken: What is configured as a proxy is none.
    """
    data = place.ssmmessages_endpoint
    if data is None and is_loopback_host(urlsplit(place.ssm_endpoint).hostname or ""):
        # An emulator is both.
        return (_endpoint("ssm", place.ssm_endpoint, proxy),)
    if data is None:
        data = f"wss://{data_host(place.region, fips=fips, dual_stack=dual_stack)}"
    return (
        _endpoint("ssm", place.ssm_endpoint, proxy),
        _endpoint("ssmmessages", data, proxy),
    )


def check_proxies(found: Sequence[Endpoint]) -> str:
    """Ask each proxy for its endpoint; return which there are.

    Raises:
        Broken: One cannot be reached, or refuses.
    """
    lines = []
    for endpoint in found:
        proxy = endpoint.proxy
        if proxy is None:
            lines.append(f"none for {endpoint.service}")
            continue
        if endpoint.reachable:
            try:
                _reach(endpoint)
            except OSError as error:
                text = f"{proxy} cannot connect to {endpoint}: {_words(error)}"
                raise Broken(text, _cure_of_proxy(text)) from None
        lines.append(f"{proxy} for {endpoint.service}")
    return ", ".join(lines)


def resolve(found: Sequence[Endpoint]) -> str:
    """Look up the endpoints' names; return their addresses.

    Raises:
        Broken: One has none.
        Skipped: Proxies look them up.
    """

    def find(endpoint: Endpoint) -> str:
        try:
            with Deadline(TIMEOUT) as deadline:
                answers = look_up(endpoint.host, endpoint.port, deadline)
        except OSError as error:
            raise Broken(
                f"{endpoint.host} has no address: {_words(error)}",
                "check the region, DNS, and the private DNS of VPC endpoints",
            ) from None
        addresses = dict.fromkeys(str(answer[4][0]) for answer in answers)
        return f"{endpoint.host} is {' '.join(list(addresses)[:4])}"

    return _each_direct(found, find, "the proxy resolves names")


def connect(found: Sequence[Endpoint]) -> str:
    """Connect to the endpoints; return which.

    Raises:
        Broken: One cannot be reached.
        Skipped: Proxies connect to them.
    """

    def reach(endpoint: Endpoint) -> str:
        try:
            _reach(endpoint)
        except OSError as error:
            text = f"cannot connect to {endpoint}: {_words(error)}"
            raise Broken(text, _CHECK_PORT) from None
        return str(endpoint)

    return _each_direct(found, reach, "the proxy connects")


def check_certificates(
    found: Sequence[Endpoint], context: Callable[[], ssl.SSLContext]
) -> str:
    """Shake hands with the endpoints; return what they speak.

    Raises:
        Broken: One is not trusted, or does not support TLS.
        Skipped: None is encrypted, or all are behind proxies that are not looked at.
    """
    lines = []
    trust = _read_trust(context)
    for endpoint in found:
        if not (endpoint.encrypted and endpoint.reachable):
            continue
        try:
            with (
                Deadline(TIMEOUT) as deadline,
                _encrypt(endpoint, trust, deadline) as secured,
            ):
                lines.append(f"{endpoint.host} speaks {secured.version()}")
        except ssl.SSLCertVerificationError as error:
            why = clean(error.verify_message)
            raise Broken(
                f"the certificate of {endpoint} is not trusted: {why}",
                "if a gateway inspects TLS here, name its certificate authority in "
                "ca_bundle or AWS_CA_BUNDLE",
            ) from None
        except OSError as error:
            text = f"TLS failed with {endpoint}: {_words(error)}"
            raise Broken(
                text, "something between this machine and the endpoint breaks TLS"
            ) from None
    if not lines:
        encrypted = any(endpoint.encrypted for endpoint in found)
        raise Skipped("behind a SOCKS proxy" if encrypted else "http is not encrypted")
    return ", ".join(lines)


def check_clock(
    endpoint: Endpoint, context: Callable[[], ssl.SSLContext], now: Callable[[], float]
) -> str:
    """Compare our clock with that of the API; return how far they are apart.

    Args:
        endpoint: The API.
        context: Makes the TLS context, if one is needed.
        now: The wall clock, in Unix seconds.

    Raises:
        Broken: So far that signatures are refused.
        Skipped: The answer has no date.
    """
    try:
        date = parsedate_to_datetime(_ask_date(endpoint, context) or "").timestamp()
    except (OSError, http.client.HTTPException, ValueError, OverflowError):
        raise Skipped(f"{endpoint} sent no date") from None
    skew = round(now() - date)
    way = "ahead of" if skew > 0 else "behind"
    if abs(skew) > LARGEST_SKEW:
        raise Broken(
            f"this machine's clock is {abs(skew)} s {way} AWS's",
            "set the clock, and keep it with NTP: AWS refuses signatures from 5 minutes"
            " on",
        )
    # What AWS says has no fractions, and took its time.
    return f"{abs(skew)} s {way} AWS's" if abs(skew) > 2 else "as AWS's"


def _endpoint(service: str, url: str, chosen: str | None) -> Endpoint:
    parts = urlsplit(url)
    encrypted = parts.scheme in {"https", "wss"}
    try:
        proxy = proxy_for(url, chosen)
    except ValueError as error:
        raise Broken(str(error), _CHECK_PROXY, "proxy") from None
    return Endpoint(service, parts.hostname or "", _port(parts), encrypted, proxy)


def _port(parts: SplitResult) -> int:
    return parts.port or SCHEME_PORTS[parts.scheme]


def _each_direct(
    found: Sequence[Endpoint], look: Callable[[Endpoint], str], otherwise: str
) -> str:
    direct = [endpoint for endpoint in found if endpoint.proxy is None]
    if not direct:
        raise Skipped(otherwise)
    return ", ".join(map(look, direct))


def _reach(endpoint: Endpoint) -> None:
    """Connect to the endpoint, through its proxy if there is one, and hang up."""
    with Deadline(TIMEOUT) as deadline:
        _open(endpoint, deadline).close()


def _open(endpoint: Endpoint, deadline: Deadline) -> socket.socket:
    """Return a connection to the endpoint, through its proxy if there is one."""
    proxy = endpoint.proxy
    if proxy is None:
        return dial(endpoint.host, endpoint.port, deadline)
    if not endpoint.reachable:
        raise OSError(f"through a {proxy.scheme} proxy, which is not tested")
    opened = dial(proxy.host, proxy.port, deadline)
    with on_error(opened.close):
        try:
            tunnel(opened, str(endpoint), proxy.headers)
        except (OSError, ValueError):
            if deadline.has_passed:
                raise TooLate(f"no answer within {deadline.seconds:g} s") from None
            raise
    return opened


def _cure_of_proxy(text: str) -> str:
    """Return what to do about a proxy that says ``text``."""
    if "answered 407" in text:
        return "give user and password to HTTPS_PROXY (http://USER:PASSWORD@HOST:PORT)"
    if "answered 403" in text:
        return "let the proxy connect to the endpoint, or name it in NO_PROXY"
    return _CHECK_PROXY


def _read_trust(context: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    try:
        return context()
    except OSError as error:
        raise Broken(
            f"the certificate authorities cannot be read: {_words(error)}",
            "correct ca_bundle or AWS_CA_BUNDLE: a file in PEM format",
        ) from None


def _encrypt(
    endpoint: Endpoint, context: ssl.SSLContext, deadline: Deadline
) -> ssl.SSLSocket:
    opened = _open(endpoint, deadline)
    with on_error(opened.close):
        return context.wrap_socket(opened, server_hostname=endpoint.host)


def _ask_date(endpoint: Endpoint, context: Callable[[], ssl.SSLContext]) -> str | None:
    connection = BoundedConnection(endpoint.host, endpoint.port)
    with Deadline(TIMEOUT) as deadline, closing(connection):
        if endpoint.encrypted:
            connection.sock = _encrypt(endpoint, context(), deadline)
        else:
            connection.sock = _open(endpoint, deadline)
        connection.request("GET", "/", headers={"Connection": "close"})
        return connection.getresponse().headers["Date"]


def _words(error: OSError) -> str:
    return clean(error.strerror or str(error)) or type(error).__name__
