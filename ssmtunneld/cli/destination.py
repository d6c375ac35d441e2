"""One tunnel of the file: its destination, and its local address for programs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from ssmtunneld.base.nearest import nearest
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.terminal.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ssmtunneld.config import Address, Config, TunnelSettings

_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound

_PROXIES: Final = {"socks5": "SOCKS 5", "http-connect": "HTTP"}
"""Kinds of proxies, by the mode of a tunnel."""


@dataclass(frozen=True, slots=True)
class Local:
    """An address that programs of this machine connect to."""

    address: str
    """An IP literal; or the path of a Unix socket, if ``port`` is None."""
    port: int | None


def tunnel_named(config: Config, name: str) -> TunnelSettings:
    """Return the tunnel called ``name``.

    Raises:
        CommandError: There is none.
    """
    for tunnel in config.tunnels:
        if tunnel.name == name:
            return tunnel
    known = [tunnel.name for tunnel in config.tunnels]
    near = nearest(name, known)
    raise CommandError(
        f"no tunnel is called {shlex.quote(name)} in {config.source}",
        f"did you mean {near[0]}?" if near else f"the tunnels are: {', '.join(known)}",
        code=EXIT_USAGE,
    )


def fixed_tunnel_named(config: Config, name: str) -> TunnelSettings:
    """Return the tunnel called ``name``, which leads to one destination.

    Raises:
        CommandError: There is none, or its clients name the destination.
    """
    tunnel = tunnel_named(config, name)
    if tunnel.is_dynamic:
        raise CommandError(
            f"{name} has no fixed destination: its clients choose one",
            f"name {tunnel.listen[0]} to your program as its {_PROXIES[tunnel.mode]} "
            "proxy",
            code=EXIT_USAGE,
        )
    return tunnel


def tunnels_named(config: Config, names: Sequence[str]) -> list[TunnelSettings]:
    """Return the tunnels of these names; without any, all that are to run.

    One that the file disables can be named: whoever repairs it wants to try it.

    Raises:
        CommandError: There is none of such a name.
    """
    return [tunnel_named(config, name) for name in names] or list(config.enabled)


def files_of(config: Config) -> str:
    """Return the files of a configuration, for people."""
    included = len(config.included)
    if not included:
        return str(config.source)
    return f"{config.source} and {counted(included, 'included file')}"


def origin_of(config: Config, name: str) -> str:
    """Return the included file that has a tunnel, for people; empty for the main one.

    Relative to the folder of the main file where it is below that.
    """
    origin, folder = config.origins[name], config.source.parent
    if origin == config.source:
        return ""
    return str(origin.relative_to(folder) if origin.is_relative_to(folder) else origin)


def remote_host(tunnel: TunnelSettings) -> str | None:
    """Return the destination's own name or address; None if it is the target."""
    return tunnel.host or _parameter(tunnel, "host")


def remote_port(tunnel: TunnelSettings) -> int | None:
    """Return the destination's own port; None if only its document knows it."""
    text = _parameter(tunnel, "portNumber") or ""
    return tunnel.port or (int(text) if text.isdecimal() else None)


def is_address(host: str) -> bool:
    """Return True for an IP address, False for a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def bracketed(host: str) -> str:
    """Return a host as URLs have it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def local_end(tunnel: TunnelSettings, config: Path | None) -> Local:
    """Return where to connect to: a TCP address if there is one, else a Unix socket.

    A running daemon is asked only where the file leaves the port to the system.

    Args:
        tunnel: The tunnel.
        config: The file whose daemon to ask.

    Raises:
        CommandError: The port is known to a daemon only, and none can be asked.
    """
    from ssmtunneld.config import TcpAddress

    tcp = [address for address in tunnel.listen if isinstance(address, TcpAddress)]
    if not tcp:
        return _local(tunnel.listen[0])
    fixed = [address for address in tcp if address.port]
    return _local(fixed[0]) if fixed else _ask_for_address(tunnel.name, config)


def bound_end(tunnel: dict[str, Any]) -> Local:
    """Return where to connect to: a TCP address if there is one, else a Unix socket.

    Args:
        tunnel: Its part of a daemon's status document.

    Raises:
        CommandError: It does not listen now.
    """
    from ssmtunneld.config import TcpAddress, parse_address

    bound = [parse_address(text) for text in tunnel["listen"]]
    tcp = [address for address in bound if isinstance(address, TcpAddress)]
    for address in [*tcp, *bound]:
        return _local(address)
    raise CommandError(
        f"{tunnel['name']} does not listen now",
        f"see: ssmtunneld status {tunnel['name']}",
    )


def _ask_for_address(name: str, config: Path | None) -> Local:
    from ssmtunneld.cli.daemon_client import find, select

    tunnel = select(find(config).document, [name])[0]
    if all(text.startswith("unix:") for text in tunnel["listen"]):
        raise CommandError(
            f"{name} does not listen on a TCP address now",
            f"see: ssmtunneld status {name}",
        )
    return bound_end(tunnel)


def _local(address: Address) -> Local:
    from ssmtunneld.config import UnixAddress

    if isinstance(address, UnixAddress):
        return Local(str(address.path), None)
    host = "127.0.0.1" if address.host == "localhost" else address.host
    return Local(_EVERY_ADDRESS.get(host, host), address.port)


def _parameter(tunnel: TunnelSettings, name: str) -> str | None:
    values: Sequence[str] = tunnel.parameters.get(name, ())
    return values[0] if len(values) == 1 else None
