"""kubectl, with the user's own context of the cluster behind the tunnel."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ssmtunneld.base.ports import HTTPS_PORT
from ssmtunneld.cli.clients.launch import Launch, Task, ask
from ssmtunneld.cli.destination import bracketed, remote_host, remote_port
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.kubeconfig import MARK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssmtunneld.config import TunnelSettings

_ON_TARGET: Final = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0"})  # noqa: S104 - compared with
_CLUSTER: Final = re.compile(
    r"arn:aws[a-z-]*:eks:[a-z0-9-]+:[0-9]{12}:cluster/(.+)|(.+)\.[a-z0-9-]+\.eksctl\.io"
)
"""Names that the AWS CLI and eksctl give to a cluster in the user's kubeconfig."""
_QUESTION: Final = ("version",)
"""The command if the user gives none: it asks the cluster for a sign of life."""


@dataclass(frozen=True, slots=True)
class _Context:
    name: str
    host: str
    """The name that the certificate has; empty if nothing tells."""
    is_ours: bool
    """True if ``ssmtunneld kubeconfig`` wrote it for this tunnel."""
    is_current: bool


def prepare(task: Task) -> Launch:
    """Return how to run kubectl: in the context of the cluster, but by the tunnel.

    The certificate is checked against the cluster's own name, and the login is that of
    the context. A context that the user names is taken as it is.

    Raises:
        CommandError: No context leads to the cluster, or several do and none is the
            current one, or ours.
    """
    context = _choose(task)
    words = [
        task.program,
        f"--server=https://{bracketed(task.local.address)}:{task.port}",
    ]
    if context is not None:
        words.append(f"--context={context.name}")
    host = remote_host(task.tunnel) if context is None else context.host
    if host:
        words.append(f"--tls-server-name={host}")
    return Launch([*words, *(task.arguments or _QUESTION)])


def _choose(task: Task) -> _Context | None:
    """Return the context to use; None if the user has named one."""
    if _option(task.arguments, "--context") is not None:
        return None
    words = [task.program, "config", "view", "-o", "json"]
    file = _option(task.arguments, "--kubeconfig")
    words += [] if file is None else [f"--kubeconfig={file}"]
    fitting = _contexts(ask(words, task.environ), task.tunnel)
    current = [context for context in fitting if context.is_current]
    ours = [context for context in fitting if context.is_ours]
    for choice in (current, ours, fitting):
        if len(choice) == 1:
            return choice[0]
    server, name = _server(task.tunnel), task.tunnel.name
    if not fitting:
        is_named = task.tunnel.cluster is not None
        raise CommandError(
            f"no context of kubectl leads to {server}",
            f"run: ssmtunneld kubeconfig {name} --write"
            if is_named
            else "for EKS: aws eks update-kubeconfig --name CLUSTER; or name a "
            f"context: ssmtunneld connect {name} -- --context NAME get nodes",
        )
    listed = ", ".join(context.name for context in fitting)
    raise CommandError(
        f"several contexts of kubectl lead to {server}: {listed}",
        f"name one: ssmtunneld connect {name} -- --context "
        f"{shlex.quote(fitting[0].name)} get nodes",
    )


def _server(tunnel: TunnelSettings) -> str:
    if tunnel.cluster is not None:
        return f"cluster {tunnel.cluster}"
    port = remote_port(tunnel) or HTTPS_PORT
    return f"https://{remote_host(tunnel) or 'localhost'}:{port}"


def _contexts(text: str, tunnel: TunnelSettings) -> list[_Context]:
    """Return the contexts of the cluster that a tunnel leads to."""
    try:
        view: dict[str, Any] = json.loads(text)
        clusters = {entry["name"]: entry["cluster"] for entry in view["clusters"] or ()}
        found = []
        for entry in view["contexts"] or ():
            name = entry["context"].get("cluster")
            cluster = clusters.get(name)
            if cluster is None:
                continue
            is_ours = _is_ours(cluster, tunnel)
            if not (is_ours or _leads_to(name, cluster.get("server", ""), tunnel)):
                continue
            is_current = entry["name"] == view.get("current-context")
            host = _host_for(cluster, tunnel)
            found.append(_Context(entry["name"], host, is_ours, is_current))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CommandError(
            "kubectl's configuration cannot be read", "see: kubectl config view"
        ) from None
    return found


def _is_ours(cluster: Mapping[str, Any], tunnel: TunnelSettings) -> bool:
    return {"name": MARK, "extension": {"tunnel": tunnel.name}} in (
        cluster.get("extensions") or ()
    )


def _host_for(cluster: Mapping[str, Any], tunnel: TunnelSettings) -> str:
    """Return the name to check the certificate by.

    kubectl forgets the context's own when it is told another server.
    """
    if name := cluster.get("tls-server-name"):
        return str(name)
    if tunnel.cluster is not None:
        return urlsplit(cluster["server"]).hostname or ""
    return remote_host(tunnel) or ""


def _leads_to(name: str, server: str, tunnel: TunnelSettings) -> bool:
    if tunnel.cluster is not None:
        match = _CLUSTER.fullmatch(name)
        return match is not None and tunnel.cluster in match.groups()
    host, port = remote_host(tunnel), remote_port(tunnel) or HTTPS_PORT
    try:
        url = urlsplit(server)
        place = ((url.hostname or "").rstrip("."), url.port or HTTPS_PORT)
    except ValueError:
        return False
    if host is None:
        return place[0] in _ON_TARGET and place[1] == port
    return place == (host.rstrip(".").lower(), port)


def _option(arguments: Sequence[str], name: str) -> str | None:
    """Return the value of one of kubectl's options among the arguments."""
    for at, word in enumerate(arguments):
        if word == "--":
            break
        if word == name and at + 1 < len(arguments):
            return arguments[at + 1]
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return None
