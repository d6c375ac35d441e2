"""State that all tunnels of a process share."""

import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from typing_extensions import override

from ssmtunneld.aws.access_requests import (
    AccessToken,
    get_access_token,
    start_access_request,
)
from ssmtunneld.aws.api.access_keys import AccessKeyHolder
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.ssm import CLOSE_TIMEOUT, AccessControl, ControlRegistry, SsmControl
from ssmtunneld.aws.targets.resolver import Resolver
from ssmtunneld.base.log import get_log
from ssmtunneld.base.random_bytes import RandomBytes
from ssmtunneld.config.targets import FixedTarget, parse_target
from ssmtunneld.daemon.bastions import Bastions
from ssmtunneld.listener.limits import ConnectionLimit
from ssmtunneld.observe.audit import AuditLog
from ssmtunneld.protocol.window import WindowBudget
from ssmtunneld.sessions.message_sizes import MessageSizes
from ssmtunneld.sessions.node_access import AccessCalls, NodeAccess
from ssmtunneld.sessions.orphans import OrphanReaper
from ssmtunneld.sessions.start_queue import StartQueue
from ssmtunneld.sessions.targeting import (
    FixedTargetSelector,
    SearchingTargetSelector,
    TargetSelector,
)
from ssmtunneld.transport.read_scheduler import ReadFairness

if TYPE_CHECKING:
    from ssmtunneld.base.log import EventLog
    from ssmtunneld.config import TunnelSettings
    from ssmtunneld.daemon.access_file import AccessFile
    from ssmtunneld.observe.status import IdentityStatus
    from ssmtunneld.sessions.pool import Pool


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


