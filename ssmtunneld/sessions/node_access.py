"""Access to a node on request: what was asked, whether it holds, and until when.

One for each tunnel with ``access = "request"`` (protocol Appendix E). A person files a
request; until it is decided, GetAccessToken is asked every 10 to 60 s, sooner rather
than later while a connection waits. An approval's keys go to a holder that only this
tunnel's sessions sign with. Sessions that stand outlive the access; no new connection
does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from typing_extensions import override

from ssmtunneld.aws.access_requests import AccessStatus
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.listeners import Listeners
from ssmtunneld.base.small_event import SmallEvent
from ssmtunneld.errors import (
    AccessDenied,
    AccessMissing,
    AwsError,
    CredentialsUnusable,
    RequestRejected,
    SsmtunneldError,
    TunnelError,
)
from ssmtunneld.sessions.targeting import TargetSelector

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from ssmtunneld.aws.access_requests import AccessToken
    from ssmtunneld.aws.api.access_keys import AccessKeyHolder, AccessKeys
    from ssmtunneld.base.log import EventLog

FIRST_LOOK: Final = 1.0
"""Seconds after a request in which a policy that approves by itself has done so."""
SHORTEST: Final = 10.0
"""Seconds between two looks at an undecided request, at least."""
LONGEST: Final = 60.0
"""Seconds between two looks at an undecided request, at most."""
GROWTH: Final = 1.5
"""Factor by which the time between looks grows."""
REVIEW: Final = 300.0
"""Seconds between looks at an approved request, which can be revoked."""
RENEWAL: Final = 120.0
"""Seconds before the keys' end from which on newer ones are asked for: the approval can
last longer than they do."""


class AccessCalls(Protocol):
    """The calls to AWS, as the identity that asks."""

    async def start(self, target: str, reason: str) -> str:
        """Ask for access to ``target``; return the request's id.

        Raises:
            AwsError: The service said no, or could not be asked.
        """
        ...

    async def token(self, request_id: str) -> AccessToken:
        """Return what has become of a request.

        Raises:
            AwsError: The service said no, or could not be asked.
            RequestRejected: It does not know the request.
        """
        ...


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A request that was made."""

    id: str
    target: str
    """The node."""
    reason: str
    asked_at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class KeptRequests:
    """The requests that outlast a restart."""

    latest: AccessRequest | None = None
    older: AccessRequest | None = None
    """An approved one that holds while the latest one is undecided or refused."""


class RequestStore(Protocol):
    """The place of a tunnel's requests over restarts."""

    @property
    def found(self) -> KeptRequests:
        """The requests of before."""
        ...

    async def keep(self, requests: KeptRequests) -> None:
        """Keep ``requests`` instead; return once that is done, or cannot be."""
        ...

    async def retry(self) -> None:
        """Keep what could not be kept; nothing else happens."""
        ...


class ForgetfulStore(RequestStore):
    """Keeps nothing."""

    @property
    @override
    def found(self) -> KeptRequests:
        return KeptRequests()

    @override
    async def keep(self, requests: KeptRequests) -> None:
        """Do nothing."""

    @override
    async def retry(self) -> None:
        """Do nothing."""


