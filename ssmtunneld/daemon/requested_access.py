"""The access of a tunnel to a node that takes an approval."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from ssmtunneld.aws.access_requests import (
    AccessToken,
    get_access_token,
    start_access_request,
)
from ssmtunneld.aws.api.access_keys import AccessKeyHolder
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.ssm import AccessControl, ControlRegistry, SsmControl
from ssmtunneld.base.log import get_log
from ssmtunneld.sessions.node_access import AccessCalls, NodeAccess, RequestStore
from ssmtunneld.sessions.targeting import TargetSelector

if TYPE_CHECKING:
    from ssmtunneld.config import TunnelSettings


@dataclass(frozen=True, slots=True)
class RequestedAccess:
    """The access of a tunnel to its node, and what signs with its keys."""

    node: NodeAccess
    control: AccessControl


class _AccessCalls(AccessCalls):
    """The calls for access requests, as the identity of ``control``."""

    def __init__(self, control: SsmControl) -> None:
        self._control = control

    @override
    async def start(self, target: str, reason: str) -> str:
        return await self._control.ask(
            lambda account: start_access_request(account, target, reason)
        )

    @override
    async def token(self, request_id: str) -> AccessToken:
        return await self._control.ask(
            lambda account: get_access_token(account, request_id)
        )


def request_access(
    tunnel: "TunnelSettings",
    controls: ControlRegistry,
    selector: TargetSelector,
    store: RequestStore | None,
    *,
    named: bool,
) -> RequestedAccess:
    """Return the access of ``tunnel``, for which nothing is asked yet.

    Args:
        tunnel: The settings.
        controls: Make the calls.
        selector: Chooses the node.
        store: Keeps the request over restarts; None where nothing does.
        named: Whether the tunnel stands in a file, by which a human knows it.
    """
    identity = Identity.of(tunnel)
    holder = AccessKeyHolder(
        f"run: ssmtunneld request {tunnel.name} --reason TEXT"
        if named
        else "run the command again where it can ask for a reason: on a terminal"
    )
    node = NodeAccess(
        tunnel.name,
        _AccessCalls(controls.get(identity)),
        selector.choose,
        holder,
        wall_clock=lambda: time.time_ns() / 1e9,
        log=get_log(tunnel=tunnel.name),
        store=store,
    )
    return RequestedAccess(node, controls.by_request(identity, holder, node.note))
