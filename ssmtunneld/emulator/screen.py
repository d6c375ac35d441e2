"""The refusal of requests that web pages send: API, data channel and admin path."""

import re
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.log import EventLog
from ssmtunneld.base.web_origin import (
    comes_from_elsewhere,
    host_of,
    names_server,
    parse_ip,
)
from ssmtunneld.emulator.settings import EmulatorSettings

HOSTS_FILE: Final = Path("/etc/hosts")

_SHOWN: Final = 100
"""Characters of a refused header that go into the log."""
# The services that are played here. Nobody else can give these names to an address: a
# hosts entry, a proxy or a VPC endpoint leads them to us.
_SERVICES: Final = re.compile(
    r"(?:[a-z0-9-]+[.-])?(?:ssm|ssm-fips|ssmmessages|ssmmessages-fips|sts"
    r"|ec2|ec2-instance-connect)"
    r"(?:\.[a-z0-9-]+){0,2}\.(?:amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|api\.aws"
    r"|c2s\.ic\.gov|sc2s\.sgov\.gov|csp\.hci\.ic\.gov|cloud\.adc-e\.uk"
    r"|api\.amazonwebservices\.(?:com\.cn|eu)|api\.aws\.(?:hci\.)?ic\.gov"
    r"|api\.aws\.scloud|api\.cloud-aws\.adc-e\.uk)"
)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def screen(names: Collection[str], log: EventLog) -> Middleware:
    """Return what lets through only what programs send.

    Args:
        names: The emulator's names; see `own_names`.
        log: Where refusals are noted.
    """

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        host = hosts[0] if len(hosts) == 1 else ""
        if not _is_ours(host, _local_address(request), names):
            log.warning(
                "emulator.request_refused", rule="host", host=clean(host, _SHOWN)
            )
            raise web.HTTPMisdirectedRequest(
                text="Host header not allowed; start the emulator with --http-host\n"
            )
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site")
        if comes_from_elsewhere(host, origin, site):
            shown = clean(origin or "", _SHOWN)
            log.warning("emulator.request_refused", rule="origin", origin=shown)
            raise web.HTTPForbidden(text="requests from web pages are refused\n")
        return await handler(request)

    return guard


def own_names(
    settings: EmulatorSettings, hosts_file: Path = HOSTS_FILE
) -> frozenset[str]:
    """Return the names that the operator gave this emulator, in lower case.

    They are the settings', the host of ``stream_endpoint``, and what the machine's
    hosts file says of loopback.
    """
    given = {*settings.http_hosts, *settings.host_aliases}
    if settings.stream_endpoint is not None:
        given.add(urlsplit(settings.stream_endpoint).hostname or "")
    given |= _entries(hosts_file)
    return frozenset(name.lower().rstrip(".") for name in given if name)


def _is_ours(host: str, local: str | None, names: Collection[str]) -> bool:
    if names_server(host, local, names):
        return True
    return _SERVICES.fullmatch(host_of(host) or "") is not None


def _entries(hosts_file: Path) -> set[str]:
    try:
        text = hosts_file.read_text("utf-8", "replace")
    except OSError:
        return set()
    found = set()
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        parsed = parse_ip(address)
        if parsed is not None and parsed.is_loopback:
            found.update(names)
    return found


def _local_address(request: web.Request) -> str | None:
    transport = request.transport
    name = None if transport is None else transport.get_extra_info("sockname")
    return str(name[0]) if isinstance(name, tuple) else None
