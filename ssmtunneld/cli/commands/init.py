"""``ssmtunneld init``: a first configuration file."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssmtunneld.base.paths import real_path
from ssmtunneld.cli.ad_hoc import check_target
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.options import file_option
from ssmtunneld.cli.setup import config_file
from ssmtunneld.cli.terminal.picker import can_ask

if TYPE_CHECKING:
    from ssmtunneld.cli.setup.first_configuration import Plan, Surroundings


@click.command(
    epilog="Examples: `ssmtunneld init`; "
    "`ssmtunneld init ssh=22 orders-db=orders.internal:5432 --target tag:Role=bastion "
    "--profile prod --region eu-west-1`.",
)
@click.argument("wanted", metavar="[[NAME=][HOST:]PORT]...", nargs=-1)
@click.option("--target", metavar="TARGET", help="Where the agent runs.")
@click.option("--profile", metavar="NAME", help="The AWS profile.")
@click.option("--region", metavar="REGION", help="The AWS region.")
@click.option(
    "--endpoint-url", metavar="URL", help="The SSM API, where it is not the public one."
)
@click.option(
    "--listen",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="Where to listen, as in the file; repeatable, in the order of the "
    "destinations. By default the destination's port (privileged ones plus 10000), or "
    "the next one that is free.",
)
@click.option(
    "--service/--no-service",
    default=None,
    help="Also install the daemon as a service, see ssmtunneld service.",
)
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@file_option(
    "The file to write. By default $SSMTUNNELD_CONFIG, then config.toml in the "
    "user's configuration directory."
)
@click.pass_context
def init(
    ctx: click.Context,
    /,
    wanted: tuple[str, ...],
    config_path: Path | None,
    *,
    addresses: tuple[str, ...],
    service: bool | None,
    force: bool,
    **given: str | None,
) -> None:
    """Write a first configuration file, and say what to type next.

    On a terminal it asks for what is not given: profile, region, target, destinations
    (from ssmtunneld discover), local ports, and whether to install a service. Without
    one, TARGET and a destination must be given. Profile, region and endpoint come from
    the environment where no option says them, and are written down; what the file
    cannot say is told. A file that exists is replaced only if you agree, or with
    --force.
    """
    from ssmtunneld.cli.setup.first_configuration import Surroundings
    from ssmtunneld.config.load import VARIABLE, user_config

    path = config_path or Path(os.environ.get(VARIABLE) or user_config(os.environ))
    before = config_file.read(path)
    ask = can_ask()
    if before is not None and not force:
        _refuse_or_agree(path, ask=ask)
    surroundings = Surroundings.of(os.environ)
    try:
        plan = _plan(given, wanted, addresses, surroundings, ask=ask)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    config_file.save(path, before, plan.text())
    click.echo(f"{path}: written, with {', '.join(t.name for t in plan.tunnels)}")
    if service is None and ask:
        from ssmtunneld.cli.setup.conversation import confirm

        service = confirm("Install it as a service, which starts now and at login?")
    _say_needed(plan, surroundings)
    _say_next(plan, path, service=bool(service))
    if service:
        from ssmtunneld.cli.child_process import run_program
        from ssmtunneld.cli.service.manager import program

        words = [*program(sys.argv[0]), "service", "install", *_option(path)]
        ctx.exit(run_program(words, os.environ))


def _refuse_or_agree(path: Path, *, ask: bool) -> None:
    if not ask:
        raise CommandError(
            f"{path} exists",
            "replace it with --force, or add to it: ssmtunneld add",
            code=EXIT_USAGE,
        )
    from ssmtunneld.cli.setup.conversation import confirm

    if not confirm(f"{path} exists. Replace it?"):
        raise CommandError(f"{path} stays as it is", "add to it with ssmtunneld add")


def _plan(
    given: dict[str, str | None],
    wanted: tuple[str, ...],
    addresses: tuple[str, ...],
    surroundings: Surroundings,
    *,
    ask: bool,
) -> Plan:
    """Return what to write.

    Raises:
        ValueError: Something is missing, or is not a destination.
    """
    from ssmtunneld.cli.setup.first_configuration import (
        Plan,
        plan_tunnels,
        with_addresses,
    )

    target = given.pop("target") or ""
    url = given["endpoint_url"] or surroundings.endpoint_url
    plan = Plan(target, given["profile"], given["region"], url)
    if ask:
        from ssmtunneld.cli.setup.conversation import converse

        return converse(plan, wanted, surroundings, addresses)
    if not target:
        raise ValueError("which --target? ssmtunneld targets lists them")
    check_target(target)
    if not wanted:
        raise ValueError("where to? name destinations, such as ssh=22 db.internal:5432")
    plan.profile = plan.profile or surroundings.profile
    plan.region = plan.region or surroundings.region
    plan.tunnels = with_addresses(plan_tunnels(wanted), addresses)
    return plan


def _option(path: Path) -> list[str]:
    from ssmtunneld.config.load import user_config

    return [] if path == user_config(os.environ) else ["-c", str(path)]


def _say_needed(plan: Plan, surroundings: Surroundings) -> None:
    needed = plan.needed(surroundings)
    if needed:
        click.echo(
            f"not in the file, but needed where the daemon runs: {', '.join(needed)}"
        )


def _say_next(plan: Plan, path: Path, *, service: bool) -> None:
    from ssmtunneld.cli.running_daemons import running

    words = _option(path)
    if any(found["config"] != str(real_path(path)) for found in running(None)):
        words = ["-c", str(path)]  # else ``check`` would be about that daemon's file
    option = f" {shlex.join(words)}" if words else ""
    click.echo("\nNext:")
    click.echo(f"  ssmtunneld check --live{option}   # do the tunnels work?")
    if not service:
        click.echo(f"  ssmtunneld run{option}            # Ctrl-C ends it")
    for tunnel in plan.tunnels:
        if tunnel.client:
            click.echo(f"  {tunnel.client}   # {tunnel.name}")