class DaemonContext:
    """State that all tunnels of a process share.

    Args:
        start_rate: StartSession calls per second, for each account and region.
        start_burst: How many of them can come at once.
        instance: Marks the sessions of this configuration as its own, also after
            a restart; ``None`` to leave forgotten sessions alone.
        max_connections: Local connections of all tunnels together.
        audit: Where connections are written down; None where nobody wants that.
        named: Whether the tunnels stand in a file, by which a human knows them.
        close_timeout: Seconds at the end for calls that nobody waits for any more.
        access_file: Keeps access requests over restarts; None where nothing does.

    Attributes:
        audit: The same one.
        bastions: The targets that are started on demand.
        connection_limit: Divides ``max_connections`` among the tunnels.
        fairness: Lets busy sessions wait for other sessions.
        random_bytes: Where the ids of messages come from.
        message_sizes: What is known of larger messages.
        window_budget: Bounds what all sessions have unacknowledged.
        pools: All that have sessions at the moment, or can get some.
    """

    def __init__(
        self,
        *,
        start_rate: float,
        start_burst: int,
        instance: str | None = None,
        max_connections: int = sys.maxsize,
        audit: AuditLog | None = None,
        named: bool = True,
        close_timeout: float = CLOSE_TIMEOUT,
        access_file: "AccessFile | None" = None,
    ) -> None:
        self.audit = audit
        self._access_file = access_file
        self._named = named
        self._accesses: dict[tuple[str, str, Identity], RequestedAccess] = {}
        self.connection_limit = ConnectionLimit(max_connections)
        self.controls = ControlRegistry(named=named, close_timeout=close_timeout)
        self.bastions = Bastions(self.controls, instance)
        self.fairness = ReadFairness()
        self.random_bytes = RandomBytes()
        self.message_sizes = MessageSizes(lambda: time.time_ns() / 1e9)
        self.window_budget = WindowBudget()
        # An id that somebody has noted before a restart must not hit another one.
        self._run = secrets.token_hex(3)
        self._connections = count(1)
        # Only jitter depends on it.
        self.random = Random(secrets.randbits(64))  # noqa: S311 - not a secret
        self.instance = instance
        self.pools: set[Pool] = set()
        self._start_rate = start_rate
        self._start_burst = start_burst
        self._limiters: dict[tuple[str | None, ...], StartQueue] = {}
        self._orphan_reapers: dict[Identity, OrphanReaper] = {}
        self._resolvers: dict[Identity, Resolver] = {}

    def name_connection(self) -> str:
        """Return a name that no other connection has, nor had before a restart."""
        return f"{self._run}-{next(self._connections)}"

    def limiter(self, identity: Identity) -> StartQueue:
        """Return the limiter of the identity's account and region."""
        key = (
            identity.profile,
            identity.role_arn,
            identity.region,
            identity.endpoint_url,
        )
        if key not in self._limiters:
            self._limiters[key] = StartQueue(self._start_rate, self._start_burst)
        return self._limiters[key]

    def limit_starts(self, *, rate: float, burst: int) -> None:
        """Apply another rate and burst, from the next call on."""
        self._start_rate = rate
        self._start_burst = burst
        for limiter in self._limiters.values():
            limiter.adjust(rate, burst)

    def orphan_reaper(self, identity: Identity) -> OrphanReaper:
        """Return the identity's reaper of forgotten sessions."""
        if identity not in self._orphan_reapers:
            control = self.controls.get(identity)
            # Of all identities: a reload may have given a tunnel another one.
            settled = self.controls.settled
            self._orphan_reapers[identity] = OrphanReaper(control, get_log(), settled)
        return self._orphan_reapers[identity]

    def resolver(self, identity: Identity) -> Resolver:
        """Return what finds the identity's targets."""
        if identity not in self._resolvers:
            self._resolvers[identity] = Resolver(self.controls.get(identity))
        return self._resolvers[identity]

    def selector(self, tunnel: "TunnelSettings", log: "EventLog") -> TargetSelector:
        """Return what chooses the target of a tunnel's sessions, or of its requests."""
        target = parse_target(tunnel.target)
        if isinstance(target, FixedTarget):
            return FixedTargetSelector(target.id)
        resolver = self.resolver(Identity.of(tunnel))
        return SearchingTargetSelector(target, tunnel.target_policy, resolver, log)

    def access(self, tunnel: "TunnelSettings") -> RequestedAccess | None:
        """Return the access of ``tunnel``; None if it needs none.

        It is the same one as long as identity and target are: a reload, or a further
        destination of its clients, changes nothing of it. Tunnels that are in no file
        share one: one person has asked for all of them.
        """
        if tunnel.access != "request":
            return None
        identity = Identity.of(tunnel)
        key = (tunnel.name if self._named else "", tunnel.target, identity)
        if key not in self._accesses:
            self._accesses[key] = self._make_access(tunnel, identity)
        return self._accesses[key]

    def _make_access(
        self, tunnel: "TunnelSettings", identity: Identity
    ) -> RequestedAccess:
        log = get_log(tunnel=tunnel.name)
        holder = AccessKeyHolder(
            f"run: ssmtunneld request {tunnel.name} --reason TEXT"
            if self._named
            else "run the command again where it can ask for a reason: on a terminal"
        )
        store = None
        if self._access_file is not None:
            store = self._access_file.record(tunnel.name, identity, tunnel.target)
        node = NodeAccess(
            tunnel.name,
            _AccessCalls(self.controls.get(identity)),
            self.selector(tunnel, log).choose,
            holder,
            wall_clock=lambda: time.time_ns() / 1e9,
            log=log,
            store=store,
        )
        return RequestedAccess(
            node, self.controls.by_request(identity, holder, node.note)
        )

    def identities(
        self, tunnels: Iterable[tuple[str, Identity]]
    ) -> "tuple[IdentityStatus, ...]":
        """Return who tunnels are towards AWS, given each one's name and identity."""
        found: defaultdict[Identity, list[str]] = defaultdict(list)
        for name, identity in tunnels:
            found[identity].append(name)
        return tuple(self._identity(who, tuple(names)) for who, names in found.items())

    def _identity(self, identity: Identity, names: tuple[str, ...]) -> "IdentityStatus":
        control = self.controls.get(identity)
        expiry = control.login.expiry
        renewed, failed = control.refreshes
        from ssmtunneld.observe.status import IdentityStatus  # noqa: PLC0415 - see above

        return IdentityStatus(
            name=identity.name,
            tunnels=names,
            expires_at=None if expiry is None else expiry.expires_at,
            login_ends_at=None if expiry is None else expiry.ends_at,
            advice="" if expiry is None else expiry.advice,
            renewed=renewed,
            failed=failed,
        )
