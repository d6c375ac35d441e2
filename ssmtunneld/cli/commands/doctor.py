"""``ssmtunneld doctor``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ssmtunneld.cli.destination import files_of, tunnels_named
from ssmtunneld.cli.diagnosis import new_context, run, say
from ssmtunneld.cli.exit_codes import EXIT_FAILED
from ssmtunneld.cli.options import config_in_use_option, load_in_use, names_argument
from ssmtunneld.cli.running_daemons import credentials_trouble
from ssmtunneld.cli.terminal.text import counted
from ssmtunneld.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ssmtunneld.config import TunnelSettings
    from ssmtunneld.doctor.report import Finding


@click.command()
@names_argument
@config_in_use_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def doctor(
    ctx: click.Context,
    names: tuple[str, ...],
    config_path: Path | None,
    *,
    as_json: bool,
) -> None:
    """Diagnose tunnels hop by hop.

    Tests all tunnels that are enabled, or only those called NAME, from the credentials
    to the destination, and exits with 1 if one is broken. The first broken hop is shown
    with its cause and what to do; the hops behind it are skipped. Starts and terminates
    a session for each tunnel, and needs no running daemon. The credentials are those of
    this shell; if a running daemon lacks usable ones, that is told, too.
    """
    # Click's help, completion and the configuration need none of this.
    from ssmtunneld.doctor.report import Finding, Verdict

    def report(finding: Finding) -> None:
        if not as_json:
            _print(finding)

    try:
        config = load_in_use(config_path, told=not as_json)
    except ConfigError as error:
        said = "; ".join(error.problems)
        broken = Finding("config", Verdict.FAIL, said, "correct the file")
        report(broken)
        _finish(ctx, [broken], {}, well=False, as_json=as_json)
    chosen = tunnels_named(config, names)
    parsed = Finding(
        "config", Verdict.OK, f"{files_of(config)}, {counted(len(chosen), 'tunnel')}"
    )
    report(parsed)
    found, well = _examine(chosen, config.source, report, heading=not as_json)
    _finish(ctx, [parsed], found, well=well, as_json=as_json)


def _examine(
    tunnels: Sequence[TunnelSettings],
    source: Path,
    report: Callable[[Finding], None],
    *,
    heading: bool,
) -> tuple[dict[str, list[Finding]], bool]:
    """Return the findings of each tunnel, and whether all tunnels work."""
    from ssmtunneld.doctor.report import Finding, Verdict
    from ssmtunneld.doctor.walk import examine

    context = new_context()
    found: dict[str, list[Finding]] = {}
    well = True
    for tunnel in tunnels:
        if heading:
            click.echo(f"{tunnel.name}: {tunnel.target} -> {tunnel.destination}")
        findings = found.setdefault(tunnel.name, [])

        def tell(finding: Finding, kept: list[Finding] = findings) -> None:
            kept.append(finding)
            report(finding)

        well = run(examine(tunnel, context, tell)) and well
        trouble = credentials_trouble(source, tunnel.name)
        if trouble is not None:
            tell(Finding("daemon", Verdict.FAIL, *trouble))
            well = False
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
    say(finding.verdict, f"{finding.hop}: {finding.text}", finding.cure)
