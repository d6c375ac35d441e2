"""kubectl, with the user's own context of the cluster behind the tunnel."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ssmtunneld.cli.clients.launch import Launch, Task, ask
from ssmtunneld.cli.destination import bracketed, remote_host, remote_port
from ssmtunneld.cli.exit_codes import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HTTPS: Final = 443
_ON_TARGET: Final = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0"})  # noqa: S104 - compared with
_QUESTION: Final = ("version",)
"""The command if the user gives none: it asks the cluster for a sign of life."""


@dataclass(frozen=True, slots=True)
class _Context:
    name: str
    has_name: bool
    """True if its cluster says what name the certificate has."""


def prepare(task: Task) -> Launch:
    """Return how to run kubectl: in the context of the cluster, but by the tunnel.

    The certificate is checked against the cluster's own name, and the login is that of
    the context. A context that the user names is taken as it is.

    Raises:
        CommandError: No context leads to the cluster, or several do and none is the
            current one.
    """
    host = remote_host(task.tunnel)
    context = _choose(task, host)
    words = [
        task.program,
        f"--server=https://{bracketed(task.local.address)}:{task.port}",
    ]
    if context is not None:
        words.append(f"--context={context.name}")
    if host is not None and not (context is not None and context.has_name):
        words.append(f"--tls-server-name={host}")
    return Launch([*words, *(task.arguments or _QUESTION)])


def _choose(task: Task, host: str | None) -> _Context | None:
    """Return the context to use; None if the user has named one."""
    if _option(task.arguments, "--context") is not None:
        return None
    words = [task.program, "config", "view", "-o", "json"]
    file = _option(task.arguments, "--kubeconfig")
    words += [] if file is None else [f"--kubeconfig={file}"]
    port = remote_port(task.tunnel) or _HTTPS
    known = _contexts(ask(words, task.environ), host, port)
    fitting = [context for context, _ in known]
    current = [context for context, is_current in known if is_current]
    if current or len(fitting) == 1:
        return (current or fitting)[0]
    server = f"https://{host or 'localhost'}:{port}"
    name = task.tunnel.name
    if not fitting:
        raise CommandError(
            f"no context of kubectl leads to {server}",
            "for EKS: aws eks update-kubeconfig --name CLUSTER; or name a context: "
            f"ssmtunneld connect {name} -- --context NAME get nodes",
        )
    listed = ", ".join(context.name for context in fitting)
    raise CommandError(
        f"several contexts of kubectl lead to {server}: {listed}",
        f"name one: ssmtunneld connect {name} -- --context "
        f"{shlex.quote(fitting[0].name)} get nodes",
    )


def _contexts(text: str, host: str | None, port: int) -> list[tuple[_Context, bool]]:
    """Return the contexts of the cluster at ``host``, and which is the current one."""
    try:
        view: dict[str, Any] = json.loads(text)
        clusters = {entry["name"]: entry["cluster"] for entry in view["clusters"] or ()}
        found = []
        for entry in view["contexts"] or ():
            cluster = clusters.get(entry["context"].get("cluster"))
            if cluster is not None and _leads_to(cluster.get("server", ""), host, port):
                context = _Context(entry["name"], "tls-server-name" in cluster)
                found.append((context, entry["name"] == view.get("current-context")))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CommandError(
            "kubectl's configuration cannot be read", "see: kubectl config view"
        ) from None
    return found


def _leads_to(server: str, host: str | None, port: int) -> bool:
    try:
        url = urlsplit(server)
        place = ((url.hostname or "").rstrip("."), url.port or _HTTPS)
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
