"""One session for one connection, by itself: no daemon, nothing left at the service."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ssmtunneld.aws.api.port import Identity, SessionRequest
from ssmtunneld.base.aio import run_until
from ssmtunneld.base.log import EventLog, get_log
from ssmtunneld.base.sentences import with_advice
from ssmtunneld.config import TunnelSettings
from ssmtunneld.config.session_documents import SSH_DOCUMENT
from ssmtunneld.daemon.session_context import (
    SessionContext,
    session_dependencies,
    settings_of,
)
from ssmtunneld.errors import (
    DestinationRefused,
    NoSessionReady,
    TargetNotConnected,
    TunnelError,
)
from ssmtunneld.listener.local import LocalDuplex
from ssmtunneld.listener.relay import ClientClose, ConnectionOutcome, Transfer, relay
from ssmtunneld.sessions.backoff import Persistence, passes
from ssmtunneld.sessions.policy import Phase
from ssmtunneld.sessions.reason import session_reason
from ssmtunneld.sessions.session import Session
from ssmtunneld.sessions.start_queue import Urgency
from ssmtunneld.ssh.progress import Tell, tell_person
from ssmtunneld.ssh.stdio import Stdio
from ssmtunneld.transport.streams import StreamDuplex

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ssmtunneld.aws.targets.resolver import AwsCaller

FLUSH_TIMEOUT: Final = 5.0
"""Seconds for the agent to take what was sent, before the session ends."""
TICK: Final = 1.0
"""Seconds between looks whether something is missing that will never come."""
_SETTLING: Final = 0.02

Prepare: TypeAlias = "Callable[[AwsCaller, str], Coroutine[Any, Any, None]]"
"""A step before bytes flow to this target, with these credentials."""


async def _do_nothing(_asking: "AwsCaller", _target: str) -> None:
    """Prepare nothing."""


async def carry_alone(
    tunnel: TunnelSettings,
    timeout: float,
    local: Stdio | LocalDuplex,
    prepare: Prepare = _do_nothing,
    reason: str | None = None,
) -> Transfer | None:
    """Join ``local`` to a session of its own; returns when nothing of it is left.

    Cancelling is safe: it cuts the connection, and terminates the session.

    Args:
        tunnel: The settings.
        timeout: Seconds until the session must be ready. A target with
            ``start_target`` has ``connect_timeout`` before that, at least, and its
            progress is told on standard error.
        local: Closed on return.
        prepare: What to do once the session is ready, before it is used.
        reason: The reason for access to the target, where that has to be asked for:
            the approval is waited for as long as ``local`` waits.

    Returns:
        What was done; None if the local side left before anything was.

    Raises:
        TunnelError: There is no session; says why. Or ``prepare`` has failed.
    """
    if tunnel.start_target:
        from ssmtunneld.ssh.waking import kept_awake  # noqa: PLC0415 - few targets sleep

        patience, gone = max(timeout, tunnel.connect_timeout), local.client_left
        async with kept_awake(tunnel, patience, gone) as awake:
            if awake is None:
                local.abort()
                return None
            return await _carry_alone(awake, timeout, local, prepare, reason)
    return await _carry_alone(tunnel, timeout, local, prepare, reason)


async def _carry_alone(
    tunnel: TunnelSettings,
    timeout: float,
    local: Stdio | LocalDuplex,
    prepare: Prepare,
    reason: str | None,
) -> Transfer | None:
    context = SessionContext(start_rate=1.0, start_burst=1, named=False)
    try:
        solo = SingleSession(tunnel, context, get_log(tunnel=tunnel.name), prepare)
        access = context.access(tunnel)
        if access is None:
            return await solo.carry(local, timeout)
        from ssmtunneld.ssh.own_access import following  # noqa: PLC0415 - few nodes need it

        async with following(access.node, reason, local.client_left) as is_open:
            return await solo.carry(local, timeout) if is_open else None
    finally:
        await context.controls.close()


class SingleSession:
    """One session, and the one stream that it carries.

    Args:
        tunnel: The settings; those about listeners and pools do not matter.
        context: What it uses of the process.
        log: Where the session says what happens to it.
        prepare: What to do once the session is ready, before it is used.
        tell: Where it is told that an offline target is awaited.
    """

    def __init__(
        self,
        tunnel: TunnelSettings,
        context: SessionContext,
        log: EventLog,
        prepare: Prepare = _do_nothing,
        tell: Tell = tell_person,
    ) -> None:
        self._tunnel = tunnel
        self._tell = tell
        self._told = False
        self._prepare = prepare
        self._asking = context.controls.get(Identity.of(tunnel))
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._failure: TunnelError | None = None
        self._context = context
        self._log = log
        self._selector = context.selector(tunnel, log)
        self._number = 0
        self._session = self._new_session()

    def _new_session(self) -> Session:
        tunnel = self._tunnel
        self._number += 1
        session = Session(
            self._number,
            SessionRequest.port_forward(
                tunnel.target,
                tunnel.port,
                document=tunnel.document,
                # With any document: only the caller names the port.
                parameters={"portNumber": str(tunnel.port)},
                reason=session_reason(tunnel),
            ),
            session_dependencies(tunnel, self._context, self._log),
            settings_of(tunnel),
            log=self._log,
            changed=self._changed.set,
            selector=self._selector,
        )
        session.urgency = lambda: Urgency.PERSON
        return session

    async def carry(
        self, local: Stdio | LocalDuplex, timeout: float
    ) -> Transfer | None:
        """Start the session, join ``local`` to its stream, end the session.

        Cancelling is safe: it cuts both, and terminates the session.

        Args:
            local: Owned from here on: it is closed on return. If it leaves before the
                session is ready, the attempt ends.
            timeout: Seconds until the session must be ready; passing errors are
                waited out as long.

        Returns:
            What the relay has done; None if the local side left before it began.

        Raises:
            TunnelError: There is no session; says why.
        """
        failure: TunnelError | None = None
        transfer: Transfer | None = None
        async with asyncio.TaskGroup() as tasks:
            until = self._loop.time() + timeout
            living = tasks.create_task(self._live(until), name="session")
            looking = tasks.create_task(self._look_for_holes(), name="holes")
            try:
                remote = await self._open(local.client_left, timeout)
                if remote is not None:
                    linger = self._tunnel.linger
                    transfer = await relay(
                        local, remote, linger=linger, client_left=local.client_left
                    )
                    await self._flush(remote)
                    transfer = self._judged(transfer)
            except TunnelError as error:
                failure = error  # the task group would put it into a group of one
            finally:
                local.abort()
                if not self._over.is_set():
                    await self._session.stop()
                living.cancel()
                looking.cancel()
        if failure is not None:
            raise failure
        return transfer

    def _judged(self, transfer: Transfer) -> Transfer:
        """Tell a destination that was refused from one that has ended.

        With the document for SSH the session ends without a word where the port cannot
        be dialled: the agent fails over it (protocol Appendix E). But every SSH server
        speaks first.
        """
        is_silent = (
            transfer.ending is ConnectionOutcome.COMPLETED and not transfer.received
        )
        if self._tunnel.document != SSH_DOCUMENT or not is_silent:
            return transfer
        refused = DestinationRefused(
            f"the session ended before port {self._tunnel.port} said anything: "
            "the agent could not connect to it"
        )
        return replace(transfer, ending=ConnectionOutcome.REFUSED, cause=refused)

    async def _live(self, until: float) -> None:
        """Let a session live; another one is started after an error that passes."""
        persistence = Persistence(self._context.random, until)
        try:
            while not await self._live_once(persistence, until):
                self._session = self._new_session()
        finally:
            self._over.set()
            self._changed.set()

    async def _live_once(self, persistence: Persistence, until: float) -> bool:
        """Let one session live; say whether it was the last one."""
        try:
            await self._session.run()
        except TunnelError as error:
            self._failure = error
            if self._session.session_id is not None:
                return True
            self._tell_once(error, until)
            return not await persistence.pause(error)
        return True

    def _tell_once(self, error: TunnelError, until: float) -> None:
        """Say that an offline target is awaited: nobody guesses what takes so long."""
        left = round(until - self._loop.time())
        offline = isinstance(error, TargetNotConnected) and passes(error)
        if offline and left and not self._told:
            self._told = True
            self._tell(with_advice(str(error), f"trying again for {left} s"))

    async def _look_for_holes(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._session.look_for_hole(self._loop.time())

    async def _open(
        self, gone: asyncio.Future[ClientClose], timeout: float
    ) -> StreamDuplex | None:
        left = asyncio.Event()
        gone.add_done_callback(lambda _: left.set())
        try:
            async with asyncio.timeout(timeout):
                await run_until(self._get_ready(), left)
        except TimeoutError:
            raise self._too_late(timeout) from None
        if gone.done():
            return None
        return self._session.open_stream()

    async def _get_ready(self) -> None:
        await self._wait_ready()
        assert self._session.target is not None, "ready without a target"
        await self._prepare(self._asking, self._session.target)
        await self._wait_ready()  # it may have lost its link meanwhile

    async def _wait_ready(self) -> None:
        while self._session.phase is not Phase.READY:
            if self._over.is_set():
                raise self._failure or NoSessionReady("the session has ended")
            self._changed.clear()
            await self._changed.wait()

    def _too_late(self, timeout: float) -> TunnelError:
        trouble = self._session.trouble or self._failure
        if trouble is not None:
            return trouble
        return NoSessionReady(f"no session within {timeout:g} s")

    async def _flush(self, remote: StreamDuplex) -> None:
        """Wait until the agent has what the local side sent before it left."""
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                # A stream has no event for it.
                while remote.unsettled and not self._over.is_set():  # noqa: ASYNC110 - see above
                    await asyncio.sleep(_SETTLING)
        except TimeoutError:
            pass  # what is missing will not arrive any more
