"""Endpoints of AWS, and the hosts that a token is sent to (protocol 1.5, design D1)."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.ports import SCHEME_PORTS
from ssmtunneld.base.record import Record


class SettingError(ValueError):
    """A setting, or a variable of the environment, is wrong.

    Its text is ours: it may be shown, and shows no password.
    """


VARIABLES: Final = ("AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL")
"""Variables that botocore reads, in this order."""
DATA_VARIABLE: Final = "AWS_ENDPOINT_URL_SSMMESSAGES"
"""The same for the data channel."""
IGNORED: Final = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"
"""A variable that makes it ignore them."""


def configured_endpoint(environ: Mapping[str, str]) -> str:
    """Return the SSM endpoint that ``environ`` names; empty if it names none."""
    return next((environ[name] for name in VARIABLES if is_told(environ, name)), "")


def is_told(environ: Mapping[str, str], name: str) -> bool:
    """Return True if the variable ``name`` names an endpoint, and is obeyed."""
    return bool(environ.get(name)) and environ.get(IGNORED, "").lower() != "true"


_WEBSOCKET_SCHEMES: Final = {"wss": "wss", "https": "wss", "ws": "ws", "http": "ws"}


class Partition(Record):
    """A separate AWS: its own names, accounts and certificates."""

    name: str
    """The partition, the second part of ARNs."""
    suffix: str
    dual_stack_suffix: str


# Both suffixes are botocore's (data/partitions.json of 1.44.5); the region prefixes
# are the agent's (protocol 1.5).
_DEFAULT: Final = Partition("aws", "amazonaws.com", "api.aws")
_BY_PREFIX: Final = {
    "us-gov-": Partition("aws-us-gov", "amazonaws.com", "api.aws"),
    "cn-": Partition("aws-cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "us-iso-": Partition("aws-iso", "c2s.ic.gov", "api.aws.ic.gov"),
    "us-isob-": Partition("aws-iso-b", "sc2s.sgov.gov", "api.aws.scloud"),
    "us-isof-": Partition("aws-iso-f", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    "eu-isoe-": Partition("aws-iso-e", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    "eusc-de-": Partition("aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu"),
}


def partition_of(region: str) -> Partition:
    """Return the partition that ``region`` belongs to."""
    for prefix, partition in _BY_PREFIX.items():
        if region.startswith(prefix):
            return partition
    return _DEFAULT


# Regions that were there before AWS began to leave new ones off, in March 2019.
_ALWAYS_ON: Final = re.compile(
    r"us-(?:east|west)-[12]|ca-central-1|sa-east-1|eu-(?:west-[123]|central-1|north-1)"
    r"|ap-(?:south-1|northeast-[123]|southeast-[12])"
)


def is_opt_in(region: str) -> bool:
    """Return whether an account must enable ``region`` before it can be used.

    The service answers there as if the keys were unknown.
    """
    usual = partition_of(region) is _DEFAULT
    return bool(region) and usual and _ALWAYS_ON.fullmatch(region) is None


def data_host(region: str, *, fips: bool = False, dual_stack: bool = False) -> str:
    """Return the host name of the data channel's service in ``region``."""
    partition = partition_of(region)
    service = "ssmmessages-fips" if fips else "ssmmessages"
    suffix = partition.dual_stack_suffix if dual_stack else partition.suffix
    return f"{service}.{region}.{suffix}"


def is_loopback_host(host: str) -> bool:
    """Tell whether ``host``, a name or an address, means this very machine."""
    bare = host.removeprefix("[").removesuffix("]").rstrip(".").lower()
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def parse_override(text: str) -> str:
    """Return an endpoint override as ``scheme://host[:port]`` of a websocket.

    A bare host means TLS; ``https`` and ``http`` are read as ``wss`` and ``ws``, so
    that the value of an ``AWS_ENDPOINT_URL`` variable can be given as it is.

    Raises:
        SettingError: It is not a host, or says more than a host and port.
    """
    url = text if "://" in text else f"wss://{text}"
    address = _address(url)
    if address is None:
        shown = clean(without_user(text))
        raise SettingError(f"{shown!r} is not an endpoint: write https://host[:port]")
    parts = urlsplit(url)
    if parts.path.strip("/") or parts.query or parts.fragment:
        shown = clean(without_query(url))
        raise SettingError(
            f"{shown!r} has a path or query: write only https://host:port"
        )
    return f"{address.scheme}://{parts.netloc}"


