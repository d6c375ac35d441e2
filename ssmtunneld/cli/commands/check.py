"""``ssmtunneld check``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ssmtunneld.cli import asides
from ssmtunneld.cli.destination import files_of, origin_of, tunnels_named
from ssmtunneld.cli.exit_codes import EXIT_FAILED, EXIT_USAGE
from ssmtunneld.cli.options import (
    config_in_use_option,
    load_in_use,
    names_argument,
    refuse_alone,
    timeout_option,
)
from ssmtunneld.cli.terminal.text import counted
from ssmtunneld.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ssmtunneld.config import Config, TunnelSettings
    from ssmtunneld.doctor.parallel import Outcome
    from ssmtunneld.doctor.report import Finding


@click.command()
@names_argument
@click.option(
    "--live",
    is_flag=True,
    help="Also test the tunnels, as doctor does, with one line for each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@timeout_option("60s", "With --live, the limit for all tunnels together")
@config_in_use_option
@click.pass_context
def check(
    ctx: click.Context,
    names: tuple[str, ...],
    config_path: Path | None,
    timeout: float,
    *,
    live: bool,
    as_json: bool,
) -> None:
    """Check a configuration file, and optionally its tunnels.

    Reads the file and those that it includes, and lists the tunnels, or only those
    called NAME; exits with 2 if a file is invalid. --live tests each tunnel that is
    enabled, or named, from its local addresses (of its daemon, if that runs) and the
    credentials to its destination, a few at a time, and exits with 1 if one is broken.
    It starts and terminates a session for each tunnel, and needs no running daemon.
    """
    refuse_alone("timeout", "--live", given=live)
    try:
        config = load_in_use(config_path, told=not as_json)
    except ConfigError as error:
        if not as_json:
            raise
        refusal = {"ok": False, "problems": error.problems}
        _print_document({**refusal, "warnings": [], "tunnels": {}})
        ctx.exit(EXIT_USAGE)
    enabled = tunnels_named(config, names)
    chosen = enabled if names else list(config.tunnels)
    if not as_json:
        off = sum(not tunnel.enabled for tunnel in chosen)
        rest = f", {off} disabled" if off else ""
        click.echo(f"{files_of(config)}: {counted(len(chosen), 'tunnel')}{rest}")
        for line in _warnings(config, chosen):
            asides.tell(f"warning: {line}")
    if live:
        ctx.exit(_try_all(config, enabled, timeout, as_json=as_json))
    if as_json:
        found = {tunnel.name: _way(config, tunnel) for tunnel in chosen}
        _print_document(_document(config, found, _warnings(config, chosen)))
        return
    for tunnel in chosen:
        click.echo(f"  {_line(config, tunnel)}")


def _line(config: Config, tunnel: TunnelSettings) -> str:
    """Return where a tunnel leads, and what is not usual about it."""
    listen = ", ".join(map(str, tunnel.listen))
    state = "" if tunnel.enabled else "disabled"
    notes = ", ".join(filter(None, [state, origin_of(config, tunnel.name)]))
    tail = f" ({notes})" if notes else ""
    return f"{tunnel.name}: {listen} -> {tunnel.target} -> {tunnel.destination}{tail}"


def _try_all(
    config: Config, tunnels: Sequence[TunnelSettings], timeout: float, *, as_json: bool
) -> int:
    """Walk along ``tunnels``, print what comes of it, and return the exit code."""
    from ssmtunneld.cli.diagnosis import API_PATIENCE, new_context, run
    from ssmtunneld.cli.local_addresses import look_at_addresses
    from ssmtunneld.doctor.parallel import examine_all

    # Enough of the time must be left to say what stood in the way.
    context = new_context(min(API_PATIENCE, timeout / 2))
    found: dict[str, Outcome] = {}
    addresses: dict[str, Finding] = {}
    names = [tunnel.name for tunnel in tunnels]
    tell = _in_order(names, found, addresses, silent=as_json)

    async def rounds() -> None:
        addresses.update(await look_at_addresses(config, tunnels))
        await examine_all(tunnels, context, tell, timeout=timeout)
        if as_json:  # before threads that still wait for the network are waited for
            results = {
                t.name: _way(config, t) | _result(found[t.name]) for t in tunnels
            }
            _print_document(_document(config, results, _warnings(config, tunnels)))

    run(rounds())
    return EXIT_FAILED if any(o.broken for o in found.values()) else 0


def _in_order(
    names: Sequence[str],
    found: dict[str, Outcome],
    addresses: dict[str, Finding],
    *,
    silent: bool,
) -> Callable[[Outcome], None]:
    """Return what keeps outcomes, and prints each once those before it are known."""
    from ssmtunneld.doctor.parallel import Outcome

    waiting = list(names)

    def tell(outcome: Outcome) -> None:
        finding = addresses[outcome.tunnel]
        outcome = Outcome(outcome.tunnel, (finding, *outcome.findings))
        found[outcome.tunnel] = outcome
        while not silent and waiting and waiting[0] in found:
            _print(found[waiting.pop(0)])

    return tell


def _print(outcome: Outcome) -> None:
    from ssmtunneld.cli.diagnosis import say

    verdict, words = "ok", [finding.told for finding in outcome.warnings]
    if outcome.broken is not None:
        verdict, words = "fail", [outcome.broken.told]
    elif words:
        verdict = "warn"
    tail = f": {'; '.join(words)}" if words else ""
    say(verdict, f"{outcome.tunnel}{tail}")


def _way(config: Config, tunnel: TunnelSettings) -> dict[str, Any]:
    return {
        "file": str(config.origins[tunnel.name]),
        "enabled": tunnel.enabled,
        "groups": list(tunnel.groups),
        "listen": [str(address) for address in tunnel.listen],
        "target": str(tunnel.target),
        "destination": tunnel.destination,
    }


def _result(outcome: Outcome) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "ok": outcome.broken is None,
        "broken": asdict(outcome.broken) if outcome.broken else None,
        "warnings": [asdict(finding) for finding in outcome.warnings],
    }


def _warnings(config: Config, tunnels: Sequence[TunnelSettings]) -> list[str]:
    from ssmtunneld.cli.config_warnings import find_file_warnings, find_warnings

    unmatched = [f"include: {words} matches no file" for words in config.unmatched]
    own = find_file_warnings(config.daemon)
    return [*unmatched, *own, *find_warnings(tunnels)]


def _document(
    config: Config, tunnels: dict[str, dict[str, Any]], warnings: Sequence[str]
) -> dict[str, Any]:
    return {
        "ok": all(tunnel.get("ok", True) for tunnel in tunnels.values()),
        "config": str(config.source),
        "included": [str(path) for path in config.included],
        "problems": [],
        "warnings": list(warnings),
        "tunnels": tunnels,
    }


def _print_document(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, indent=2))
