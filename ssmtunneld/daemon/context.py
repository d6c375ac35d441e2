"""State that all tunnels of a daemon share."""

import asyncio
import secrets
import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.ssm import CLOSE_TIMEOUT
from ssmtunneld.base.log import get_log
from ssmtunneld.daemon.bastions import Bastions
from ssmtunneld.daemon.session_context import SessionContext
from ssmtunneld.listener.limits import ConnectionLimit
from ssmtunneld.sessions.orphans import OrphanReaper

if TYPE_CHECKING:
    from ssmtunneld.daemon.access_file import AccessFile
    from ssmtunneld.observe.audit import AuditLog
    from ssmtunneld.observe.status import IdentityStatus
    from ssmtunneld.sessions.pool import Pool


class DaemonContext(SessionContext):
    """State that all tunnels of a daemon share.

    Args:
        start_rate: StartSession calls per second, for each account and region.
        start_burst: How many of them can come at once.
        instance: Marks the sessions of this configuration as its own, also after
            a restart; ``None`` to leave forgotten sessions alone, until
            `take_instance`.
        max_connections: Local connections of all tunnels together.
        audit: Where connections are written down; None where nobody wants that.
        named: Whether the tunnels stand in a file, by which a human knows them.
        close_timeout: Seconds at the end for calls that nobody waits for any more.

    Attributes:
        audit: The same one.
        bastions: The targets that are started on demand.
        connection_limit: Divides ``max_connections`` among the tunnels.
        pools: All that have sessions at the moment, or can get some.
    """

    def __init__(
        self,
        *,
        start_rate: float,
        start_burst: int,
        instance: str | None = None,
        max_connections: int = sys.maxsize,
        audit: "AuditLog | None" = None,
        named: bool = True,
        close_timeout: float = CLOSE_TIMEOUT,
    ) -> None:
        super().__init__(
            start_rate=start_rate,
            start_burst=start_burst,
            named=named,
            close_timeout=close_timeout,
        )
        self.audit = audit
        self.connection_limit = ConnectionLimit(max_connections)
        self.bastions = Bastions(self.controls, instance)
        # An id that somebody has noted before a restart must not hit another one.
        self._run = secrets.token_hex(3)
        self._connections = count(1)
        self._instance = instance
        self._has_instance = asyncio.Event()
        if instance is not None:
            self._has_instance.set()
        self.pools: set[Pool] = set()
        self._orphan_reapers: dict[Identity, OrphanReaper] = {}

    @property
    def instance(self) -> str | None:
        """The daemon's name; None for a process that has none, or none yet."""
        return self._instance

    def take_instance(self, instance: str, file: "AccessFile") -> None:
        """Be the daemon called ``instance``, which no other process is any more.

        Args:
            instance: The name.
            file: Its access requests.
        """
        self._instance = instance
        self.bastions.take_instance(instance)
        self.keep_accesses(file)
        self._has_instance.set()

    async def wait_instance(self) -> None:
        """Return once there is a name. Cancelling is safe."""
        await self._has_instance.wait()

    def name_connection(self) -> str:
        """Return a name that no other connection has, nor had before a restart."""
        return f"{self._run}-{next(self._connections)}"

    def orphan_reaper(self, identity: Identity) -> OrphanReaper:
        """Return the identity's reaper of forgotten sessions."""
        if identity not in self._orphan_reapers:
            control = self.controls.get(identity)
            # Of all identities: a reload may have given a tunnel another one.
            settled = self.controls.settled
            self._orphan_reapers[identity] = OrphanReaper(control, get_log(), settled)
        return self._orphan_reapers[identity]

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
