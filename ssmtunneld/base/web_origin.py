"""Requests that a web page sent, told from those that a program sent.

A browser on this machine reaches loopback for every site that it shows. So a server
there must look at two headers. ``Host`` has to be a name of its own, or else a site
whose name leads to 127.0.0.1 reads its answers (DNS rebinding). ``Origin``, which only
browsers send, has to be the server itself, or else any page can command it.
"""

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]{1,5})?"
)
_SAME: Final = frozenset({"", "none", "same-origin"})


def names_server(header: str, local: str | None, names: Collection[str] = ()) -> bool:
    """Return True if ``header``, a Host header, names the server that got it.

    An address that is its own cannot be a name that a foreign DNS gave to that
    address; any other name can.

    Args:
        header: As it came.
        local: The address that the connection was made to; None for a Unix socket.
        names: Further names of the server, in lower case.
    """
    name = host_of(header)
    if name is None:
        return False
    if name in names or name == "localhost" or name.endswith(".localhost"):
        return True
    address = parse_ip(name)
    if address is None:
        return False
    return address.is_loopback or (local is not None and address == parse_ip(local))


def comes_from_elsewhere(host: str, origin: str | None, site: str | None) -> bool:
    """Return True if a page of another server sent a request.

    Args:
        host: The request's Host header.
        origin: Its Origin header; None if there is none, as with programs.
        site: Its Sec-Fetch-Site header, which browsers send with every request.
    """
    if site is not None and site.strip().lower() not in _SAME:
        return True
    if origin is None:
        return False
    scheme, separator, authority = origin.strip().lower().partition("://")
    own = separator != "" and scheme in ("http", "https")
    return not own or authority != host.strip().lower()


def host_of(header: str) -> str | None:
    """Return the host in a Host header, in lower case; None if it is malformed."""
    match = _AUTHORITY.fullmatch(header.strip())
    if match is None:
        return None
    return (match["ip6"] or match["name"]).lower().rstrip(".")


def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in ``text``, an IPv4 one where it is mapped into IPv6."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