class NodeAccess:
    """The access of one tunnel.

    Args:
        tunnel: Its name.
        calls: The calls to AWS.
        choose: Returns the node to ask for; can raise AwsError.
        holder: Gets the keys.
        wall_clock: Returns Unix seconds.
        log: Bound to the tunnel.
        store: Keeps the request over restarts.
    """

    def __init__(
        self,
        tunnel: str,
        calls: AccessCalls,
        choose: Callable[[], Awaitable[str]],
        holder: AccessKeyHolder,
        *,
        wall_clock: Callable[[], float],
        log: EventLog,
        store: RequestStore | None = None,
    ) -> None:
        self._tunnel = tunnel
        self._calls = calls
        self._choose = choose
        self._holder = holder
        self._wall_clock = wall_clock
        self._log = log
        self._store = store or ForgetfulStore()
        self._loop = asyncio.get_running_loop()
        self._request: AccessRequest | None = None
        self._older: AccessRequest | None = None
        self._status = AccessStatus.PENDING
        # Until the service says that it is over: its keys can end before.
        self._granted: AccessRequest | None = None
        self._doubted = False
        self._failure: AwsError | None = None
        self._looked_at = self._reviewed_at = float("-inf")
        self._look_at: float | None = None
        self._review_at: float | None = None
        self._delay = SHORTEST
        self._stirred = SmallEvent()
        self._turn, self._filing = asyncio.Lock(), asyncio.Lock()
        self._listeners = Listeners("access")
        self._follow(self._store.found)

    def _follow(self, found: KeptRequests) -> None:
        self._request, self._older = found.latest, found.older
        now = self._loop.time()
        self._look_at = None if self._request is None else now
        self._review_at = None if self._older is None else now

    # Observation.

    @property
    def is_open(self) -> bool:
        """True if sessions may be started now."""
        keys = self._holder.keys
        return keys is not None and self._wall_clock() < keys.expires_at

    @property
    def request(self) -> AccessRequest | None:
        """The latest request; None if nobody has asked."""
        return self._request

    @property
    def status(self) -> AccessStatus | None:
        """The state of the latest request; None if nobody has asked."""
        return None if self._request is None else self._status

    @property
    def target(self) -> str | None:
        """The node that sessions may be started to; None if there is none."""
        return None if self._granted is None else self._granted.target

    @property
    def expires_at(self) -> float | None:
        """The end of the keys, in Unix seconds; None without any."""
        keys = self._holder.keys
        return None if keys is None else keys.expires_at

    @property
    def missing(self) -> AccessMissing | None:
        """The reason why no session may be started; None if one may."""
        if self.is_open:
            return None
        request = self._request
        if request is None:
            return self._refused("nobody has asked for access to the node")
        if self._status in {AccessStatus.PENDING, AccessStatus.APPROVED}:
            return self._undecided(request)
        return self._refused(f"access request {request.id} {_ENDS[self._status]}")

    def _undecided(self, request: AccessRequest) -> AccessMissing:
        why = f"access request {request.id} awaits approval"
        advice = f"have it approved: the Systems Manager console lists {request.id}"
        if self._failure is not None:
            why = f"{why}; {self._failure}"
            advice = self._failure.advice
        return AccessMissing(clean(why), advice, pending=True)

    def _refused(self, why: str) -> AccessMissing:
        return AccessMissing(clean(why), self._holder.advice)

    # Asking.

    async def ask(self, reason: str) -> AccessRequest:
        """File a request, and return it.

        While access holds, it asks for more of it: what holds goes on until its end,
        whatever becomes of the new one.
        Cancelling can leave a request at the service that nobody follows.

        Raises:
            AwsError: The node cannot be found, or the service said no.
            SsmtunneldError: One is undecided already.
        """
        async with self._filing:
            before = self._request
            if before is not None and self._status is AccessStatus.PENDING:
                known = SsmtunneldError(f"access request {before.id} awaits approval")
                known.advice = f"wait for it: ssmtunneld request {self._tunnel} --wait"
                raise known
            target = await self._choose()
            request_id = await self._calls.start(target, reason)
            made = AccessRequest(request_id, target, reason, self._wall_clock())
            self._log.info("access.requested", request=request_id, target=target)
            if self._granted is not None and self._granted is self._request:
                self._older, self._review_at = self._granted, self._look_at
            self._request, self._status = made, AccessStatus.PENDING
            self._failure, self._delay = None, SHORTEST
            self._plan(FIRST_LOOK)
            self._tell()
            await self._keep()
            return made

    def keep_in(self, store: RequestStore) -> None:
        """Keep requests in ``store`` from now on, and follow those that it has.

        Where somebody has asked here already, they are kept with the next change.
        """
        self._store = store
        if self._request is None and not self._filing.locked():
            self._follow(store.found)
            self._stirred.set()
            self._tell()

    async def _keep(self) -> None:
        await self._store.keep(KeptRequests(self._request, self._older))

    def hurry(self, spacing: float = SHORTEST) -> None:
        """Look again soon: a connection waits, or there is a new login.

        Args:
            spacing: Seconds since the last look, at least.
        """
        now = self._loop.time()
        if self._look_at is not None:
            soon = max(now, self._looked_at + spacing)
            self._look_at = min(self._look_at, soon)
            self._stirred.set()
        if self._review_at is not None:
            soon = max(now, self._reviewed_at + spacing)
            self._review_at = min(self._review_at, soon)
            self._stirred.set()

    def note(self, outcome: TunnelError | None) -> None:
        """Learn from a call with the keys: None if it succeeded."""
        if isinstance(outcome, AccessDenied | CredentialsUnusable) and self.is_open:
            # Revoked, perhaps. What the keys never allowed is not asked all the time.
            self._doubted = True
            self.hurry(LONGEST)

    def telling(self, listener: Callable[[], None]) -> AbstractContextManager[None]:
        """Call ``listener`` after each change, for the duration of the context."""
        return self._listeners.telling(listener)

    def _tell(self) -> None:
        self._listeners.tell()

    # Looking.

    async def attend(self) -> None:
        """Follow the request until cancelled.

        Any number of tasks can do so: one of them works, the rest wait.
        """
        async with self._turn:
            while True:
                await self._wait()
                self._end_what_ended()
                # First what can hold: after a restart, nobody must take it for lost
                # because the request for more is over.
                if self._is_due(self._review_at):
                    await self._review()
                if self._is_due(self._look_at):
                    await self._look()
                    await self._store.retry()

    def _is_due(self, moment: float | None) -> bool:
        return moment is not None and self._loop.time() >= moment

    async def _wait(self) -> None:
        self._stirred.clear()
        # A machine that has slept knows it by its wall clock alone.
        looks = [at for at in (self._look_at, self._review_at) if at is not None]
        times = [LONGEST, *(at - self._loop.time() for at in looks)]
        if self._holder.keys is not None:
            times.append(self._holder.keys.expires_at - self._wall_clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(times))):
                await self._stirred.wait()

    def _end_what_ended(self) -> None:
        if self._holder.keys is None or self.is_open:
            return
        self._holder.keys = None
        # The service may know better, and is asked at once.
        if self._granted is self._request:
            self._plan(0.0)
            self._note_end(AccessStatus.EXPIRED)
        else:
            self._review_at = self._loop.time()
            self._tell()

    def _plan(self, delay: float) -> None:
        self._look_at = self._loop.time() + delay
        self._stirred.set()

    async def _look(self) -> None:
        request = self._request
        assert request is not None, "a look without a request"
        self._looked_at = self._loop.time()
        try:
            token = await self._calls.token(request.id)
        except AwsError as error:
            if request is self._request:
                await self._fail(request, error)
            return
        if request is not self._request:
            return  # somebody has asked again meanwhile
        self._failure = None
        if token.keys is not None and token.keys.expires_at > self._wall_clock():
            await self._grant(request, token.keys)
        elif token.status is AccessStatus.PENDING:
            self._plan(self._delay)
            self._delay = min(LONGEST, self._delay * GROWTH)
        else:
            self._look_at = None
            is_over = token.status is AccessStatus.APPROVED  # its keys have ended
            self._decide(AccessStatus.EXPIRED if is_over else token.status)

    async def _fail(self, request: AccessRequest, error: AwsError) -> None:
        if isinstance(error, RequestRejected):
            self._log.warning(
                "access.forgotten",
                request=request.id,
                reason=str(error),
                advice=self._holder.advice,
            )
            # What an older one has approved holds.
            older = self._older
            self._status = AccessStatus.PENDING
            if older is not None and older is self._granted:
                held = self.is_open
                self._status = AccessStatus.APPROVED if held else AccessStatus.EXPIRED
            self._request, self._look_at = older, self._review_at
            self._older, self._review_at = None, None
            await self._keep()
        else:
            if self._failure is None or str(self._failure) != str(error):
                self._log.warning(
                    "access.unconfirmed",
                    request=request.id,
                    reason=str(error),
                    advice=error.advice,
                )
            self._failure = error
            self._plan(LONGEST)
        self._tell()

    async def _review(self) -> None:
        """Look at the approved request before the latest one."""
        older = self._older
        assert older is not None, "a review without a request"
        self._reviewed_at = self._loop.time()
        try:
            token = await self._calls.token(older.id)
        except AwsError as error:
            if older is self._older:
                self._review_at = self._loop.time() + LONGEST
                if isinstance(error, RequestRejected):
                    await self._drop_older(older, AccessStatus.EXPIRED)
            return
        if older is not self._older:
            return  # the latest one has been approved meanwhile
        if token.keys is not None and token.keys.expires_at > self._wall_clock():
            self._review_at = self._loop.time() + self._hold(older, token.keys)
        else:
            is_over = token.status in {AccessStatus.APPROVED, AccessStatus.PENDING}
            status = AccessStatus.EXPIRED if is_over else token.status
            await self._drop_older(older, status)

    async def _drop_older(self, older: AccessRequest, status: AccessStatus) -> None:
        self._older, self._review_at = None, None
        if self._granted is older:
            self._granted = self._holder.keys = None
            self._log_end(older, status)
        self._tell()
        await self._keep()

    async def _grant(self, request: AccessRequest, keys: AccessKeys) -> None:
        self._status = AccessStatus.APPROVED
        self._plan(self._hold(request, keys))
        if self._older is not None:
            self._older, self._review_at = None, None
            await self._keep()

    def _hold(self, request: AccessRequest, keys: AccessKeys) -> float:
        """Use ``keys``; return the seconds until the next look at ``request``."""
        held = self._holder.keys
        is_news = request is not self._granted or held is None
        # Each answer may have new keys: those that serve are kept.
        if held is None or is_news or self._doubted or _end(keys) > _end(held):
            self._holder.keys, self._doubted = keys, False
        self._granted = request
        left = keys.expires_at - self._wall_clock()
        if is_news:
            self._log.info(
                "access.granted",
                request=request.id,
                target=request.target,
                seconds=round(left),
            )
            self._tell()
        return min(REVIEW, max(LONGEST, left - RENEWAL))

    def _decide(self, status: AccessStatus) -> None:
        """Note that the service says that the request is over, and how."""
        if self._granted is self._request:
            self._granted = self._holder.keys = None
        self._note_end(status)

    def _note_end(self, status: AccessStatus) -> None:
        request = self._request
        assert request is not None, "an end without a request"
        if status is not self._status:
            self._status = status
            self._log_end(request, status)
        self._tell()

    def _log_end(self, request: AccessRequest, status: AccessStatus) -> None:
        number, target, advice = request.id, request.target, self._holder.advice
        log = self._log
        match status:
            case AccessStatus.REJECTED:
                log.warning(
                    "access.rejected", request=number, target=target, advice=advice
                )
            case AccessStatus.REVOKED:
                log.warning(
                    "access.revoked", request=number, target=target, advice=advice
                )
            case _:
                log.warning(
                    "access.expired", request=number, target=target, advice=advice
                )


_ENDS: Final = {
    AccessStatus.REJECTED: "was rejected",
    AccessStatus.REVOKED: "was revoked",
    AccessStatus.EXPIRED: "has expired",
}


def _end(keys: AccessKeys) -> float:
    return keys.expires_at


class AccessTargetSelector(TargetSelector):
    """The node that was granted, and no other.

    Args:
        access: Knows it.
    """

    def __init__(self, access: NodeAccess) -> None:
        self._access = access

    @override
    async def choose(self) -> str:
        missing, target = self._access.missing, self._access.target
        if missing is not None:
            raise missing
        assert target is not None, "access to nothing"
        return target

    @override
    def avoid(self, target: str) -> None:
        """Do nothing: there is no other."""
