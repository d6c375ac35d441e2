"""The proxy between this machine and a host.

API and data channel ask the same question here, so that they take the same way. The
libraries below them would each answer it differently: one knows no ``ALL_PROXY``,
one no SOCKS, and neither reads a network or a port in ``NO_PROXY``.
"""

from __future__ import annotations

import base64
import ipaddress
from typing import Final
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, getproxies_environment, proxy_bypass

from typing_extensions import override

from ssmtunneld.aws.api.endpoints import SettingError, is_loopback_host
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.ports import SCHEME_PORTS
from ssmtunneld.base.record import Record
from ssmtunneld.base.secret import Secret

_SOCKS: Final = ("socks4", "socks4a", "socks5", "socks5h")
_PROXY_PORTS: Final = {
    **{scheme: SCHEME_PORTS[scheme] for scheme in ("http", "https")},
    **dict.fromkeys(_SOCKS, 1080),
}
_VARIABLES: Final = {"http": "http", "ws": "http", "https": "https", "wss": "https"}

# The metadata services of instances, containers and pods: on the link, or nowhere.
_METADATA: Final = (
    ipaddress.ip_network("169.254.0.0/16"),
    ipaddress.ip_network("fd00:ec2::/64"),
)

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxy(Record):
    """A proxy; its ``str()`` is safe to log."""

    scheme: str
    """``http``, ``https``, ``socks4``, ``socks4a``, ``socks5`` or ``socks5h``."""
    host: str
    port: int
    user: str | None = None
    password: Secret | None = None

    @property
    def is_socks(self) -> bool:
        """True for SOCKS, False for HTTP."""
        return self.scheme in _SOCKS

    @property
    def resolves(self) -> bool:
        """True if the proxy resolves host names."""
        return self.scheme not in {"socks4", "socks5"}

    @property
    def url(self) -> Secret:
        """The URL for libraries, with user and password."""
        user = "" if self.user is None else quote(self.user, safe="")
        password = "" if self.password is None else self.password.reveal()
        who = "" if self.user is None else f"{user}:{quote(password, safe='')}@"
        return Secret.derived(f"{self.scheme}://{who}{self._authority}")

    @property
    def headers(self) -> dict[str, str]:
        """Headers for an HTTP proxy: secret, unless empty."""
        if self.user is None:
            return {}
        password = "" if self.password is None else self.password.reveal()
        words = base64.b64encode(f"{self.user}:{password}".encode()).decode()
        return {"Proxy-Authorization": f"Basic {words}"}

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @override
    def __str__(self) -> str:
        return f"{self.scheme}://{self._authority}"


def proxy_for(url: str, chosen: str | None = None) -> Proxy | None:
    """Return the proxy on the way to ``url``; None if there is none.

    This machine and metadata services are never looked for behind a proxy.

    Args:
        url: An endpoint, ``http``, ``https``, ``ws`` or ``wss``.
        chosen: What the configuration says, beyond which the environment is not asked;
            empty for no proxy at all.

    Raises:
        SettingError: What is configured is not a proxy. The text shows no password.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if chosen == "" or is_loopback_host(host) or _is_metadata(host):
        return None
    if chosen is not None:
        return parse_proxy(chosen)
    port = parts.port or SCHEME_PORTS.get(parts.scheme, 0)
    found = getproxies()
    if getproxies_environment():
        if is_excepted(host, port, found.get("no", "")):
            return None
    elif proxy_bypass(host):  # in the settings of macOS or Windows
        return None
    address = found.get(_VARIABLES.get(parts.scheme, "https")) or found.get("all")
    if address:
        return parse_proxy(address)
    # The settings of macOS call it so, as do some programs' variables.
    address = found.get("socks")
    return parse_proxy(f"socks5h://{_bare(address)}") if address else None


def parse_proxy(text: str) -> Proxy:
    """Return the proxy that ``text`` names: a URL, or ``host:port`` for HTTP.

    Raises:
        SettingError: It is none. The text shows no password.
    """
    url = text.strip()
    url = url if "://" in url else f"http://{url.removeprefix('//')}"
    shown = clean(f"{url.partition('://')[0]}://{_bare(url).rpartition('@')[2]}")
    try:
        parts = urlsplit(url)
        port = parts.port or _PROXY_PORTS.get(parts.scheme, 0)
    except ValueError:
        parts, port = urlsplit(""), 0
    # "socks" is what some call the only version that is still in use.
    scheme = "socks5h" if parts.scheme == "socks" else parts.scheme
    host, rest = parts.hostname, parts.path.strip("/") + parts.query + parts.fragment
    # "PROXY host:port" is how the files for automatic configuration write it; and what
    # urlsplit drops silently, such as a line end, is not a part of a host either.
    is_host = bool(host) and not any(c <= " " or c > "~" for c in url)
    if scheme not in _PROXY_PORTS or not host or not is_host or rest:
        kinds = "http, https, socks5 or socks5h"
        raise SettingError(f"{shown} is not a proxy: write {kinds}, ://host:port")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else Secret(unquote(parts.password))
    return Proxy(scheme, host, port or _PROXY_PORTS[scheme], user, password)


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Tell whether ``NO_PROXY`` has an entry for ``host``.

    An entry is ``*``, a name (for itself and what is below it, with or without a
    leading dot or ``*.``), an address or a network (for hosts that are written as
    addresses); a name or an address may be followed by a port.
    """
    host = host.lower().rstrip(".")
    address = _ip(host)
    entries = exceptions.replace(",", " ").lower().split()
    return any(_covers(entry, host, address, port) for entry in entries)


def _covers(entry: str, host: str, address: _Ip | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _is_within(address, entry)
    name, its_port = entry, ""
    if entry.startswith("["):
        name, _, its_port = entry[1:].partition("]")
        its_port = its_port.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, its_port = entry.partition(":")
    if its_port not in {"", str(port)}:
        return False
    if address is not None:
        return _ip(name) == address
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _is_within(address: _Ip, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _is_metadata(host: str) -> bool:
    address = _ip(host)
    return address is not None and any(address in network for network in _METADATA)


def _ip(text: str) -> _Ip | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _bare(url: str) -> str:
    """Return ``url`` without its scheme."""
    return url.partition("://")[2] if "://" in url else url
