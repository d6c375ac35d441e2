"""The HTTP listener's life, which begins again when its settings change."""

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from ssmtunneld.base.log import EventLog
from ssmtunneld.config import Address, DaemonSettings

if TYPE_CHECKING:
    from types import ModuleType

    from ssmtunneld.serve.status_page import StatusSource


@dataclass(frozen=True, slots=True)
class HttpServerSettings:
    """Addresses to listen on, and who may connect; see docs/configuration.md."""

    listen: tuple[Address, ...]
    allow: tuple[IPv4Network | IPv6Network, ...]
    hosts: tuple[str, ...]

    @classmethod
    def of(cls, settings: DaemonSettings) -> "HttpServerSettings":
        """Take them from the table ``[daemon]``."""
        return cls(settings.http_listen, settings.http_allow, settings.http_hosts)


class HttpServer:
    """Shows a daemon over HTTP, if its settings say where.

    Args:
        subject: The daemon.
        settings: Where, and to whom.
        log: Where to say what was bound.

    Attributes:
        opened: Set once it listens, as far as it could at once, or need not.
    """

    def __init__(
        self,
        subject: "StatusSource",
        settings: HttpServerSettings,
        log: EventLog,
    ) -> None:
        self._subject = subject
        self._settings = settings
        self._log = log
        self._changed = asyncio.Event()
        self.opened = asyncio.Event()

    @property
    def settings(self) -> HttpServerSettings:
        """May be replaced while it runs."""
        return self._settings

    @settings.setter
    def settings(self, settings: HttpServerSettings) -> None:
        if settings != self._settings:
            self._settings = settings
            self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled, or idle where there is nowhere to listen."""
        while True:
            self._changed.clear()
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(self._serve(), name="http listener")
                await self._changed.wait()
                serving.cancel()

    async def _serve(self) -> None:
        settings = self._settings
        if not settings.listen:
            self.opened.set()
            return
        status_page = await asyncio.to_thread(_import_web)
        admission = status_page.Admission(settings.allow, frozenset(settings.hosts))
        await status_page.serve_web(
            self._subject, settings.listen, admission, self._log, self.opened.set
        )


def _import_web() -> "ModuleType":
    from ssmtunneld.serve import status_page  # noqa: PLC0415 - it takes 0.3 s: in a thread

    return status_page
