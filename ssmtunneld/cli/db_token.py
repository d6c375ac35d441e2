"""``ssmtunneld db-token``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ssmtunneld.cli.destination import remote_host, remote_port, tunnel_named
from ssmtunneld.cli.exits import EXIT_USAGE, CommandError
from ssmtunneld.cli.options import config_option, load, name_argument

if TYPE_CHECKING:
    from pathlib import Path

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
    """Print an IAM token: the password of a database user for 15 minutes.

    For RDS and Aurora, signed for the tunnel's destination and with the tunnel's
    identity, as the AWS SDKs do. The daemon need not run. Nothing but the token goes to
    standard output.
    """
    tunnel = tunnel_named(load(config_path), name)
    click.echo(token_for(tunnel, user).reveal())


def token_for(tunnel: Tunnel, user: str | None) -> Secret:
    """Return a token for ``user``, or the tunnel's ``db_user``, at its destination.

    Raises:
        CommandError: The destination or the user is not known.
        AwsError: Nobody can sign it.
    """
    host, port, user = remote_host(tunnel), remote_port(tunnel), user or tunnel.db_user
    if host is None or port is None:
        raise CommandError(
            f"{tunnel.name} names no database: a token is signed for host and port",
            "give the tunnel a host and a port",
            code=EXIT_USAGE,
        )
    if user is None:
        raise CommandError(
            f"whose token? {tunnel.name} has no db_user",
            "set db_user, or say --user USER",
            code=EXIT_USAGE,
        )
    from ssmtunneld.aws.dbauth import sign_database_token
    from ssmtunneld.backend import identity_of

    return sign_database_token(identity_of(tunnel), host, port, user)
