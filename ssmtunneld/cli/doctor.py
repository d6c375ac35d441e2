"""``ssmtunneld doctor``."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from ssmtunneld.cli.destination import tunnel_named
from ssmtunneld.cli.exits import EXIT_FAILED
from ssmtunneld.cli.options import config_option, load, names_argument
from ssmtunneld.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ssmtunneld.config import Tunnel
    from ssmtunneld.doctor.report import Finding

_COLOURS: Final = {"ok": "green", "fail": "red", "skip": "yellow"}


@click.command()
@names_argument
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def doctor(
    ctx: click.Context,
    names: tuple[str, ...],
    config_path: Path | None,
    *,
    as_json: bool,
) -> None:
    """Walk the way of tunnels, hop by hop; exit with 1 if one is broken.

    With NAMEs, only these tunnels. The first hop that is broken is named, with what was
    found and what to do about it; those behind it are skipped. The daemon need not run.
    A session is started and terminated for each tunnel.
    """
    # Click's help, completion and the configuration need none of this.
    from ssmtunneld.doctor.report import Finding, Verdict
    from ssmtunneld.ops import logs

    def say(finding: Finding) -> None:
        if not as_json:
            _print(finding)

    try:
        config = load(config_path)
    except ConfigError as error:
        broken = Finding("config", Verdict.FAIL, "; ".join(error.problems))
        say(broken)
        _finish(ctx, [broken], {}, well=False, as_json=as_json)
    chosen = [tunnel_named(config, name) for name in names] or list(config.tunnels)
    logs.configure("error", "auto")
    parsed = Finding("config", Verdict.OK, f"{config.source}, {len(chosen)} tunnels")
    say(parsed)
    found, well = _examine(chosen, say, heading=not as_json)
    _finish(ctx, [parsed], found, well=well, as_json=as_json)


def _examine(
    tunnels: Sequence[Tunnel], say: Callable[[Finding], None], *, heading: bool
) -> tuple[dict[str, list[Finding]], bool]:
    """Return what was found of each tunnel, and whether all are well."""
    from ssmtunneld.doctor.walk import World, examine
    from ssmtunneld.log import get_log

    world = World(wall_clock=lambda: time.time_ns() / 1e9, log=get_log())
    found: dict[str, list[Finding]] = {}
    well = True
    for tunnel in tunnels:
        if heading:
            click.echo(f"{tunnel.name}: {tunnel.target} -> {tunnel.destination}")
        findings = found.setdefault(tunnel.name, [])

        def tell(finding: Finding, kept: list[Finding] = findings) -> None:
            kept.append(finding)
            say(finding)

        well = asyncio.run(examine(tunnel, world, tell)) and well
    return found, well


def _finish(
    ctx: click.Context,
    common: Sequence[Finding],
    found: dict[str, list[Finding]],
    *,
    well: bool,
    as_json: bool,
) -> NoReturn:
    if as_json:
        document: dict[str, Any] = {
            "ok": well,
            "findings": [asdict(finding) for finding in common],
            "tunnels": {
                name: [asdict(finding) for finding in findings]
                for name, findings in found.items()
            },
        }
        click.echo(json.dumps(document, indent=2))
    ctx.exit(0 if well else EXIT_FAILED)


def _print(finding: Finding) -> None:
    mark = click.style(f"[{finding.verdict}]", fg=_COLOURS[finding.verdict])
    # Padded by hand: the colour's bytes would count.
    space = " " * (6 - len(finding.verdict))
    # None: in colour on a terminal only.
    color = False if os.environ.get("NO_COLOR") else None
    click.echo(f"  {mark}{space}{finding.hop}: {finding.text}", color=color)
    if finding.cure:
        click.echo(f"          cure: {finding.cure}")
