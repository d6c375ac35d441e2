"""State that all tunnels of a process share."""

import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.ssm import CLOSE_TIMEOUT, ControlRegistry
from ssmtunneld.aws.targets.resolver import Resolver
from ssmtunneld.base.log import get_log
from ssmtunneld.base.random_bytes import RandomBytes
from ssmtunneld.listener.limits import ConnectionLimit
from ssmtunneld.observe.audit import AuditLog
from ssmtunneld.protocol.window import WindowBudget
from ssmtunneld.sessions.message_sizes import MessageSizes
from ssmtunneld.sessions.orphans import OrphanReaper
from ssmtunneld.sessions.start_queue import StartQueue
from ssmtunneld.transport.read_scheduler import ReadFairness

if TYPE_CHECKING:
    from ssmtunneld.observe.status import IdentityStatus
    from ssmtunneld.sessions.pool import Pool


class DaemonContext:
    """State that all tunnels of a process share.

    Args:
        start_rate: StartSession calls per second, for each account and region.
        start_burst: How many of them may come at once.
        instance: Tells the sessions of this configuration from all others, also after
            a restart; ``None`` to leave forgotten sessions alone.
        max_connections: Local connections of all tunnels together.
        audit: Where connections are written down; None where nobody wants that.
        named: Whether the tunnels stand in a file, by which a human knows them.
        close_timeout: Seconds at the end for calls that nobody waits for any more.

    Attributes:
        audit: The same one.
        connection_limit: Divides ``max_connections`` among the tunnels.
        fairness: Lets busy sessions wait for others.
        random_bytes: Where the ids of messages come from.
        message_sizes: What is known of larger messages.
        window_budget: Bounds what all sessions have unacknowledged.
        pools: All that have sessions at the moment, or may have.
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
    ) -> None:
        self.audit = audit
        self.connection_limit = ConnectionLimit(max_connections)
        self.controls = ControlRegistry(named=named, close_timeout=close_timeout)
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
