"""Queries for sessions: one for each identity."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.sessions import Query, SessionHistory
from ssmtunneld.cli.commands.sessions.listing import IdentitySessions
from ssmtunneld.cli.commands.sessions.origin import is_of, tunnel_in
from ssmtunneld.cli.destination import tunnels_named
from ssmtunneld.cli.options import load
from ssmtunneld.cli.running_daemons import config_in_use, running
from ssmtunneld.config.targets import FixedTarget, parse_target
from ssmtunneld.daemon.instance_lock import instance_name
from ssmtunneld.errors import AwsError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ssmtunneld.aws.api.port import ActiveSession
    from ssmtunneld.aws.sessions import Entry
    from ssmtunneld.config import Config

_THREADS: Final = 8
"""Identities that are asked at the same time."""

Inquiries = dict[Identity, dict[str | None, list[str]]]
"""The tunnels of each identity, by the target that they name."""


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Options that choose the sessions to list.

    Attributes:
        past: Those that have ended, instead of those that live.
        all_owners: Everybody's.
        limit: At most so many.
    """

    past: bool
    all_owners: bool
    limit: int


@dataclass(frozen=True, slots=True)
class SessionScope:
    """A configuration's identities, or a single one, with their region.

    Attributes:
        config: The configuration; None for the identity below.
        profile: A profile; None is the environment's.
        region: Where; None is the environment's.
    """

    config: Config | None
    profile: str | None = None
    region: str | None = None

    @classmethod
    def of(
        cls,
        config_path: Path | None,
        profile: str | None,
        region: str | None,
        names: Sequence[str] = (),
    ) -> SessionScope:
        """Return the place that the options of a command mean.

        Raises:
            ConfigError: A configuration is needed and cannot be used.
            click.UsageError: The options contradict each other.
        """
        if not (profile or region):
            return cls(_config(config_path, needed=bool(names)))
        if names:
            raise click.UsageError(
                "--profile and --region exclude names of tunnels, whose identities are "
                "their own; omit one or the other"
            )
        return cls(None, profile, region)

    def inquiries(self, names: Sequence[str] = ()) -> Inquiries:
        """Return the identities to ask, and about which targets; all without ``names``.

        Raises:
            CommandError: There is no tunnel of such a name.
        """
        config = self.config
        if config is None:
            return {Identity(profile=self.profile, region=self.region): {None: []}}
        found: Inquiries = {}
        for tunnel in tunnels_named(config, names):
            targets = found.setdefault(Identity.of(tunnel), {})
            # What is looked up may be another instance by now.
            parsed = parse_target(tunnel.target) if names else None
            target = parsed.id if isinstance(parsed, FixedTarget) else None
            targets.setdefault(target, []).append(tunnel.name)
        return found

    def keeper(
        self, names: Sequence[str], *, anybodys: bool
    ) -> Callable[[ActiveSession], bool]:
        """Return a predicate for sessions of these tunnels.

        Args:
            names: The tunnels.
            anybodys: Whether tunnels of these names count on other machines too, and
                of other users and configurations.
        """
        assert self.config is not None, "tunnels have a configuration"
        if anybodys:
            return lambda session: tunnel_in(session.reason) in names
        instance = instance_name(self.config.source)
        return lambda session: any(is_of(session.reason, instance, n) for n in names)


def open_ledger(identity: Identity, stack: ExitStack) -> SessionHistory:
    """Return the ledger of ``identity``; ``stack`` closes it."""
    ledger = SessionHistory(AwsClient(identity), time.sleep)
    stack.callback(ledger.close)
    return ledger


def ask_all(
    place: SessionScope, names: Sequence[str], wanted: SessionFilter
) -> tuple[list[IdentitySessions], list[AwsError]]:
    """Return the answer to each identity, and the errors of those that failed.

    Raises:
        CommandError: There is no tunnel of such a name.
    """

    def ask(
        identity: Identity, targets: Mapping[str | None, list[str]]
    ) -> IdentitySessions | AwsError:
        keepers = {
            target: place.keeper(its_names, anybodys=wanted.all_owners)
            if names
            else _keep_all
            for target, its_names in targets.items()
        }
        with ExitStack() as stack:
            try:
                return _ask(open_ledger(identity, stack), keepers, wanted)
            except AwsError as error:
                return error

    inquiries = place.inquiries(names)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="ask") as threads:
        told = list(threads.map(ask, inquiries.keys(), inquiries.values()))
    failures = [each for each in told if isinstance(each, AwsError)]
    return [each for each in told if isinstance(each, IdentitySessions)], failures


def held_by_daemons(config_path: Path | None) -> dict[str, str] | None:
    """Return tunnels by the ids of sessions that daemons hold; None without daemons."""
    documents = running(config_path)
    if not documents:
        return None
    return {
        str(session["session_id"]): str(tunnel["name"])
        for document in documents
        for tunnel in document.get("tunnels", ())
        for session in tunnel.get("sessions", ())
        if session.get("session_id")
    }


def _config(config_path: Path | None, *, needed: bool) -> Config | None:
    """Return the configuration; None if none is named, needed or there."""
    try:
        source = config_in_use(config_path)
    except ConfigError:
        if needed:
            raise
        return None
    return load(source)


def _keep_all(_session: ActiveSession) -> bool:
    return True


def _ask(
    ledger: SessionHistory,
    keepers: Mapping[str | None, Callable[[ActiveSession], bool]],
    wanted: SessionFilter,
) -> IdentitySessions:
    owner = None if wanted.all_owners else ledger.caller() or None
    entries: list[Entry] = []
    more = False
    for target, keep in keepers.items():
        query = Query(wanted.limit, past=wanted.past, owner=owner, target=target)
        some, rest = ledger.search(query, keep)
        entries += some
        more = more or rest
    return IdentitySessions(entries, more, ledger.region, owner)
