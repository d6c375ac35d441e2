"""State that sessions of a process share: a daemon's many, or the one of a command.

What only a daemon's tunnels share beyond it is in ``context.py``. What few tunnels need
is imported by the first one: a command that carries one connection starts sooner, and
most daemons are smaller.
"""

import secrets
import time
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.ssm import CLOSE_TIMEOUT, ControlRegistry
from ssmtunneld.base.log import get_log
from ssmtunneld.base.random_bytes import RandomBytes
from ssmtunneld.config.targets import FixedTarget, parse_target
from ssmtunneld.protocol.window import WindowBudget
from ssmtunneld.sessions.connect import Connector
from ssmtunneld.sessions.message_sizes import MessageSizes
from ssmtunneld.sessions.session import SessionDependencies, SessionSettings
from ssmtunneld.sessions.start_queue import StartQueue
from ssmtunneld.sessions.targeting import FixedTargetSelector, TargetSelector
from ssmtunneld.transport.ports import Buffers
from ssmtunneld.transport.read_scheduler import ReadFairness
from ssmtunneld.transport.websocket import Liveness

if TYPE_CHECKING:
    from ssmtunneld.aws.targets.resolver import Resolver
    from ssmtunneld.base.log import EventLog
    from ssmtunneld.config import TunnelSettings
    from ssmtunneld.daemon.access_file import AccessFile
    from ssmtunneld.daemon.requested_access import RequestedAccess


class SessionContext:
    """State that sessions of a process share.

    Args:
        start_rate: StartSession calls per second, for each account and region.
        start_burst: How many of them can come at once.
        named: Whether the tunnels stand in a file, by which a human knows them.
        close_timeout: Seconds at the end for calls that nobody waits for any more.

    Attributes:
        controls: The control planes, by identity.
        fairness: Lets busy sessions wait for other sessions.
        random: Where jitter comes from.
        random_bytes: Where the ids of messages come from.
        message_sizes: What is known of larger messages.
        window_budget: Bounds what all sessions have unacknowledged.
    """

    def __init__(
        self,
        *,
        start_rate: float,
        start_burst: int,
        named: bool = True,
        close_timeout: float = CLOSE_TIMEOUT,
    ) -> None:
        self._access_file: AccessFile | None = None
        self._named = named
        self._accesses: dict[tuple[str, str, Identity], RequestedAccess] = {}
        self.controls = ControlRegistry(named=named, close_timeout=close_timeout)
        self.fairness = ReadFairness()
        self.random_bytes = RandomBytes()
        self.message_sizes = MessageSizes(lambda: time.time_ns() / 1e9)
        self.window_budget = WindowBudget()
        # Only jitter depends on it.
        self.random = Random(secrets.randbits(64))  # noqa: S311 - not a secret
        self._start_rate = start_rate
        self._start_burst = start_burst
        self._limiters: dict[tuple[str | None, ...], StartQueue] = {}
        self._resolvers: dict[Identity, Resolver] = {}

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

    def resolver(self, identity: Identity) -> "Resolver":
        """Return what finds the identity's targets."""
        if identity not in self._resolvers:
            from ssmtunneld.aws.targets.resolver import Resolver  # noqa: PLC0415 - see above

            self._resolvers[identity] = Resolver(self.controls.get(identity))
        return self._resolvers[identity]

    def selector(self, tunnel: "TunnelSettings", log: "EventLog") -> TargetSelector:
        """Return what chooses the target of a tunnel's sessions.

        Where access takes an approval, it is the node that was approved, and no other.
        """
        access = self.access(tunnel)
        if access is None:
            return self._finder(tunnel, log)
        from ssmtunneld.sessions.node_access import AccessTargetSelector  # noqa: PLC0415 - there with an access

        return AccessTargetSelector(access.node)

    def _finder(self, tunnel: "TunnelSettings", log: "EventLog") -> TargetSelector:
        """Return what finds the target of a tunnel's sessions, or of its requests."""
        target = parse_target(tunnel.target)
        if isinstance(target, FixedTarget):
            return FixedTargetSelector(target.id)
        from ssmtunneld.sessions.searching import SearchingTargetSelector  # noqa: PLC0415 - see above

        resolver = self.resolver(Identity.of(tunnel))
        return SearchingTargetSelector(target, tunnel.target_policy, resolver, log)

    def access(self, tunnel: "TunnelSettings") -> "RequestedAccess | None":
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
            self._accesses[key] = self._request_access(tunnel, identity)
        return self._accesses[key]

    def keep_accesses(self, file: "AccessFile") -> None:
        """Keep access requests in ``file``, over restarts, and follow those in it."""
        self._access_file = file
        for (name, target, identity), access in self._accesses.items():
            access.node.keep_in(file.record(name, identity, target))

    def _request_access(
        self, tunnel: "TunnelSettings", identity: Identity
    ) -> "RequestedAccess":
        from ssmtunneld.daemon.requested_access import request_access  # noqa: PLC0415 - see above

        store = None
        if self._access_file is not None:
            store = self._access_file.record(tunnel.name, identity, tunnel.target)
        finder = self._finder(tunnel, get_log(tunnel=tunnel.name))
        return request_access(tunnel, self.controls, finder, store, named=self._named)


def settings_of(tunnel: "TunnelSettings") -> SessionSettings:
    """Return what a tunnel says about each of its sessions."""
    return SessionSettings(
        keep_alive=tunnel.keep_alive or None,
        buffers=Buffers(tunnel.stream_buffer, tunnel.session_buffer),
    )


def session_dependencies(
    tunnel: "TunnelSettings", context: SessionContext, log: "EventLog"
) -> SessionDependencies:
    """Return what a tunnel's sessions use of the world."""
    identity = Identity.of(tunnel)
    access = context.access(tunnel)
    control = context.controls.get(identity) if access is None else access.control
    connector = Connector(
        control,
        Liveness(tunnel.ping_interval, tunnel.dead_peer_timeout),
        control.trust,
        log,
        identity.proxy,
        context.fairness,
    )
    return SessionDependencies(
        control=control,
        connect=connector.connect,
        random=context.random,
        new_id=partial(context.random_bytes.take, 16),
        wall_clock_ms=lambda: time.time_ns() // 1_000_000,
        limiter=context.limiter(identity),
        sizes=context.message_sizes,
        window_budget=context.window_budget,
    )
