"""``ssmtunneld db-token``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ssmtunneld.cli.destination import remote_host, remote_port, tunnel_named
from ssmtunneld.cli.exits import EXIT_USAGE, CommandError
from ssmtunneld.cli.options import config_option, load, name_argument

if TYPE_CHECKING:
    from pathlib import Path

    from ssmtunneld.aws.redshift import Warehouse
    from ssmtunneld.config import Tunnel
    from ssmtunneld.secret import Secret


@click.command("db-token")
@name_argument
@click.option(
    "--user",
    metavar="USER",
    help="The database's user. By default the tunnel's db_user.",
)
@config_option
def db_token(name: str, user: str | None, config_path: Path | None) -> None:
    """Print a database user's password by IAM; it is valid for 15 minutes.

    For RDS and Aurora it is a token that is signed for the tunnel's destination with
    the tunnel's identity, as the AWS SDKs do. For Redshift it comes from the service,
    and so does the user, who is named on standard error. The daemon need not run.
    Nothing but the password goes to standard output.
    """
    tunnel = tunnel_named(load(config_path), name)
    login = login_for(tunnel, user)
    if login.made_up:
        click.echo(f"ssmtunneld: the user is {login.user}", err=True)
    click.echo(login.password.reveal())


@dataclass(frozen=True, slots=True)
class DatabaseLogin:
    """Who logs in, and with what."""

    user: str
    password: Secret
    made_up: bool
    """Whether AWS said who, so that nobody else can know it."""


def login_for(tunnel: Tunnel, user: str | None) -> DatabaseLogin:
    """Return how ``user``, or the tunnel's ``db_user``, logs in at its destination.

    Raises:
        CommandError: The destination or the user is not known.
        AwsError: Nobody can sign it, or AWS refuses.
    """
    host, port = remote_host(tunnel), remote_port(tunnel)
    if host is None or port is None:
        raise CommandError(
            f"{tunnel.name} names no database: a token is signed for host and port",
            "give the tunnel a host and a port",
            code=EXIT_USAGE,
        )
    from ssmtunneld.aws.redshift import warehouse_of

    warehouse = warehouse_of(host)
    if warehouse is not None:
        return _ask_redshift(tunnel, warehouse, user)
    user = user or tunnel.db_user
    if user is None:
        raise CommandError(
            f"whose token? {tunnel.name} has no db_user",
            "set db_user, or say --user USER",
            code=EXIT_USAGE,
        )
    from ssmtunneld.aws.dbauth import sign_database_token
    from ssmtunneld.backend import identity_of

    token = sign_database_token(identity_of(tunnel), host, port, user)
    return DatabaseLogin(user, token, made_up=False)


def _ask_redshift(
    tunnel: Tunnel, warehouse: Warehouse, user: str | None
) -> DatabaseLogin:
    from ssmtunneld.aws.redshift import get_login
    from ssmtunneld.backend import identity_of

    if warehouse.serverless and user is not None:
        raise CommandError(
            f"{tunnel.name} is serverless: AWS says who the user is",
            "leave --user out",
            code=EXIT_USAGE,
        )
    user = user or tunnel.db_user
    login = get_login(identity_of(tunnel), warehouse, user, tunnel.db_name)
    return DatabaseLogin(login.user, login.password, made_up=True)
