"""``ssmtunneld targets``: what sessions can be started to."""

from __future__ import annotations

import json
import shlex
import time
from typing import TYPE_CHECKING, Any

import click

from ssmtunneld.cli.accounts import (
    ask_everywhere,
    matches,
    places_options,
    report_failures,
)
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.exit_codes import EXIT_FAILED, EXIT_REFUSED
from ssmtunneld.cli.terminal.text import counted, duration, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ssmtunneld.aws.targets.inventory import Inventory, Node
    from ssmtunneld.cli.accounts import Told

DOCUMENT_VERSION = 1


@click.command(
    epilog="Examples: `ssmtunneld targets`; `ssmtunneld targets bastion --all`; "
    "`ssmtunneld targets --profile dev --profile prod --region eu-west-1 --json`.",
)
@click.argument("words", metavar="[FILTER]...", nargs=-1)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also those that are not online, with the likely reason.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@places_options
@click.pass_context
def targets(
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    profiles: tuple[str, ...],
    regions: tuple[str, ...],
    endpoint_url: str | None,
    *,
    everything: bool,
    as_json: bool,
) -> None:
    """List the targets of an account and region that are online.

    Each FILTER must be part of what a line shows, such as a name or an id. CAN says
    what the agent's version allows: "mux" is many connections in one session, "hosts"
    is destinations beyond the target itself.
    """
    from ssmtunneld.aws.targets.inventory import list_nodes

    told, failures = ask_everywhere(
        profiles,
        regions,
        endpoint_url,
        lambda account: list_nodes(account, everything=everything),
    )
    report_failures(failures, alone=not told)
    if not told:
        ctx.exit(EXIT_REFUSED)
    lines = [(each, node) for each in told for node in each.answer.nodes]
    shown = [(each, node) for each, node in lines if _is_wanted(each, node, words)]
    if as_json:
        click.echo(json.dumps(_document(told, shown), indent=2))
    else:
        _print(told, shown, words, everything=everything)
    ctx.exit(EXIT_FAILED if failures else 0)


def _is_wanted(told: Told[Inventory], node: Node, words: Sequence[str]) -> bool:
    return matches(
        words,
        *(node.id, node.name, node.platform, node.address, node.vpc, node.ping),
        *(node.agent_version, told.profile, told.region),
    )


def _document(
    told: Sequence[Told[Inventory]], shown: Sequence[tuple[Told[Inventory], Node]]
) -> dict[str, Any]:
    return {
        "version": DOCUMENT_VERSION,
        "problems": [
            each.answer.shortcoming for each in told if each.answer.shortcoming
        ],
        "targets": [
            {
                "id": node.id,
                "name": node.name or None,
                "profile": each.profile or None,
                "region": each.region,
                "account": each.answer.account or None,
                "online": node.online,
                "ping": node.ping or None,
                "agent_version": node.agent_version or None,
                "mux": node.can_multiplex,
                "remote_hosts": node.can_reach_hosts,
                "platform": node.platform or None,
                "address": node.address or None,
                "vpc": node.vpc or None,
                "last_seen": node.last_seen or None,
                "reason": node.reason or None,
            }
            for each, node in shown
        ],
    }


def _print(
    told: Sequence[Told[Inventory]],
    shown: Sequence[tuple[Told[Inventory], Node]],
    words: Sequence[str],
    *,
    everything: bool,
) -> None:
    from ssmtunneld.cli.terminal.table import Column, draw, open_console

    for shortcoming in dict.fromkeys(each.answer.shortcoming for each in told):
        if shortcoming:
            tell(f"ssmtunneld: {shortcoming}")
    where = ", ".join(dict.fromkeys(each.region for each in told))
    what = counted(len(shown), "target" if everything else "online target")
    click.echo(f"{what} in {where}{' that match' if words else ''}")
    if not shown:
        if not everything:
            command = shlex.join(["ssmtunneld", "targets", *words, "--all"])
            tell(f"see why: {command}")
        return
    now = time.time_ns() / 1e9
    rows = [_row(each, node, now) for each, node in shown]
    columns = [
        Column("ID", 0, _cell("id")),
        Column("NAME", 0, _cell("name")),
        Column("AGENT", 2, _cell("agent")),
        Column("CAN", 1, _cell("can")),
        Column("PLATFORM", 4, _cell("platform")),
        Column("ADDRESS", 3, _cell("address")),
        Column("SEEN", 5, _cell("seen"), right=True),
        Column("VPC", 6, _cell("vpc")),
    ]
    if everything:
        columns.insert(
            2,
            Column("PING", 0, _cell("ping"), style=lambda row: _STYLES[row["online"]]),
        )
    if len(told) > 1:
        columns.insert(2, Column("PLACE", 0, _cell("place")))
    console = open_console()
    console.print(draw(rows, columns, console.width))


_STYLES = {True: "green", False: "yellow"}


def _cell(key: str) -> Callable[[dict[str, Any]], Sequence[str]]:
    return lambda row: [row[key]]


def _row(told: Told[Inventory], node: Node, now: float) -> dict[str, Any]:
    can = {"mux": node.can_multiplex, "hosts": node.can_reach_hosts}
    allowed = " ".join(word for word, possible in can.items() if possible)
    seen = duration(max(0.0, now - node.last_seen)) if node.last_seen else "-"
    return {
        "id": printable(node.id),
        "name": printable(node.name) or "-",
        "online": node.online,
        "ping": printable(node.ping) or "never",
        "agent": printable(node.agent_version) or "-",
        "can": allowed or "-",
        "platform": printable(node.platform) or "-",
        "address": printable(node.address) or "-",
        "seen": seen,
        "vpc": printable(node.vpc) or "-",
        "place": "/".join(filter(None, (told.profile, told.region))),
        # What ``draw`` puts below a row.
        "reason": printable(node.reason),
        "advice": "",
    }
