"""``ssmtunneld doctor``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NoReturn

import click
from typing_extensions import override

from ssmtunneld.cli.destination import files_of, tunnels_named
from ssmtunneld.cli.diagnosis import new_context, run, say
from ssmtunneld.cli.exit_codes import EXIT_FAILED
from ssmtunneld.cli.options import config_in_use_option, load_in_use, names_argument
from ssmtunneld.cli.running_daemons import credentials_trouble
from ssmtunneld.cli.terminal.text import counted
from ssmtunneld.errors import ConfigError, ConfigMissing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ssmtunneld.config import Config, TunnelSettings
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

    Tests all tunnels that are enabled, or only those called NAME, from the local
    addresses and the credentials to the destination, and exits with 1 if one is broken.
    The first broken hop is shown with its cause and what to do; the hops behind it are
    skipped. Starts and terminates a session for each tunnel, and needs no running
    daemon; of one that runs it asks whether clients can connect, and whether it has
    usable credentials: its environment is not that of this shell.
    """
    # Click's help, completion and the configuration need none of this.
    from ssmtunneld.doctor.report import Finding, Verdict

    report = _Silence() if as_json else _Lines()
    try:
        config = load_in_use(config_path, told=not as_json)
    except ConfigError as error:
        said, cure = "; ".join(error.problems), "correct the file"
        if isinstance(error, ConfigMissing):
            said, cure = error.words, error.cure
        broken = Finding("config", Verdict.FAIL, said, cure)
        report.tell(broken)
        _finish(ctx, [broken], {}, well=False, as_json=as_json)
    chosen = tunnels_named(config, names)
    words = f"{files_of(config)}, {_number(len(chosen), config)}"
    parsed = Finding("config", Verdict.OK, words)
    report.tell(parsed)
    found, well = _examine(config, chosen, report)
    _finish(ctx, [parsed], found, well=well, as_json=as_json)


def _number(chosen: int, config: Config) -> str:
    """Return how many tunnels are examined, and of how many."""
    total = len(config.tunnels)
    of = "" if chosen == total else f"{chosen} of "
    return f"{of}{counted(total, 'tunnel')}"


class _Silence:
    """Says nothing before all is known, as one document."""

    def begin(self, tunnel: TunnelSettings) -> None:
        """Begin with a tunnel."""

    def tell(self, finding: Finding) -> None:
        """Take one finding."""

    def end(self) -> None:
        """End with a tunnel."""


class _Lines(_Silence):
    """Prints a line for each finding, and one for all hops that were not reached."""

    def __init__(self) -> None:
        self._unreached: list[Finding] = []

    @override
    def begin(self, tunnel: TunnelSettings) -> None:
        click.echo(f"{tunnel.name}: {tunnel.target} -> {tunnel.destination}")

    @override
    def tell(self, finding: Finding) -> None:
        from ssmtunneld.doctor.report import NOT_REACHED

        if finding.text.startswith(NOT_REACHED):
            self._unreached.append(finding)
        else:
            _print(finding)

    @override
    def end(self) -> None:
        unreached, self._unreached = self._unreached, []
        if not unreached:
            return
        first, last = unreached[0], unreached[-1]
        hops = first.hop if first is last else f"{first.hop} to {last.hop}"
        _print(replace(first, hop=hops))


def _examine(
    config: Config, tunnels: Sequence[TunnelSettings], report: _Silence
) -> tuple[dict[str, list[Finding]], bool]:
    """Return the findings of each tunnel, and whether all tunnels work."""
    from ssmtunneld.cli.local_addresses import look_at_addresses
    from ssmtunneld.doctor.report import Finding, Verdict
    from ssmtunneld.doctor.walk import examine

    addresses = run(look_at_addresses(config, tunnels))
    context = new_context()
    found: dict[str, list[Finding]] = {}
    well = True
    for tunnel in tunnels:
        report.begin(tunnel)
        findings = found.setdefault(tunnel.name, [])

        def tell(finding: Finding, kept: list[Finding] = findings) -> None:
            kept.append(finding)
            report.tell(finding)

        # What is broken here says nothing of the way behind it.
        tell(addresses[tunnel.name])
        well = well and addresses[tunnel.name].verdict is not Verdict.FAIL
        well = run(examine(tunnel, context, tell)) and well
        report.end()
        trouble = credentials_trouble(config.source, tunnel.name)
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
