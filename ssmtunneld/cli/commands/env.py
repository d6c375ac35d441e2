"""``ssmtunneld env``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ssmtunneld.cli.database import KINDS, TOKEN_VARIABLES, kind_of, variables
from ssmtunneld.cli.destination import local_end, tunnel_named
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.options import config_in_use_option, load_in_use, name_argument
from ssmtunneld.cli.terminal.quoting import FORMATS

if TYPE_CHECKING:
    from pathlib import Path

_SH: Final = "sh"


@click.command()
@name_argument
@click.option(
    "--format",
    "style",
    type=click.Choice(list(FORMATS)),
    default=_SH,
    show_default=True,
    help="Output format: for a shell, JSON, or a .env file.",
)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="Kind of database. By default the tunnel's db_engine, or what its port is "
    "known for.",
)
@click.option(
    "--token",
    is_flag=True,
    help="Add an IAM password, valid for 15 minutes, and for Redshift its user.",
)
@config_in_use_option
def env(
    name: str, style: str, kind: str | None, config_path: Path | None, *, token: bool
) -> None:
    """Print environment variables for database programs.

    With them psql, mysql, redis-cli and others connect through tunnel NAME. For
    PostgreSQL, PGHOST is the database's own name and PGHOSTADDR the tunnel's local
    address, so that sslmode=verify-full works. URLs never contain a password.

    \b
    sh    eval "$(ssmtunneld env orders-db)"
    fish  ssmtunneld env orders-db --format fish | source
    """  # noqa: D301 - a real backspace: click's mark for lines to be left alone
    config = load_in_use(config_path)
    tunnel = tunnel_named(config, name)
    if tunnel.is_dynamic:
        raise CommandError(
            f"{name} has no fixed destination: its clients choose one",
            code=EXIT_USAGE,
        )
    kind = kind or kind_of(tunnel)
    password: dict[str, str] = {}
    local = local_end(tunnel, config.source)
    if token:
        from ssmtunneld.cli.commands.db_token import login_for

        if kind not in TOKEN_VARIABLES:
            raise CommandError(
                f"{kind} does not support IAM passwords", code=EXIT_USAGE
            )
        login = login_for(tunnel, None)
        password[TOKEN_VARIABLES[kind]] = login.password.reveal()
        tunnel = tunnel.model_copy(update={"db_user": login.user})
    found = variables(kind, tunnel, local) | password
    click.echo(FORMATS[style](found))
