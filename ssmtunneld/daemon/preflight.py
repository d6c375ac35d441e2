"""Checks before a configuration is used: open files, and users of connections."""

import resource
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from ssmtunneld.base.log import EventLog
from ssmtunneld.config import DaemonSettings, TcpAddress, TunnelSettings
from ssmtunneld.config.users import EVERYBODY
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.listener.access import AccessLimitation, access_limitations
from ssmtunneld.listener.limits import files_needed

FEWEST_FILES: Final = 32
"""Open files that the process needs, besides those of each tunnel."""


class Preflight:
    """Says in the log what a configuration wants and this process cannot keep.

    Args:
        log: Where to say it.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._told: set[AccessLimitation] = set()

    def check_access(self, tunnels: Iterable[TunnelSettings]) -> None:
        """Say, once, if connections of other users cannot be told from our own."""
        checked = [
            tunnel
            for tunnel in tunnels
            if EVERYBODY not in tunnel.allow_users
            and any(isinstance(address, TcpAddress) for address in tunnel.listen)
        ]
        if not checked:
            return
        others = any(tunnel.allow_users for tunnel in checked)
        for found in access_limitations(others=others):
            if found not in self._told:
                self._told.add(found)
                self._log.warning(
                    "access.limited", reason=found.reason, advice=found.advice
                )

    def connections(
        self,
        settings: DaemonSettings,
        tunnels: Sequence[TunnelSettings],
        *,
        strict: bool,
    ) -> int:
        """Return the limit of local connections in all; say if it is reduced.

        Args:
            settings: Say how many are wanted.
            tunnels: Say how many can come, and what else takes files.
            strict: Whether it is an error if not even every tunnel can have one.

        Raises:
            SsmtunneldError: The limit of open files is far too low.
        """
        wanted = min(settings.max_connections, sum(t.max_connections for t in tunnels))
        # localhost is two sockets.
        listeners = sum(2 * len(tunnel.listen) for tunnel in tunnels)
        # While a session is being replaced there is its successor, too.
        sessions = sum(tunnel.session_limit + 1 for tunnel in tunnels)
        needed = files_needed(wanted, sessions, listeners)
        limit = allow_files(needed)
        if limit is None or limit >= needed:
            return settings.max_connections
        advice = (
            f"set LimitNOFILE={needed} in the unit (or ulimit -Hn {needed} before the "
            "start), or lower max_connections"
        )
        if strict and limit < FEWEST_FILES + listeners + 2 * len(tunnels):
            error = SsmtunneldError(
                f"this process may open {limit} files, and could need {needed}"
            )
            error.advice = advice
            raise error
        possible = max(len(tunnels), limit - files_needed(0, sessions, listeners))
        self._log.warning(
            "files.limited",
            limit=limit,
            needed=needed,
            connections=possible,
            advice=advice,
        )
        return possible


def allow_files(number: int) -> int | None:
    """Let this process open ``number`` files, if that is allowed.

    Returns:
        How many it may open; None for any number.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    if soft < number:
        most = number if hard == resource.RLIM_INFINITY else min(number, hard)
        # Some systems have limits below this one; then it stays what it was.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return most
    return soft
