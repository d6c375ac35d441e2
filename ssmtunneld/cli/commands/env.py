"""``ssmtunneld env``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ssmtunneld.cli.application_protocol import DATABASES
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.database import database_of, kind_of
from ssmtunneld.cli.database_formats import PASTED, remarks
from ssmtunneld.cli.database_variables import (
    password_variables,
    takes_iam_password,
    variables,
)
from ssmtunneld.cli.destination import fixed_tunnel_named, local_end
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
    type=click.Choice([*FORMATS, *PASTED]),
    default=_SH,
    show_default=True,
    help="Variables for a shell, as JSON or a .env file; or a URI, a JDBC URL, a "
    "section for ~/.pg_service.conf, DBeaver's command, or what DataGrip imports from "
    "the clipboard.",
)
@click.option(
    "--kind",
    type=click.Choice(DATABASES),
    help="Kind of database. By default the tunnel's db_engine, or what its probe, the "
    "host's name or the port tells.",
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
    """Print what database programs need, as variables or in a form to paste.

    With the variables psql, mysql, redis-cli and others connect through tunnel NAME.
    For PostgreSQL, PGHOST is the database's own name and PGHOSTADDR the tunnel's local
    address, so that sslmode=verify-full works. URLs never contain a password.

    \b
    sh    eval "$(ssmtunneld env orders-db)"
    fish  ssmtunneld env orders-db --format fish | source
    """  # noqa: D301 - a real backspace: click's mark for lines to be left alone
    if token and style in PASTED:
        raise click.UsageError(
            f"--token is not for --format {style}: a password by IAM is good for 15 "
            "minutes, which is not worth pasting"
        )
    config = load_in_use(config_path)
    tunnel = fixed_tunnel_named(config, name)
    kind = kind or kind_of(tunnel)
    local = local_end(tunnel, config.source)
    if style in PASTED:
        database = database_of(kind, tunnel, local)
        click.echo(PASTED[style](database))
        for line in remarks(database, style):
            tell(f"ssmtunneld: {line}")
        return
    password: dict[str, str] = {}
    user = None
    if token:
        from ssmtunneld.cli.commands.db_token import login_for

        if not takes_iam_password(kind):
            raise CommandError(
                f"{kind} does not support IAM passwords", code=EXIT_USAGE
            )
        login = login_for(tunnel, None)
        password = password_variables(kind, login.password)
        user = login.user
    found = variables(database_of(kind, tunnel, local, user)) | password
    click.echo(FORMATS[style](found))
