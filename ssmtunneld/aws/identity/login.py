"""The login of an identity, and the wait for a human to renew it (design D11).

Credentials are renewed ahead of need, off the loop. Where only a human can renew them,
this says so, once, and watches what a login writes: it takes effect within seconds.
Channels that are open do not need credentials and are not touched (users.md 3.7).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from ssmtunneld.base.listeners import Listeners
from ssmtunneld.base.record import Record
from ssmtunneld.errors import AwsError, CredentialsUnusable, TunnelError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from ssmtunneld.base.log import EventLog

RENEWAL: Final = 30.0
"""Seconds between looks at the keys. botocore renews them 15 minutes before their end,
at the first use: this is it, so that no session has to wait for it."""
LOOK: Final = 1.0
"""Seconds between looks at the files, while a login is needed."""
RETRY: Final = 20.0
"""Seconds after which another attempt is made although no file has changed: a
``credential_process`` and an instance's role leave no trace."""
NOTICE: Final = 900.0
"""Seconds before their end that it is said that nobody but a human renews the keys."""
_MOST_FILES: Final = 1000
"""Files of a cache that are looked at; it grows by one for each role and start URL."""

_LOGIN: Final = "run: ssmtunneld login "
"""Advice that ends with the name of a tunnel: any of those that share an identity."""

Stamps: TypeAlias = frozenset[tuple[str, int, int, int]]

_CACHES: Final = ("sso/cache", "login/cache", "cli/cache")


def watched_paths(environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Return the files and folders that a login writes to."""
    named = {
        "AWS_CONFIG_FILE": ".aws/config",
        "AWS_SHARED_CREDENTIALS_FILE": ".aws/credentials",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "",
        "AWS_LOGIN_CACHE_DIRECTORY": "",
    }
    paths = []
    for variable, usual in named.items():
        if environ.get(variable):
            paths.append(Path(environ[variable]))
        elif usual:
            paths.append(home / usual)
    return (*paths, *(home / ".aws" / cache for cache in _CACHES))


def take_stamps(paths: Iterable[Path]) -> Stamps:
    """Return what changes whenever one of the files does; blocking."""
    stamps = set()
    for path in paths:
        for file in (path, *_entries(path)):
            try:
                found = file.stat()
            except OSError:
                continue
            stamps.add((str(file), found.st_ino, found.st_mtime_ns, found.st_size))
    return frozenset(stamps)


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())[:_MOST_FILES]
    except OSError:
        return []  # a file, or not there


class CredentialExpiry(Record):
    """Expiry of the keys that are valid now."""

    ends_at: float | None
    """Time at which a human must act, in Unix seconds; None if unknown."""
    advice: str
    """Advice for that time."""
    expires_at: float | None = None
    """Expiry of the keys themselves, in Unix seconds; None if they have none."""


class Login:
    """The login of one identity.

    Args:
        renew: Makes sure that there are valid keys, in a thread; ``True`` for reading
            them again. Raises AwsError.
        stamp: Looks at the files, in a thread.
        wall_clock: Returns Unix seconds.
        log: Bound to the identity.
    """

    def __init__(
        self,
        renew: Callable[[bool], Awaitable[CredentialExpiry]],
        stamp: Callable[[], Awaitable[Stamps]],
        *,
        wall_clock: Callable[[], float],
        log: EventLog,
    ) -> None:
        self._renew = renew
        self._stamp = stamp
        self._wall_clock = wall_clock
        self._log = log
        self._used = False
        self._announced: float | None = None
        self._stirred = asyncio.Event()
        self._turn = asyncio.Lock()
        self._listeners = Listeners("login")
        self.trouble: CredentialsUnusable | None = None
        """The error that makes this identity unusable; None if none is known."""
        self.expiry: CredentialExpiry | None = None
        """The last known expiry of valid keys; None before the first."""

    def trouble_of(self, tunnel: str) -> CredentialsUnusable | None:
        """Return :attr:`trouble`, with the advice that fits one of its tunnels."""
        trouble = self.trouble
        if trouble is None or not trouble.advice.startswith(_LOGIN):
            return trouble
        facts = (trouble.operation, trouble.code, trouble.message)
        return type(trouble)(*facts, f"{_LOGIN}{tunnel}")

    def note(self, outcome: TunnelError | None) -> None:
        """Learn from a call: None if it succeeded."""
        self._used = True
        if isinstance(outcome, CredentialsUnusable):
            if self.trouble is None or self.trouble.message != outcome.message:
                self._log.warning(
                    "login.needed", reason=str(outcome), advice=outcome.advice
                )
            self.trouble = outcome
        elif outcome is None:
            self._recover()
        self._stirred.set()

    def telling(self, listener: Callable[[], None]) -> AbstractContextManager[None]:
        """Call ``listener`` after each new login, for the duration of the context."""
        return self._listeners.telling(listener)

    async def attend(self) -> None:
        """Renew keys ahead of need, and wait for new logins, until cancelled.

        Any number of tasks can do so: one of them works, the rest wait.
        """
        async with self._turn:
            while True:
                if self.trouble is None:
                    await self._renew_ahead()
                else:
                    await self._await_login()

    async def _renew_ahead(self) -> None:
        self._stirred.clear()
        try:
            async with asyncio.timeout(RENEWAL):
                while self.trouble is None:
                    await self._stirred.wait()
                    self._stirred.clear()
        except TimeoutError:
            if self._used:
                await self._try(afresh=False)

    async def _await_login(self) -> None:
        loop = asyncio.get_running_loop()
        seen = await self._stamp()
        # A login may have come between the refusal and this first look.
        retry_at = loop.time() + LOOK
        while self.trouble is not None:
            await asyncio.sleep(LOOK)
            stamps = await self._stamp()
            if stamps == seen and loop.time() < retry_at:
                continue
            # Whatever is half-written now changes once more.
            seen, retry_at = stamps, loop.time() + RETRY
            await self._try(afresh=True)

    async def _try(self, *, afresh: bool) -> None:
        try:
            expiry = await self._renew(afresh)
        except CredentialsUnusable as error:
            self.note(error)
        except AwsError:
            pass  # the network's trouble says nothing of the login
        else:
            self.expiry = expiry
            self._recover()
            self._announce(expiry)

    def _recover(self) -> None:
        if self.trouble is None:
            return
        self.trouble = None
        self._log.info("login.renewed")
        self._listeners.tell()

    def _announce(self, expiry: CredentialExpiry) -> None:
        ends_at = expiry.ends_at
        if ends_at is None or ends_at == self._announced:
            return
        left = ends_at - self._wall_clock()
        if left <= NOTICE:
            self._announced = ends_at
            seconds = max(0, round(left))
            self._log.warning("login.expiring", seconds=seconds, advice=expiry.advice)
