"""``ssmtunneld discover``: possible destinations of tunnels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from ssmtunneld.cli.accounts import (
    ask_everywhere,
    matches,
    places_options,
    report_failures,
)
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.exit_codes import EXIT_FAILED, EXIT_REFUSED
from ssmtunneld.cli.terminal.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ssmtunneld.aws.discovery import Discovery, Resource
    from ssmtunneld.aws.targets.inventory import Inventory, Node
    from ssmtunneld.cli.accounts import Told

    Answer = Told[tuple[Discovery, Inventory]]

DOCUMENT_VERSION: Final = 1
_SHOWN: Final = 2
"""Targets that a line names."""


@click.command(
    epilog="Examples: `ssmtunneld discover`; `ssmtunneld discover orders`; "
    "`ssmtunneld discover aurora writer --region eu-west-1 --json`.",
)
@click.argument("words", metavar="[FILTER]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@places_options
@click.pass_context
def discover(
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    profiles: tuple[str, ...],
    regions: tuple[str, ...],
    endpoint_url: str | None,
    *,
    as_json: bool,
) -> None:
    """List databases, caches, clusters and load balancers of an account.

    With host and port, and the online targets in the same VPC, which may reach them
    (security groups decide). Each FILTER must be part of what a line shows. A service
    that may not be asked is said in a line.
    """
    from ssmtunneld.cli.setup.discovered import in_same_vpc, look_with

    told, failures = ask_everywhere(profiles, regions, endpoint_url, look_with)
    report_failures(failures, alone=not told)
    if not told:
        ctx.exit(EXIT_REFUSED)
    lines = [
        (each, found, in_same_vpc(found, each.answer[1].nodes))
        for each in told
        for found in each.answer[0].resources
    ]
    shown = [line for line in lines if _is_wanted(line[0], line[1], words)]
    problems = _problems(told)
    if as_json:
        click.echo(json.dumps(_document(shown, problems), indent=2))
    else:
        for problem in problems:
            tell(f"ssmtunneld: {problem}")
        _print(told, shown)
    ctx.exit(EXIT_FAILED if failures else 0)


def _is_wanted(told: Answer, found: Resource, words: Sequence[str]) -> bool:
    return matches(
        words,
        *(found.id, found.service, found.engine, found.role, found.host, found.vpc),
        *(str(found.port), told.profile, told.region),
    )


def _problems(told: Iterable[Answer]) -> list[str]:
    found = [
        problem
        for each in told
        for problem in (*each.answer[0].problems, each.answer[1].shortcoming)
    ]
    return [problem for problem in dict.fromkeys(found) if problem]


def _document(
    shown: Sequence[tuple[Answer, Resource, list[Node]]], problems: Sequence[str]
) -> dict[str, Any]:
    return {
        "version": DOCUMENT_VERSION,
        "problems": list(problems),
        "resources": [
            {
                "id": found.id,
                "service": found.service,
                "engine": found.engine,
                "role": found.role or None,
                "host": found.host,
                "port": found.port,
                "vpc": found.vpc or None,
                "targets": [node.id for node in nodes],
                "profile": each.profile or None,
                "region": each.region,
            }
            for each, found, nodes in shown
        ],
    }


def _print(
    told: Sequence[Answer], shown: Sequence[tuple[Answer, Resource, list[Node]]]
) -> None:
    from ssmtunneld.cli.terminal.table import Column, draw, open_console

    where = ", ".join(dict.fromkeys(each.region for each in told))
    count = counted(len(shown), "address")
    click.echo(f"{count.replace('addresss', 'addresses')} in {where}")
    if not shown:
        return
    columns = [
        Column("ID", 0, _cell("id")),
        Column("ENGINE", 1, _cell("engine")),
        Column("ROLE", 2, _cell("role")),
        Column("HOST", 0, _cell("host")),
        Column("PORT", 0, _cell("port"), right=True),
        Column("TARGETS", 3, _cell("targets")),
        Column("VPC", 4, _cell("vpc")),
    ]
    if len(told) > 1:
        columns.insert(1, Column("PLACE", 0, _cell("place")))
    console = open_console()
    rows = [_row(*line) for line in shown]
    console.print(draw(rows, columns, console.width))


def _cell(key: str) -> Callable[[dict[str, Any]], Sequence[str]]:
    return lambda row: [row[key]]


def _row(told: Answer, found: Resource, nodes: Sequence[Node]) -> dict[str, Any]:
    names = [printable(node.name or node.id) for node in nodes]
    more = f" +{len(names) - _SHOWN}" if len(names) > _SHOWN else ""
    return {
        "id": printable(found.id),
        "engine": printable(found.engine) or found.service,
        "role": printable(found.role) or "-",
        "host": printable(found.host),
        "port": str(found.port),
        "vpc": printable(found.vpc) or "-",
        "targets": (", ".join(names[:_SHOWN]) + more) or "-",
        "place": "/".join(filter(None, (told.profile, told.region))),
        "reason": "",
        "advice": "",
    }
