"""Browsers: the user's own, and a Chromium that takes the real name to the tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ssmtunneld.base.ports import HTTPS_PORT, SCHEME_PORTS
from ssmtunneld.cli.clients.launch import Launch, Task
from ssmtunneld.cli.database import leads_here
from ssmtunneld.cli.destination import (
    Local,
    bracketed,
    is_address,
    remote_host,
    remote_port,
)
from ssmtunneld.daemon.instance_lock import state_directory

if TYPE_CHECKING:
    from ssmtunneld.config import TunnelSettings

_WITH_TLS: Final = frozenset({HTTPS_PORT, 8443, 9443})


def prepare_own(task: Task) -> Launch:
    """Return how to show the page in the user's browser, at the tunnel's address.

    By its real name only if the hosts file leads there. The program that opens it ends
    at once; what it says is of no use to a person, but for the URL.
    """
    host = remote_host(task.tunnel)
    named = host is not None and leads_here(host, task.local)
    shown = host if named and host is not None else task.local.address
    path, options = _divide(task)
    page = f"{_url(_scheme(task.tunnel), shown, task.port)}{path}"
    return Launch([task.program, *options, page], page=page)


def prepare_mapped(task: Task) -> Launch:
    """Return how to run a Chromium in which the real name leads to the tunnel.

    So the certificate and the ``Host`` header are right. It has a profile of its own,
    for this tunnel: one that runs already would not take the name over.
    """
    tunnel = task.tunnel
    host = remote_host(tunnel) or "localhost"
    scheme = _scheme(tunnel)
    port = remote_port(tunnel) or SCHEME_PORTS[scheme]
    here = f"{bracketed(task.local.address)}:{task.port}"
    profile = state_directory() / "browser" / tunnel.name
    path, options = _divide(task)
    return Launch(
        [
            task.program,
            f"--user-data-dir={profile}",
            f"--host-resolver-rules=MAP {bracketed(host)}:{port} {here}",
            "--no-first-run",
            "--no-default-browser-check",
            *options,
            f"{_url(scheme, host, port)}{path}",
        ]
    )


def wants_name(tunnel: TunnelSettings) -> bool:
    """Return True if a page has a name that does not lead to the tunnel by itself."""
    from ssmtunneld.config import TcpAddress

    host = remote_host(tunnel)
    if host is None or is_address(host):
        return False
    places = [
        Local(address.host, address.port)
        for address in tunnel.listen
        if isinstance(address, TcpAddress)
    ]
    return not any(leads_here(host, place) for place in places)


def _scheme(tunnel: TunnelSettings) -> str:
    if tunnel.probe is not None and tunnel.probe.kind == "http":
        return "http"
    return "https" if remote_port(tunnel) in _WITH_TLS else "http"


def _url(scheme: str, host: str, port: int) -> str:
    usual = port == SCHEME_PORTS[scheme]
    return f"{scheme}://{bracketed(host)}{'' if usual else f':{port}'}"


def _divide(task: Task) -> tuple[str, list[str]]:
    """Return the path to show, and the options for the program."""
    paths = [word for word in task.arguments if word.startswith("/")]
    others = [word for word in task.arguments if not word.startswith("/")]
    return (paths[-1] if paths else "/"), others
