"""What all mappings of a process have in common."""

import secrets
import sys
from collections import defaultdict
from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING

from ssmtunneld.aws.control import Identity
from ssmtunneld.aws.resolver import Resolver
from ssmtunneld.aws.ssm import ControlRegistry
from ssmtunneld.entropy import Entropy
from ssmtunneld.listener.allowance import Allowance
from ssmtunneld.log import get_log
from ssmtunneld.ops.identity import IdentityStatus
from ssmtunneld.transport.courtesy import Courtesy
from ssmtunneld.tunnel.census import Census
from ssmtunneld.tunnel.limiter import StartLimiter

if TYPE_CHECKING:
    from ssmtunneld.tunnel.pool import Pool


class Shared:
    """What all mappings of a process have in common.

    Args:
        start_rate: StartSession calls per second, for each account and region.
        start_burst: How many of them may come at once.
        instance: Tells the sessions of this configuration from all others, also after
            a restart; ``None`` to leave forgotten sessions alone.
        max_connections: Local connections of all mappings together.
        named: Whether the mappings stand in a file, by which a human knows them.

    Attributes:
        allowance: Divides ``max_connections`` among the mappings.
        courtesy: Lets busy sessions wait for others.
        entropy: Where the ids of messages come from.
        pools: All that have sessions at the moment, or may have.
    """

    def __init__(
        self,
        *,
        start_rate: float,
        start_burst: int,
        instance: str | None = None,
        max_connections: int = sys.maxsize,
        named: bool = True,
    ) -> None:
        self.allowance = Allowance(max_connections)
        self.controls = ControlRegistry(named=named)
        self.courtesy = Courtesy()
        self.entropy = Entropy()
        # Only jitter depends on it.
        self.random = Random(secrets.randbits(64))  # noqa: S311 - not a secret
        self.instance = instance
        self.pools: set[Pool] = set()
        self._start_rate = start_rate
        self._start_burst = start_burst
        self._limiters: dict[tuple[str | None, ...], StartLimiter] = {}
        self._censuses: dict[Identity, Census] = {}
        self._resolvers: dict[Identity, Resolver] = {}

    def limiter(self, identity: Identity) -> StartLimiter:
        """Return the limiter of the identity's account and region."""
        key = (
            identity.profile,
            identity.role_arn,
            identity.region,
            identity.endpoint_url,
        )
        if key not in self._limiters:
            self._limiters[key] = StartLimiter(self._start_rate, self._start_burst)
        return self._limiters[key]

    def limit_starts(self, *, rate: float, burst: int) -> None:
        """Apply another rate and burst, from the next call on."""
        self._start_rate = rate
        self._start_burst = burst
        for limiter in self._limiters.values():
            limiter.adjust(rate, burst)

    def census(self, identity: Identity) -> Census:
        """Return the identity's census."""
        if identity not in self._censuses:
            control = self.controls.get(identity)
            # Of all identities: a reload may have given a mapping another one.
            settled = self.controls.settled
            self._censuses[identity] = Census(control, get_log(), settled)
        return self._censuses[identity]

    def resolver(self, identity: Identity) -> Resolver:
        """Return what finds the identity's targets."""
        if identity not in self._resolvers:
            self._resolvers[identity] = Resolver(self.controls.get(identity))
        return self._resolvers[identity]

    def identities(
        self, mappings: Iterable[tuple[str, Identity]]
    ) -> tuple[IdentityStatus, ...]:
        """Return who mappings are towards AWS, given each one's name and identity."""
        found: defaultdict[Identity, list[str]] = defaultdict(list)
        for name, identity in mappings:
            found[identity].append(name)
        return tuple(self._identity(who, tuple(names)) for who, names in found.items())

    def _identity(self, identity: Identity, names: tuple[str, ...]) -> IdentityStatus:
        control = self.controls.get(identity)
        outlook = control.login.outlook
        renewed, failed = control.refreshes
        return IdentityStatus(
            name=identity.name,
            mappings=names,
            expires_at=None if outlook is None else outlook.expires_at,
            login_ends_at=None if outlook is None else outlook.ends_at,
            advice="" if outlook is None else outlook.advice,
            renewed=renewed,
            failed=failed,
        )

    def owns(self, session_id: str) -> bool:
        """Whether a session is one of this process's."""
        return any(pool.owns(session_id) for pool in self.pools)