def apply_override(url: str, override: str | None) -> str:
    """Return ``url`` at another scheme, host and port.

    Path and query are kept byte for byte: the service signed or encrypted parts of
    them (protocol 1.6).

    Raises:
        SettingError: ``override`` is not an endpoint.
    """
    if not override:
        return url
    _, _, rest = url.partition("://")
    ends = [end for mark in "/?#" if (end := rest.find(mark)) >= 0]
    return parse_override(override) + rest[min(ends, default=len(rest)) :]


def is_trusted_stream_url(
    url: str, *, region: str, ssmmessages_endpoint: str | None, ssm_endpoint: str
) -> bool:
    """Tell whether a session's token may be sent to ``url`` (design D1).

    Args:
        url: The data channel, as it would be dialled.
        region: Where the session was started.
        ssmmessages_endpoint: The operator's own data endpoint, if there is one.
        ssm_endpoint: The endpoint that ``url`` was learned from. If that is a loopback
            address, an emulator is speaking, and its data channel can be one as well.

    Raises:
        SettingError: ``ssmmessages_endpoint`` is not an endpoint.
    """
    address = _address(url)
    if address is None:
        return False
    local = is_loopback_host(address.host)
    if local and is_loopback_host(urlsplit(ssm_endpoint).hostname or ""):
        return True
    if address.scheme != "wss" and not local:
        return False  # the token travels in the first message, in clear text
    if ssmmessages_endpoint:
        chosen = _address(parse_override(ssmmessages_endpoint))
        if address == chosen:
            return True
    hosts = {
        data_host(region, fips=fips, dual_stack=dual_stack)
        for fips in (False, True)
        for dual_stack in (False, True)
    }
    return address.host in hosts and address.port == SCHEME_PORTS["wss"]


def check_endpoint(url: str, name: str) -> None:
    """Make sure that an API can be called at ``url``.

    Args:
        url: The endpoint.
        name: The setting that says so, for the message.

    Raises:
        SettingError: It is not the URL of a host.
    """
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        is_usable = is_usable and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or any(c <= " " or c > "~" for c in url):
        shown = clean(without_user(url))
        raise SettingError(f"{name} is {shown!r}: write https://host[:port]")


def without_query(url: str) -> str:
    """Return ``url`` for a person to read: no query, no user, no fragment."""
    scheme, separator, rest = url.partition("://")
    bare = rest if separator else url
    ends = [end for mark in "?#" if (end := bare.find(mark)) >= 0]
    return without_user(
        (scheme + separator if separator else "") + bare[: min(ends, default=len(bare))]
    )


def without_user(url: str) -> str:
    """Return ``url`` without user and password."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = (rest if separator else url).partition("/")
    host = authority.rpartition("@")[2]
    return f"{scheme if separator else ''}{separator}{host}{slash}{path}"


class _Address(Record):
    scheme: str
    host: str
    port: int


def _address(url: str) -> _Address | None:
    """Return where a websocket URL leads, or None if nobody should dial it."""
    # urlsplit silently drops tabs and newlines: what it reads would not be what the
    # URL says. A backslash is a slash to some parsers and part of a name to others.
    if any(c <= " " or c == "\\" for c in url):
        return None
    try:
        parts = urlsplit(url)
        scheme = _WEBSOCKET_SCHEMES[parts.scheme]
        port = SCHEME_PORTS[scheme] if parts.port is None else parts.port
    except (KeyError, ValueError):
        return None
    if not parts.hostname or "@" in parts.netloc or not port:
        return None
    return _Address(scheme, parts.hostname, port)
