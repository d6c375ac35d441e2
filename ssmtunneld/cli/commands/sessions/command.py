"""``ssmtunneld sessions``: what the account knows, and how to end it."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from typing_extensions import override

from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.exit_codes import EXIT_REFUSED, EXIT_USAGE, CommandError
from ssmtunneld.cli.options import complete_names, config_in_use_option
from ssmtunneld.cli.terminal.text import printable
from ssmtunneld.cli.usage import SuggestingGroup
from ssmtunneld.errors import AccessDenied, AwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from click.shell_completion import CompletionItem

    from ssmtunneld.aws.api.port import ActiveSession
    from ssmtunneld.aws.sessions import SessionHistory
    from ssmtunneld.cli.commands.sessions.listing import IdentitySessions
    from ssmtunneld.cli.commands.sessions.query import SessionFilter

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_TERMINATE: Final = "terminate"


class _Sessions(SuggestingGroup):
    """Lists, unless its first word is that of a command.

    Like any command it takes options behind names, and a tunnel can have any name.
    """

    allow_interspersed_args = True

    @override
    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args[:1] == [_TERMINATE]:
            command = self.commands[_TERMINATE]
            name = f"{info_name} {_TERMINATE}"
            return command.make_context(name, args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def _identity_options(command: _Command) -> _Command:
    command = click.option(
        "--region",
        metavar="REGION",
        help="Region to ask, instead of the configuration's.",
    )(command)
    return click.option(
        "--profile",
        metavar="PROFILE",
        help="Profile to ask with, instead of the configuration's identities.",
    )(command)


def _complete(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    found = complete_names(ctx, param, incomplete)
    if _TERMINATE.startswith(incomplete) and not ctx.params.get("names"):
        found.append(CompletionItem(_TERMINATE, help="end sessions"))
    return found


@click.group(cls=_Sessions, invoke_without_command=True, subcommand_metavar="")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_complete)
@click.option(
    "--history", is_flag=True, help="List sessions that ended in the last 30 days."
)
@click.option(
    "--all-owners", is_flag=True, help="List everybody's sessions, not only your own."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Maximum number to list, newest first.",
)
@_identity_options
@config_in_use_option
def sessions(
    names: tuple[str, ...],
    config_path: Path | None,
    *,
    profile: str | None,
    region: str | None,
    as_json: bool,
    **wanted: Any,
) -> None:
    """List the sessions that AWS knows, or terminate some.

    Lists active sessions of the identities in the configuration, or of the
    environment's identity without one, wherever they were started. With NAMEs, only
    sessions of these tunnels; with --all-owners too, of anybody's tunnels of these
    names. HELD marks sessions of a daemon on this machine.

    `sessions terminate ID...` ends sessions: see `sessions terminate --help`.

    Needs ssm:DescribeSessions.
    """
    # Click's help and completion need none of this.
    from ssmtunneld.cli.commands.sessions.query import (
        SessionFilter,
        SessionScope,
        ask_all,
    )

    place = SessionScope.of(config_path, profile, region, names)
    options = SessionFilter(past=wanted.pop("history"), **wanted)
    found, failures = ask_all(place, names, options)
    if len(failures) == 1 and not found:
        raise failures[0]
    if found:
        _show(found, config_path, options, as_json=as_json)
    _fail(failures, "of the identities could not be asked")


@sessions.command(_TERMINATE)
@click.argument("session_ids", nargs=-1, required=True, metavar="ID...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_identity_options
@config_in_use_option
def terminate(
    session_ids: tuple[str, ...],
    config_path: Path | None,
    *,
    profile: str | None,
    region: str | None,
    yes: bool,
) -> None:
    """Terminate sessions; their connections are reset.

    Asks before it ends a session of somebody else, or one that a daemon here holds,
    which then starts another one. Without a terminal, --yes must be given for these.

    Needs ssm:TerminateSession, and ssm:DescribeSessions to know whose a session is.
    """
    from ssmtunneld.cli.commands.sessions.query import (
        SessionScope,
        held_by_daemons,
        open_ledger,
    )

    place = SessionScope.of(config_path, profile, region)
    with ExitStack() as stack:
        ledgers = [open_ledger(identity, stack) for identity in place.inquiries()]
        located = {each: _locate(ledgers, each) for each in dict.fromkeys(session_ids)}
        if not yes:
            held = held_by_daemons(config_path) or {}
            _confirm(
                [doubt for i in located for doubt in _doubts(i, *located[i], held)]
            )
        _end({session_id: ledger for session_id, (ledger, _) in located.items()})


def _show(
    found: Sequence[IdentitySessions],
    config_path: Path | None,
    options: SessionFilter,
    *,
    as_json: bool,
) -> None:
    from ssmtunneld.cli.commands.sessions import listing
    from ssmtunneld.cli.commands.sessions.query import held_by_daemons

    now = time.time_ns() / 1e9
    held = held_by_daemons(config_path)
    lines, more = listing.lines_of(found, held, options.limit)
    if as_json:
        document = listing.document(lines, past=options.past, truncated=more, now=now)
        click.echo(json.dumps(document, indent=2))
    else:
        everybody = any(some.owner is None for some in found)
        click.echo(listing.headline(found, len(lines), past=options.past))
        _draw(
            lambda width: listing.table(
                lines, width, past=options.past, everybody=everybody, now=now
            ),
            len(lines),
        )
    if not options.all_owners and any(some.owner is None for some in found):
        words = "STS does not tell who you are here: these are everybody's sessions"
        tell(words)
    if more:
        tell("there are more: raise --limit")


def _draw(make: Callable[[int], Any], count: int) -> None:
    from ssmtunneld.cli.terminal.table import open_console

    if not count:
        return
    console = open_console()
    with console.capture() as drawn:
        console.print(make(console.width))
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())


def _locate(
    ledgers: Sequence[SessionHistory], session_id: str
) -> tuple[SessionHistory, ActiveSession | None]:
    """Return who can end a session, and what is known of it.

    Raises:
        CommandError: There is no such session.
        AwsError: It could not be looked for.
    """
    found: list[tuple[SessionHistory, ActiveSession | None]] = []
    troubles: list[AwsError] = []
    for ledger in ledgers:
        try:
            session = ledger.find(session_id)
        except AwsError as error:
            troubles.append(error)
            if isinstance(error, AccessDenied):
                # Ending one's own sessions is often allowed where listing them is not.
                found.append((ledger, None))
        else:
            found += [(ledger, session)] if session else []
    if not found and troubles:
        raise troubles[0]
    if not found:
        raise CommandError(
            f"there is no active session {printable(session_id)}",
            "list them: ssmtunneld sessions",
        )
    if len(found) == 1:
        return found[0]
    # Several identities of an account see it, and mostly only its owner may end it.
    return min(found, key=lambda pair: (pair[1] is None, not _is_own(*pair)))


def _is_own(ledger: SessionHistory, session: ActiveSession | None) -> bool:
    try:
        return session is not None and session.owner == ledger.caller()
    except AwsError:
        return False  # nobody knows


def _doubts(
    session_id: str,
    ledger: SessionHistory,
    session: ActiveSession | None,
    held: Mapping[str, str],
) -> Iterator[str]:
    """Yield why somebody should be asked before a session is ended."""
    shown = printable(session_id)
    if session is None:
        yield f"{shown}: ssm:DescribeSessions is denied, so its owner is unknown"
    elif not _is_own(ledger, session):
        reason = f" ({printable(session.reason)})" if session.reason else ""
        yield f"{shown} belongs to {printable(session.owner)}{reason}"
    if session_id in held:
        yield f"{shown} is held by the running daemon, for tunnel {held[session_id]}"


def _confirm(doubts: Sequence[str]) -> None:
    if not doubts:
        return
    if not sys.stdin.isatty():
        raise CommandError(
            "nothing was terminated: there is no terminal to confirm on",
            "pass --yes to confirm",
            code=EXIT_USAGE,
            problems=doubts,
        )
    for doubt in doubts:
        tell(doubt)
    if not click.confirm("Terminate anyway?", err=True):
        raise CommandError("nothing was terminated")


def _end(ledgers: Mapping[str, SessionHistory]) -> None:
    failures: list[AwsError] = []
    for session_id, ledger in ledgers.items():
        try:
            was_there = ledger.terminate(session_id)
        except AwsError as error:
            failures.append(error)
        else:
            words = "terminated" if was_there else "had already ended"
            click.echo(f"{printable(session_id)}: {words}")
    if len(failures) == 1:
        raise failures[0]
    _fail(failures, "of the sessions could not be terminated")


def _fail(failures: Sequence[AwsError], what: str) -> None:
    from ssmtunneld.cli.main import describe

    if failures:
        raise CommandError(
            f"{len(failures)} {what}",
            code=EXIT_REFUSED,
            problems=[line for error in failures for line in describe(error)],
        )
