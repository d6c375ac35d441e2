"""TCP connections to names, which never wait for the look-up of another name.

``create_connection`` looks names up in threads that all connections of a loop share
(``base/lookups.py``); an address it takes as it is.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Final, TypeVar

from ssmtunneld.base.lookups import begin_lookup

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_ADDRESS: Final = "no address found"

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)


async def addresses_of(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    """Return the addresses of ``host``, each with its family. Cancelling is safe.

    Raises:
        OSError: There is none, or there is no room for another look-up.
    """
    found = await asyncio.wrap_future(begin_lookup(host, port))
    return [(family, str(address[0])) for family, _, _, _, address in found]


async def connect_tcp(
    make_protocol: Callable[[], _Protocol],
    host: str,
    port: int,
    context: ssl.SSLContext | None = None,
) -> tuple[asyncio.Transport, _Protocol]:
    """Return a connection to ``host``, by the first of its addresses that takes it.

    Cancelling is safe.

    Args:
        make_protocol: Called for each attempt, and for those that fail perhaps too.
        host: A name or an address.
        port: The port.
        context: The TLS settings, if the connection is to be encrypted.

    Raises:
        OSError: None of its addresses can be reached, or its certificate is bad.
    """
    loop = asyncio.get_running_loop()
    name = None if context is None else host
    failure: OSError = socket.gaierror(socket.EAI_NONAME, _NO_ADDRESS)
    for _, address in await addresses_of(host, port):
        try:
            return await loop.create_connection(
                make_protocol, address, port, ssl=context, server_hostname=name
            )
        except ssl.SSLError:
            raise
        except OSError as error:
            failure = error
    raise failure
