"""The sessions of one tunnel, for as long as one set of settings holds.

A change of what decides about sessions means another backend; the one before it keeps
its connections until they end.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ssmtunneld.aws.api.port import Identity, SessionRequest
from ssmtunneld.aws.instance_connect import KeyPusher
from ssmtunneld.base.compartment import Defects, run_compartment
from ssmtunneld.base.log import EventLog
from ssmtunneld.base.on_error import on_error
from ssmtunneld.config import TunnelSettings
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.session_context import session_dependencies, settings_of
from ssmtunneld.errors import TunnelError
from ssmtunneld.sessions.counters import SessionCounters
from ssmtunneld.sessions.lifespan import Lifespan
from ssmtunneld.sessions.node_access import NodeAccess
from ssmtunneld.sessions.policy import Policy
from ssmtunneld.sessions.pool import Pool
from ssmtunneld.sessions.reason import mark, session_reason
from ssmtunneld.sessions.session import Session
from ssmtunneld.sessions.start_queue import Urgency
from ssmtunneld.sessions.targeting import FollowingTargetSelector, TargetSelector
from ssmtunneld.transport.streams import StreamDuplex

if TYPE_CHECKING:
    from ssmtunneld.sessions.bastion import Bastion


@dataclass(frozen=True, slots=True)
class BackendDependencies:
    """Parts of the process and of a tunnel that all backends of the tunnel use.

    Attributes:
        context: The parts that tunnels share.
        log: Bound to the tunnel.
        counters: Where the tunnel's sessions are counted.
        defects: Where the tunnel's defects are noted.
    """

    context: DaemonContext
    log: EventLog
    counters: SessionCounters
    defects: Defects


class Backend:
    """A pool of sessions, and what it is made from.

    Args:
        tunnel: The settings.
        dependencies: What it uses of the process and of the tunnel.
        first: Whether no other backend of this tunnel was before this one. Only then
            can there be sessions that a daemon before us left behind.
    """

    def __init__(
        self,
        tunnel: TunnelSettings,
        dependencies: BackendDependencies,
        *,
        first: bool = True,
    ) -> None:
        context, log = dependencies.context, dependencies.log
        self._defects = dependencies.defects
        self._tunnel = tunnel
        self._context = context
        self._first = first
        self._resting = False
        self._lifespan = Lifespan(tunnel.max_session_age)
        self._access = context.access(tunnel)
        self._bastion = context.bastions.get(tunnel)
        self._selector = self._make_selector(log)
        control = context.controls.get(Identity.of(tunnel))
        self._login = control.login
        self._pusher = KeyPusher(control, log)
        self.pool = Pool(
            tunnel.name,
            self._session_factory(log),
            self._policy(),
            random=context.random,
            log=log,
            lifespan=self._lifespan,
            respects_idle=tunnel.keep_alive is False,
            counters=dependencies.counters,
            defects=self._defects,
        )
        if self._access is not None:
            self.pool.access = self._access.node
        self.pool.bastion = self._bastion
        self.tunnel = tunnel
        if isinstance(self._selector, FollowingTargetSelector):
            self._selector.count_by(lambda: self.pool.targets)

    def _make_selector(self, log: EventLog) -> TargetSelector:
        if self._bastion is not None:
            from ssmtunneld.sessions.bastion import BastionTargetSelector  # noqa: PLC0415 - there with a bastion

            return BastionTargetSelector(self._bastion)
        return self._context.selector(self._tunnel, log)

    @property
    def _mark(self) -> str:
        """The end of its sessions' reasons; empty while the daemon has no name."""
        return mark(self._context.instance, self._tunnel.name)

    @property
    def tunnel(self) -> TunnelSettings:
        """The settings; replaceable by settings that need no new session."""
        return self._tunnel

    @tunnel.setter
    def tunnel(self, tunnel: TunnelSettings) -> None:
        self._tunnel = tunnel
        self._lifespan.configure(tunnel.max_session_age)
        self.pool.first_urgency = urgency_of(tunnel)
        self.pool.stall_timeout = tunnel.stall_timeout
        self.pool.message_limit = tunnel.message_limit
        self.pool.connect_timeout = tunnel.connect_timeout
        self.pool.policy = self._policy()

    @property
    def resting(self) -> bool:
        """True if sessions end as soon as no connection needs them."""
        return self._resting

    @resting.setter
    def resting(self, resting: bool) -> None:
        self._resting = resting
        self.pool.policy = self._policy()

    async def run(self) -> None:
        """Keep the sessions until cancelled, or until retired and the last one is over.

        Cancelling terminates all of them.
        """
        self._context.pools.add(self.pool)
        try:
            async with asyncio.TaskGroup() as tasks:
                aside = [
                    tasks.create_task(
                        run_compartment(part, work, self._defects),
                        name=f"{self._tunnel.name} {part}",
                    )
                    for part, work in self._aside().items()
                ]
                await self.pool.run()
                for task in aside:
                    task.cancel()
        finally:
            self._context.pools.discard(self.pool)

    def _aside(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return the tasks besides the sessions, by the names of compartments."""
        parts = {"orphans": self._reap_orphans, "login": self._attend_login}
        if isinstance(self._selector, FollowingTargetSelector):
            parts["target"] = partial(self._selector.follow, self.pool)
        if self._access is not None:
            parts["access"] = partial(self._follow_access, self._access.node)
        if self._bastion is not None:
            parts["bastion"] = partial(self._follow_bastion, self._bastion)
        return parts

    @property
    def login(self) -> TunnelError | None:
        """The error that makes the tunnel's identity unusable; None if usable."""
        return self._login.trouble_of(self._tunnel.name)

    @property
    def access(self) -> NodeAccess | None:
        """The access to its node; None where nobody must ask for it."""
        return None if self._access is None else self._access.node

    @property
    def bastion(self) -> "Bastion | None":
        """The instance, where it is started on demand."""
        return self._bastion

    def stream_at_once(self) -> StreamDuplex | None:
        """Return a stream if it takes no waiting: not for a session, nor for a key."""
        return None if self._tunnel.instance_connect else self.pool.stream_at_once()

    async def open_stream(self, timeout: float) -> StreamDuplex:
        """Return a stream, with the key of whoever connects known where it leads.

        That is, if the tunnel asks for it. What goes wrong with the key is in the log:
        whoever connects can have another one. Cancelling is safe.

        Args:
            timeout: Seconds that a session can take.

        Raises:
            NoSessionReady: There was none in time; says why.
            PoolRetired: Ask its successor.
        """
        stream = await self.pool.open_stream(timeout)
        with on_error(stream.abort):
            await self._introduce()
        return stream

    async def _introduce(self) -> None:
        tunnel, user = self._tunnel, self._tunnel.instance_connect_user
        if tunnel.instance_connect and user is not None:
            key = tunnel.instance_connect_key
            await self._pusher.push(self.pool.targets, user, key)

    async def _attend_login(self) -> None:
        with self._login.telling(self.pool.retry_now):
            await self._login.attend()

    async def _follow_access(self, access: NodeAccess) -> None:
        was_open = True

        def follow() -> None:
            nonlocal was_open
            missing = access.missing
            if missing is not None:
                self.pool.leave_all(missing)
            elif not was_open:
                self.pool.retry_now()
            was_open = missing is None

        with access.telling(follow), self._login.telling(access.hurry):
            follow()  # it may have ended meanwhile
            await access.attend()

    async def _follow_bastion(self, bastion: "Bastion") -> None:
        was_awake = False

        def follow() -> None:
            nonlocal was_awake
            refusal = bastion.refusal
            if refusal is not None:
                self.pool.give_up_waiting(refusal)
            if bastion.awake is not was_awake:
                was_awake = bastion.awake
                self.pool.policy = self._policy()
                if was_awake:
                    self.pool.retry_now()

        with (
            bastion.used_by(self.pool),
            bastion.telling(follow),
            self._login.telling(bastion.hurry),
        ):
            follow()
            await bastion.attend()

    async def _reap_orphans(self) -> None:
        """End what a daemon before us left, and learn how old sessions can become."""
        await self._context.wait_instance()
        await self.pool.wait_ready()
        orphan_reaper = self._context.orphan_reaper(Identity.of(self._tunnel))
        for target in self.pool.targets:
            limit = await orphan_reaper.terminate_orphans(
                target,
                self._mark if self._first else "",
                self._context.controls.granted,
                None if self._access is None else self._access.control,
            )
            if limit is not None:
                self._lifespan.tell(limit)

    def _policy(self) -> Policy:
        tunnel = self._tunnel
        policy = Policy(
            warm=tunnel.warm,
            max_sessions=tunnel.max_sessions,
            streams_per_session=tunnel.streams_per_session,
            idle_close=tunnel.idle_close,
        )
        asleep = self._bastion is not None and not self._bastion.awake
        if self._resting or asleep:
            policy = replace(policy, warm=0, spare=False, idle_close=0.0)
        return policy

    def _session_factory(
        self, log: EventLog
    ) -> Callable[[int, Callable[[], None]], Session]:
        tunnel = self._tunnel
        settings = settings_of(tunnel)
        dependencies = session_dependencies(tunnel, self._context, log)

        def make(number: int, changed: Callable[[], None]) -> Session:
            request = _request(self._tunnel, self._mark)
            return Session(
                number,
                request,
                dependencies,
                settings,
                log=log,
                changed=changed,
                selector=self._selector,
            )

        return make


def urgency_of(tunnel: TunnelSettings) -> Urgency:
    """Return how urgent a tunnel's first session is while nobody waits for it."""
    return Urgency.REQUIRED if tunnel.required else Urgency.FIRST


def _request(tunnel: TunnelSettings, its_mark: str) -> SessionRequest:
    return SessionRequest.port_forward(
        tunnel.target,
        tunnel.port,
        tunnel.host,
        cluster=tunnel.cluster,
        document=tunnel.document,
        parameters=tunnel.parameters,
        reason=session_reason(tunnel, its_mark),
    )
