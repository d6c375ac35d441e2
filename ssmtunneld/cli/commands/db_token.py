"""``ssmtunneld db-token``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ssmtunneld.cli.application_protocol import REDIS, protocol_of
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.destination import fixed_tunnel_named, remote_host, remote_port
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.options import (
    config_in_use_option,
    load_in_use,
    name_argument,
    one_line,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ssmtunneld.aws.databases.redshift import Warehouse
    from ssmtunneld.base.secret import Secret
    from ssmtunneld.config import TunnelSettings


@click.command("db-token")
@name_argument
@click.option(
    "--user",
    metavar="USER",
    callback=one_line,
    help="Database user. By default the tunnel's db_user.",
)
@config_in_use_option
def db_token(name: str, user: str | None, config_path: Path | None) -> None:
    """Print an IAM password for a database user.

    It is valid for 15 minutes, and nothing else goes to standard output. For RDS and
    Aurora it is a token, signed for the tunnel's destination with the tunnel's
    identity. For Redshift it comes from the service, and so does the user, who is named
    on standard error. No daemon needs to run.
    """
    tunnel = fixed_tunnel_named(load_in_use(config_path), name)
    login = login_for(tunnel, user)
    if login.made_up:
        tell(f"ssmtunneld: the user is {login.user}")
    click.echo(login.password.reveal())


@dataclass(frozen=True, slots=True)
class DatabaseLogin:
    """A user and a password for a database."""

    user: str
    password: Secret
    made_up: bool
    """True if AWS chose the user, who must therefore be told."""


def login_for(tunnel: TunnelSettings, user: str | None) -> DatabaseLogin:
    """Return the login of ``user``, or of the tunnel's ``db_user``, at its destination.

    Raises:
        CommandError: The destination or the user is not known, or it is a cache, whose
            tokens are of another kind.
        AwsError: There are no credentials, or AWS refuses.
    """
    host, port = remote_host(tunnel), remote_port(tunnel)
    if host is None or port is None:
        raise CommandError(
            f"{tunnel.name} has no database host and port to sign a token for",
            "set host and port of the tunnel",
            code=EXIT_USAGE,
        )
    if protocol_of(tunnel) == REDIS:
        raise CommandError(
            f"{tunnel.name} leads to Redis or Valkey: there are passwords by IAM for "
            "RDS, Aurora and Redshift only",
            "let your program sign in to ElastiCache or MemoryDB itself, or use a "
            "password",
            code=EXIT_USAGE,
        )
    from ssmtunneld.aws.databases.redshift import warehouse_of

    warehouse = warehouse_of(host)
    if warehouse is not None:
        return _ask_redshift(tunnel, warehouse, user)
    user = user or tunnel.db_user
    if user is None:
        raise CommandError(
            f"no user: {tunnel.name} has no db_user",
            "set db_user, or pass --user USER",
            code=EXIT_USAGE,
        )
    from ssmtunneld.aws.api.port import Identity
    from ssmtunneld.aws.databases.rds_tokens import sign_database_token

    token = sign_database_token(Identity.of(tunnel), host, port, user)
    return DatabaseLogin(user, token, made_up=False)


def _ask_redshift(
    tunnel: TunnelSettings, warehouse: Warehouse, user: str | None
) -> DatabaseLogin:
    from ssmtunneld.aws.api.port import Identity
    from ssmtunneld.aws.databases.redshift import get_login

    if warehouse.serverless and user is not None:
        raise CommandError(
            f"{tunnel.name} is Redshift Serverless, where AWS chooses the user",
            "omit --user",
            code=EXIT_USAGE,
        )
    user = user or tunnel.db_user
    login = get_login(Identity.of(tunnel), warehouse, user, tunnel.db_name)
    return DatabaseLogin(login.user, login.password, made_up=True)
