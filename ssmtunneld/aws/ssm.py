"""``Control`` by way of boto3, in worker threads (design D10).

boto3 is imported in a worker thread at the first call, not here: it costs 0.5 s and
30 MiB, and a program that only shows its status needs neither.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from typing_extensions import override

from ssmtunneld.aws.api.answers import SESSION_ID, STREAM_URL, TOKEN
from ssmtunneld.aws.api.boundary import contained, unusable
from ssmtunneld.aws.api.causes import MORE_THREADS
from ssmtunneld.aws.api.endpoints import (
    apply_override,
    is_trusted_stream_url,
    without_query,
)
from ssmtunneld.aws.api.network import tls_context
from ssmtunneld.aws.api.port import ActiveSession, Control, Grant
from ssmtunneld.aws.api.signing import is_presigned, upgrade_headers
from ssmtunneld.aws.connection_status import ConnectionStatuses
from ssmtunneld.aws.identity.login import Login, Stamps, take_stamps, watched_paths
from ssmtunneld.aws.sessions import pages, read_session
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.log import get_log
from ssmtunneld.base.paths import home
from ssmtunneld.base.secret import Secret
from ssmtunneld.base.thread_pool import ThreadPool
from ssmtunneld.base.threads import NoThread
from ssmtunneld.errors import (
    AwsError,
    LocalProtocolError,
    RequestRejected,
    ServiceUnavailable,
    SessionGone,
    SsmtunneldError,
    TunnelError,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from ssmtunneld.aws.api.access_keys import AccessKeyHolder
    from ssmtunneld.aws.api.answers import Answer
    from ssmtunneld.aws.api.port import Identity, SessionRequest
    from ssmtunneld.aws.client import AwsClient, AwsLocation
    from ssmtunneld.aws.clusters import ClusterEndpoints
    from ssmtunneld.aws.identity.login import CredentialExpiry

P = ParamSpec("P")
T = TypeVar("T")

# Enough that 50 tunnels resume within seconds of a network's return (0.3 s a call);
# few enough that they do not all throttle each other.
_THREADS: Final = 8


PATIENCE: Final = 180.0
"""Seconds for a call with all that comes before it and after it: keys that a program
asks a human for, those of a role, and another attempt with new ones. Whatever takes
longer waits for a file that nobody writes to, or that lies where nobody answers."""
LIST_TIMEOUT: Final = 60.0
"""Seconds in which another page of the list of sessions is asked for."""
SESSION_LIMIT: Final = 10_000
"""Sessions of such a list; it is asked for those of one target."""
STUCK_LIMIT: Final = 32
"""Threads of an identity that are left behind in such calls, for others to go on: they
cannot be broken off."""
_STUCK: Final = (
    "look at the files that credentials come from (AWS configuration, tokens, "
    "certificates): one is a pipe, or lies where nobody answers"
)

CLOSE_TIMEOUT: Final = 10.0
"""Seconds that ``close`` waits for sessions being terminated, unless told otherwise."""


def _tell_nobody() -> None:
    """Do nothing."""


def _wall_clock() -> datetime:
    return datetime.now(UTC)


def _new_threads() -> ThreadPool:
    return ThreadPool(_THREADS, thread_name_prefix="aws")


class SsmControl(Control):
    """The control plane of one identity.

    Args:
        identity: Who and where.
        now: The wall clock, for signatures.
        close_timeout: Seconds that ``close`` waits for sessions being terminated.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        now: Callable[[], datetime] = _wall_clock,
        close_timeout: float = CLOSE_TIMEOUT,
    ) -> None:
        self._identity = identity
        self._now = now
        self._close_timeout = close_timeout
        self._log = get_log(profile=identity.profile, region=identity.region)
        self._threads = _new_threads()
        self._stuck: set[Future[Any]] = set()
        self._opening = threading.Lock()
        self._account: AwsClient | None = None
        self._known_place: AwsLocation | None = None
        self._clusters: ClusterEndpoints | None = None
        self._cleanups: set[Future[None]] = set()
        self._starting: dict[Future[Any], Callable[[], None]] = {}
        self._started = asyncio.Event()
        self._granted = _RecentIds()
        self._holder: AccessKeyHolder | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._statuses = ConnectionStatuses(
            lambda target: self._submit(self._is_connected, target)
        )
        self.login = Login(
            self._renew,
            self._stamp,
            wall_clock=lambda: now().timestamp(),
            log=self._log,
        )
        """The login of this identity."""
        self._learn: Callable[[TunnelError | None], None] = self.login.note

    @property
    def refreshes(self) -> tuple[int, int]:
        """Counts of successful and failed attempts to get keys since the start."""
        if self._account is None:
            return 0, 0
        found = self._account.refreshes
        return found.renewed, found.failed

    @override
    async def start(
        self, request: SessionRequest, *, answered: Callable[[], None] | None = None
    ) -> Grant:
        call = self._submit_start(request, answered or _tell_nobody)
        try:
            return await self._result(call)
        except asyncio.CancelledError:
            # Still queued: it never happens. Running or done: AWS may have granted a
            # session that now belongs to nobody.
            if not call.cancel():
                self._clean_up(self._discard, call)
            raise

    def granted(self, session_id: str) -> bool:
        """Return True if this control was granted the session, alive or over."""
        return session_id in self._granted

    async def settled(self) -> None:
        """Return when every ``start`` that is under way now is answered.

        Also those whose callers have left, but not those that were given up. What was
        granted is known to ``granted`` by then. Cancelling is safe.
        """
        awaited = set(self._starting)
        while awaited & self._starting.keys():
            self._started.clear()
            await self._started.wait()

    @override
    async def resume(self, session_id: str) -> Grant:
        return await self._result(self._submit(self._resume, session_id))

    @override
    async def terminate(self, session_id: str) -> None:
        call = self._submit(self._terminate, session_id)
        try:
            await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            if call.cancel():
                self._clean_up(self._terminate_unattended, session_id)
            else:
                self._outlive(call)
            raise

    @override
    async def describe(
        self, *, owner: str | None = None, target: str | None = None
    ) -> list[ActiveSession]:
        chosen = {"Owner": owner, "Target": target}
        filters = [{"key": k, "value": v} for k, v in chosen.items() if v is not None]
        return await self._result(self._submit(self._describe, filters))

    @override
    async def is_connected(self, target: str) -> bool:
        return await self._statuses.is_connected(target)

    async def ask(self, work: Callable[[AwsClient], T]) -> T:
        """Return what ``work`` returns; any calls are allowed, in a worker thread.

        Cancelling only stops the waiting.

        Raises:
            AwsError: ``work`` did.
        """
        return await self._result(self._submit(lambda: work(self._open())))

    @override
    async def sign_upgrade(self, url: str) -> Mapping[str, str]:
        if is_presigned(url):
            return {}
        call = self._submit(lambda: self._open().keys("OpenDataChannel"))
        keys, place = await self._result(call)
        # The headers hold the caller's session token: it goes where the session's may.
        self.check_stream_url(url)
        if keys is None:
            return {}
        return upgrade_headers(
            url,
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            session_token=keys.session_token,
            region=place.region,
            now=self._now(),
        )

    @override
    def check_stream_url(self, url: str) -> None:
        place = self._place
        if place is not None and is_trusted_stream_url(
            url,
            region=place.region,
            ssmmessages_endpoint=place.ssmmessages_endpoint,
            ssm_endpoint=place.ssm_endpoint,
        ):
            return
        raise RequestRejected(
            "OpenDataChannel",
            clean("UntrustedStreamUrl"),
            clean(
                f"{without_query(url)} is not a data channel of this region's SSM, so "
                "the session's token is not sent there"
            ),
            "if you trust this host, set ssmmessages_endpoint to it",
        )

    @property
    def _place(self) -> AwsLocation | None:
        place = None if self._account is None else self._account.place
        return place or self._known_place

    @property
    def ca_bundle(self) -> str | None:
        """Trusted certificates of its TLS connections; known after the first call."""
        place = self._place
        return self._identity.ca_bundle if place is None else place.ca_bundle

    async def trust(self) -> ssl.SSLContext:
        """Return what data channels trust, which is what the API's client does.

        In a thread, although it is read at the first call and after a change only: the
        file may lie where nobody answers. Cancelling is safe.

        Raises:
            OSError: There are no certificates in it.
            ServiceUnavailable: It takes too long.
        """

        def read() -> ssl.SSLContext | OSError:
            try:
                return tls_context(self.ca_bundle)
            except OSError as error:
                return error

        found = await self._result(self._submit(read))
        if isinstance(found, OSError):
            raise found
        return found

    @override
    async def close(self) -> None:
        try:
            async with asyncio.timeout(self._close_timeout):
                while cleanups := tuple(self._cleanups):
                    await asyncio.wait([asyncio.wrap_future(c) for c in cleanups])
        except TimeoutError:
            self._log.warning("sessions.abandoned", count=len(self._cleanups))
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)
            if self._account is not None:
                self._account.close()

    async def _renew(self, afresh: bool) -> CredentialExpiry:  # noqa: FBT001 - Login's callback
        return await self.ask(lambda account: account.renew(afresh=afresh))

    async def _stamp(self) -> Stamps:
        paths = watched_paths(os.environ, home())
        return await asyncio.wrap_future(self._submit(take_stamps, paths))

    def _note(self, outcome: TunnelError | None) -> None:
        """Pass on what became of a call; called in its thread."""
        # A thread may outlive the loop; then there is nobody left to tell.
        with suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._learn, outcome)

    def _submit(
        self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()

        def contain() -> T:
            return contained(lambda: work(*args, **kwargs), partial(unusable, "AskAws"))

        # In our context: a defect counts as one of the tunnel that asks.
        around = copy_context()
        try:
            return self._threads.submit(around.run, contain)
        except NoThread as error:
            raise ServiceUnavailable(
                "AskAws",
                clean("NoThread"),
                clean(error.strerror or ""),
                MORE_THREADS,
            ) from None
        except RuntimeError:
            raise LocalProtocolError("the control plane was closed") from None

    async def _result(self, call: Future[T]) -> T:
        """Return what a call returns; give it up if it takes too long.

        Raises:
            ServiceUnavailable: It does.
        """
        threads = self._threads
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.wrap_future(call)
        except TimeoutError:
            self._give_up(call, threads)
        words = clean(f"no result within {PATIENCE:g} s")
        raise ServiceUnavailable("AskAws", clean("NoResult"), words, _STUCK)

    def _give_up(self, call: Future[Any], threads: ThreadPool) -> None:
        """Leave a call behind, with its thread and whatever that holds."""
        answered = self._starting.get(call)
        if answered is not None:
            answered()
        if call.cancelled():
            return  # it was never begun
        if answered is not None:
            call.add_done_callback(self._undo)
        self._stuck.add(call)
        call.add_done_callback(self._stuck.discard)
        if threads is self._threads and len(self._stuck) < STUCK_LIMIT:
            # Locks too: whoever comes next would wait behind it.
            self._threads, self._opening = _new_threads(), threading.Lock()
            self._known_place, self._account = self._place, None
            threads.shutdown(wait=False)

    def _undo(self, call: Future[Grant]) -> None:
        """Undo a StartSession that was given up, and has been answered after all."""
        with suppress(SsmtunneldError):
            self._clean_up(self._discard, call)

    def _submit_start(
        self, request: SessionRequest, answered: Callable[[], None]
    ) -> Future[Grant]:
        try:
            call = self._submit(self._start, request)
        except SsmtunneldError:
            answered()
            raise
        loop = asyncio.get_running_loop()

        def end() -> None:
            if self._starting.pop(call, None) is not None:
                self._started.set()
                answered()

        self._starting[call] = end

        def tell(_: Future[Grant]) -> None:
            # A thread may outlive the loop; then there is nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(end)

        call.add_done_callback(tell)
        return call

    def _clean_up(
        self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Do what nobody waits for any more, except ``close``."""
        self._outlive(self._submit(work, *args, **kwargs))

    def _outlive(self, cleanup: Future[None]) -> None:
        self._cleanups.add(cleanup)
        cleanup.add_done_callback(self._cleanups.discard)

    # What follows runs in worker threads.

    def _open(self) -> AwsClient:
        with self._opening:
            if self._account is None:
                # See the module's docstring for why this is not at the top.
                from ssmtunneld.aws.client import AwsClient  # noqa: PLC0415 - boto3 is heavy

                self._account = AwsClient(self._identity, self._note, self._holder)
            return self._account

    def _start(self, request: SessionRequest) -> Grant:
        asked: dict[str, object] = {
            "Target": request.target,
            "DocumentName": request.document,
        }
        parameters = {k: list(v) for k, v in request.parameters.items()}
        if request.cluster:
            parameters["host"] = [self.find_cluster(request.cluster)]
        if parameters:
            asked["Parameters"] = parameters
        if request.reason:
            asked["Reason"] = request.reason
        account = self._open()
        answer = account.call("StartSession", **asked)
        session_id = answer.matching("SessionId", SESSION_ID)
        if session_id:
            self._granted.add(session_id)
        try:
            return self._grant("StartSession", session_id, answer, account.place)
        except TunnelError:
            if session_id:
                self._terminate_unattended(session_id)
            raise

    def find_cluster(self, name: str) -> str:
        """Return the host of an EKS cluster's endpoint.

        Blocks, and must be called in a worker thread.

        Raises:
            AwsError: As ``describe_cluster`` does.
        """
        account = self._open()
        with self._opening:
            if self._clusters is None:
                from ssmtunneld.aws.clusters import ClusterEndpoints  # noqa: PLC0415 - few tunnels lead to one

                self._clusters = ClusterEndpoints(lambda: self._now().timestamp())
        return self._clusters.find(account, name)

    def _resume(self, session_id: str) -> Grant:
        account = self._open()
        answer = account.call("ResumeSession", SessionId=session_id)
        if not answer.matching("TokenValue", TOKEN):
            raise SessionGone(session_id, clean("the service returned no new token"))
        return self._grant("ResumeSession", session_id, answer, account.place)

    def _grant(
        self,
        operation: str,
        session_id: str,
        answer: Answer,
        place: AwsLocation | None,
    ) -> Grant:
        token = answer.matching("TokenValue", TOKEN)
        url = answer.matching("StreamUrl", STREAM_URL)
        if not (session_id and token and url):
            raise ServiceUnavailable(
                operation,
                clean("IncompleteAnswer"),
                clean("session ID, token or stream URL is missing or invalid"),
                "check what answers there: a proxy, or a wrong endpoint_url",
            )
        assert place is not None, "an answer without a connection"
        url = apply_override(url, place.ssmmessages_endpoint)
        self.check_stream_url(url)
        return Grant(session_id, Secret.token(token), url)

    def _terminate(self, session_id: str) -> None:
        try:
            self._open().call("TerminateSession", SessionId=session_id)
        except SessionGone:
            return

    def _terminate_unattended(self, session_id: str) -> None:
        try:
            self._terminate(session_id)
        except AwsError as error:
            self._log.warning(
                "session.abandoned", session_id=session_id, reason=str(error)
            )
        else:
            self._log.info("session.discarded", session_id=session_id)

    def _discard(self, call: Future[Grant]) -> None:
        """Wait for a StartSession whose caller has gone, and undo it."""
        if call.exception() is None:
            self._terminate_unattended(call.result().session_id)

    def _describe(self, filters: list[dict[str, str]]) -> list[ActiveSession]:
        query: dict[str, object] = {"State": "Active"}
        if filters:
            query["Filters"] = filters
        from ssmtunneld.aws.api.dialing import Deadline  # noqa: PLC0415 - there with a call

        deadline = Deadline(LIST_TIMEOUT)
        found: list[ActiveSession] = []
        for page, is_last in pages(self._open().call, query):
            found += map(read_session, page)
            if len(found) >= SESSION_LIMIT or (deadline.has_passed and not is_last):
                break
        return found[:SESSION_LIMIT]

    def _is_connected(self, target: str) -> bool:
        operation = "GetConnectionStatus"
        status = self._open().call(operation, Target=target).text("Status").lower()
        if status not in {"connected", "notconnected"}:
            raise ServiceUnavailable(
                operation, clean("IncompleteAnswer"), clean("the status is missing")
            )
        return status == "connected"


class AccessControl(SsmControl):
    """The control plane of a tunnel with the keys of its approved access request.

    Such keys start, resume and end sessions, and open their data channels. Whatever
    else a tunnel asks, it asks as the identity that made the request.

    Args:
        identity: Where, and by which way.
        holder: Has the keys.
        requester: The control plane of the identity that made the request.
        noted: Called on the loop with the failure of each call, or None.
        close_timeout: Seconds that ``close`` waits for sessions being terminated.
    """

    def __init__(
        self,
        identity: Identity,
        holder: AccessKeyHolder,
        requester: SsmControl,
        noted: Callable[[TunnelError | None], None],
        *,
        close_timeout: float = CLOSE_TIMEOUT,
    ) -> None:
        super().__init__(identity, close_timeout=close_timeout)
        self._holder = holder
        self._requester = requester
        self._learn = noted

    @override
    async def describe(
        self, *, owner: str | None = None, target: str | None = None
    ) -> list[ActiveSession]:
        return await self._requester.describe(owner=owner, target=target)

    @override
    async def is_connected(self, target: str) -> bool:
        return await self._requester.is_connected(target)

    @override
    def find_cluster(self, name: str) -> str:
        return self._requester.find_cluster(name)


class _RecentIds:
    """The latest ids that were added, from any thread."""

    # An answer of the service is compared with these within a minute of its coming.
    _KEPT: Final = 10_000

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._adding = threading.Lock()

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._ids

    def add(self, session_id: str) -> None:
        """Keep ``session_id``, and forget the oldest beyond the bound."""
        with self._adding:
            self._ids[session_id] = None
            if len(self._ids) > self._KEPT:
                del self._ids[next(iter(self._ids))]


class ControlRegistry:
    """One control for each identity, shared by all tunnels that have it.

    Args:
        named: Whether a human knows the tunnels by their names: they stand in a file.
        close_timeout: Seconds that ``close`` waits for sessions being terminated.
    """

    def __init__(
        self, *, named: bool = True, close_timeout: float = CLOSE_TIMEOUT
    ) -> None:
        self._named = named
        self._close_timeout = close_timeout
        self._controls: dict[Identity, SsmControl] = {}
        self._by_request: list[AccessControl] = []

    def get(self, identity: Identity) -> SsmControl:
        """Return the control for ``identity``; it is closed with the registry."""
        if identity not in self._controls:
            named = identity if self._named else replace(identity, tunnel="")
            self._controls[identity] = SsmControl(
                named, close_timeout=self._close_timeout
            )
        return self._controls[identity]

    def by_request(
        self,
        identity: Identity,
        holder: AccessKeyHolder,
        noted: Callable[[TunnelError | None], None],
    ) -> AccessControl:
        """Return a new control that signs with the holder's keys; closed as all are.

        Args:
            identity: Who made the request.
            holder: Has the keys.
            noted: Called on the loop with the failure of each call, or None.
        """
        control = AccessControl(
            identity,
            holder,
            self.get(identity),
            noted,
            close_timeout=self._close_timeout,
        )
        self._by_request.append(control)
        return control

    def _all(self) -> list[SsmControl]:
        return [*self._controls.values(), *self._by_request]

    def granted(self, session_id: str) -> bool:
        """Return True if one of the controls was granted the session."""
        return any(control.granted(session_id) for control in self._all())

    async def settled(self) -> None:
        """Return when every ``start`` of this moment is answered."""
        for control in self._all():
            await control.settled()

    async def close(self) -> None:
        """Close every control, at the same time and within a bounded time."""
        async with asyncio.TaskGroup() as tasks:
            for control in self._all():
                tasks.create_task(control.close(), name="close-control")
        self._controls.clear()
        self._by_request.clear()
