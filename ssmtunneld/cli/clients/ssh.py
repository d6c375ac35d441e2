"""The user's own ssh."""

from __future__ import annotations

from typing import Final

from ssmtunneld.cli.clients.launch import Launch, Task
from ssmtunneld.cli.destination import remote_host, remote_port
from ssmtunneld.ssh.host_names import host_name

_PORT: Final = 22


def prepare(task: Task) -> Launch:
    """Return how to run ssh: with the real name, to the tunnel's address.

    So the user's ``Host`` blocks for that name apply, and the host key is the one that
    ``known_hosts`` has of it. Proxies are for the way without a tunnel.

    Raises:
        CommandError: The tunnel listens on a Unix socket only.
    """
    tunnel = task.tunnel
    name = remote_host(tunnel) or host_name(tunnel.target)
    port = remote_port(tunnel) or _PORT
    options = {
        "HostName": task.local.address,
        "Port": str(task.port),
        # As ssh itself would write it, had it gone there without a tunnel.
        "HostKeyAlias": name if port == _PORT else f"[{name}]:{port}",
        "CheckHostIP": "no",
        "ProxyCommand": "none",
    }
    key = tunnel.instance_connect_key
    if key is not None:
        options |= {"IdentityFile": _quoted(str(key).removesuffix(".pub"))}
        options |= {"IdentitiesOnly": "yes"}
    words = [word for item in options.items() for word in ("-o", "=".join(item))]
    user = task.user or tunnel.instance_connect_user
    words += [] if user is None else ["-l", user]
    # ssh reads options that come after the host as well, then a command.
    return Launch([task.program, *words, name, *task.arguments])


def _quoted(path: str) -> str:
    """Return a path as ssh's configuration has it, which expands ``%``."""
    return f'"{path.replace("%", "%%")}"'
