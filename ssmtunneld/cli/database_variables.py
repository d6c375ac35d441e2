"""Environment variables that the usual database programs read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ssmtunneld.cli.application_protocol import (
    MONGODB,
    MYSQL,
    POSTGRES,
    REDIS,
    SQLSERVER,
)
from ssmtunneld.cli.database_uris import libpq_parameters, mysql_uri, uri

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ssmtunneld.base.secret import Secret
    from ssmtunneld.cli.database import Database

_OF_LIBPQ: Final[Mapping[str, str]] = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}
_PASSWORDS: Final[Mapping[str, str]] = {POSTGRES: "PGPASSWORD", MYSQL: "MYSQL_PWD"}


def variables(database: Database) -> dict[str, str]:
    """Return the environment for programs of the database's kind, without a password.

    Raises:
        CommandError: Programs of this kind cannot connect to the tunnel.
    """
    found = _WRITERS[database.kind](database)
    return {name: value for name, value in found.items() if value is not None}


def password_variables(kind: str, password: Secret) -> dict[str, str]:
    """Return variables that give programs of ``kind`` an IAM password, if any."""
    if kind not in _PASSWORDS:
        return {}
    found = {_PASSWORDS[kind]: password.reveal()}
    if kind == MYSQL:
        # The server must get it as it is, not a hash of it; TLS hides it on its way.
        found["LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN"] = "1"
    return found


def takes_iam_password(kind: str) -> bool:
    """Return True if there are passwords by IAM for databases of ``kind``."""
    return kind in _PASSWORDS


def _postgres(database: Database) -> dict[str, str | None]:
    found = libpq_parameters(database)
    given: dict[str, str | None] = {_OF_LIBPQ[key]: found[key] for key in found}
    return {**given, "DATABASE_URL": uri(database)}


def _mysql(database: Database) -> dict[str, str | None]:
    port = str(database.local.port)
    return {
        "MYSQL_HOST": database.address,
        # The first is what MySQL's own programs read, the second what containers do.
        "MYSQL_TCP_PORT": port,
        "MYSQL_PORT": port,
        "MYSQL_USER": database.user,
        "MYSQL_DATABASE": database.name,
        "DATABASE_URL": mysql_uri(database, tls=False),
    }


def _redis(database: Database) -> dict[str, str | None]:
    host, port = database.address, str(database.local.port)
    return {"REDIS_HOST": host, "REDIS_PORT": port, "REDIS_URL": uri(database)}


def _mongodb(database: Database) -> dict[str, str | None]:
    return {"MONGODB_URI": uri(database)}


def _sqlserver(database: Database) -> dict[str, str | None]:
    return {
        "SQLCMDSERVER": f"tcp:{database.address},{database.local.port}",
        "SQLCMDUSER": database.user,
        "SQLCMDDBNAME": database.name,
        "DATABASE_URL": uri(database),
    }


_WRITERS: Final[Mapping[str, Callable[[Database], dict[str, str | None]]]] = {
    POSTGRES: _postgres,
    MYSQL: _mysql,
    REDIS: _redis,
    MONGODB: _mongodb,
    SQLSERVER: _sqlserver,
}
