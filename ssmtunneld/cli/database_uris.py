"""A database as a URI, and as the parameters of libpq; never with a password."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from ssmtunneld.cli.application_protocol import (
    MONGODB,
    MYSQL,
    POSTGRES,
    REDIS,
    SQLSERVER,
)
from ssmtunneld.cli.database import DISABLE, REQUIRE, VERIFY_CA, VERIFY_FULL, Database
from ssmtunneld.cli.destination import bracketed
from ssmtunneld.cli.exit_codes import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MYSQL_MODES: Final[Mapping[str, str]] = {
    DISABLE: "DISABLED",
    REQUIRE: "REQUIRED",
    VERIFY_CA: "VERIFY_CA",
    VERIFY_FULL: "VERIFY_IDENTITY",
}
"""MySQL's names of the levels of TLS."""
_PG_SOCKET: Final = ".s.PGSQL."


def uri(database: Database) -> str:
    """Return the URI of a database, without a password.

    The parameters are those of libpq, MySQL Shell, MongoDB and go-mssqldb; for Redis
    the scheme says whether there is TLS.

    Raises:
        CommandError: Programs of this kind cannot connect to the tunnel.
    """
    return _WRITERS[database.kind](database)


def libpq_parameters(database: Database) -> dict[str, str]:
    """Return what libpq calls the parts of a connection, as in a service file.

    Raises:
        CommandError: libpq cannot connect to the tunnel.
    """
    local = database.local
    login = some(user=database.user, dbname=database.name)
    if local.port is None:
        # TLS plays no part on a Unix socket.
        folder, port = _postgres_socket(database.tunnel, local.address)
        return some(host=folder, port=port) | login
    place = some(
        host=database.host or local.address,
        hostaddr=local.address,
        port=str(local.port),
    )
    tls = some(
        sslmode=database.wanted_level(checks_name=True),
        sslrootcert=text_of(database.ca),
    )
    return place | login | tls


def mysql_uri(database: Database, *, tls: bool = True) -> str:
    """Return the URI of a MySQL.

    Args:
        database: The database.
        tls: False for a URI without parameters, which every library spells differently.
    """
    level = database.wanted_level(checks_name=database.named) if tls else None
    query = {} if level is None else {"ssl-mode": MYSQL_MODES[level]}
    if tls and database.ca is not None:
        query["ssl-ca"] = str(database.ca)
    return write_uri("mysql", database, query)


def mongodb_parameters(database: Database, level: str | None) -> dict[str, str]:
    """Return the parameters of a MongoDB connection string, at this level of TLS."""
    found = {"directConnection": "true"}  # the other members are not behind the tunnel
    if level == DISABLE:
        found["tls"] = "false"
    elif level is not None:
        found["tls"] = "true"
    if level in {VERIFY_CA, VERIFY_FULL}:
        found |= some(tlsCAFile=text_of(database.ca))
    if level == VERIFY_CA and not database.named:
        found["tlsAllowInvalidHostnames"] = "true"
    if level == REQUIRE:
        found["tlsAllowInvalidCertificates"] = "true"
    if (database.service or "").startswith("docdb"):
        found |= {"retryWrites": "false", "authSource": "admin"}
    return found


def write_uri(
    scheme: str,
    database: Database,
    query: Mapping[str, str],
    host: str | None = None,
) -> str:
    """Return a URI with user, address, name and ``query``.

    Args:
        scheme: What it begins with.
        database: The database.
        query: Parameters.
        host: Instead of the address; empty for none, and then no port either.
    """
    host = database.address if host is None else host
    user = f"{quote(database.user, safe='')}@" if database.user else ""
    netloc = bracketed(host)
    netloc += f":{database.local.port}" if host else ""
    name = quote(database.name, safe="") if database.name else ""
    tail = f"?{urlencode(query, quote_via=quote)}" if query else ""
    return f"{scheme}://{user}{netloc}/{name}{tail}"


def some(**values: str | None) -> dict[str, str]:
    """Return the values that there are."""
    return {key: value for key, value in values.items() if value is not None}


def text_of(file: Path | None) -> str | None:
    """Return the path of ``file``, if there is one."""
    return None if file is None else str(file)


def _postgres_socket(name: str, text: str) -> tuple[str, str]:
    """Return the folder and the number that make libpq open this socket."""
    file = Path(text)
    port = file.name.removeprefix(_PG_SOCKET)
    if not (file.name.startswith(_PG_SOCKET) and port.isdecimal()):
        raise CommandError(
            f"{name} listens on {text} only, which PostgreSQL's programs cannot open",
            "name the socket .s.PGSQL.5432, or add a TCP address to listen",
        )
    return str(file.parent), port


def _postgres_uri(database: Database) -> str:
    found = libpq_parameters(database)
    query = {key: found[key] for key in found if key not in {"user", "dbname"}}
    if database.local.port is None:
        return write_uri("postgresql", database, query, "")
    host = query.pop("host")
    del query["port"]
    if query["hostaddr"] == host:
        del query["hostaddr"]
    return write_uri("postgresql", database, query, host)


def _redis_uri(database: Database) -> str:
    level = database.wanted_level(checks_name=True) or database.usual_level
    scheme = "redis" if level in {None, DISABLE} else "rediss"
    return write_uri(scheme, database, {})


def _mongodb_uri(database: Database) -> str:
    level = database.wanted_level(checks_name=database.named) or database.usual_level
    return write_uri("mongodb", database, mongodb_parameters(database, level))


def _sqlserver_uri(database: Database) -> str:
    level = database.wanted_level(checks_name=True)
    query = some(database=database.name)
    if level is not None:
        query["encrypt"] = "disable" if level == DISABLE else "true"
    if level == REQUIRE:
        query["TrustServerCertificate"] = "true"
    elif level not in {None, DISABLE}:
        authorities = text_of(database.ca)
        query |= some(hostNameInCertificate=database.host, certificate=authorities)
    # Its path would be the name of an instance.
    return write_uri("sqlserver", replace(database, name=None), query)


_WRITERS: Final[Mapping[str, Callable[[Database], str]]] = {
    POSTGRES: _postgres_uri,
    MYSQL: mysql_uri,
    REDIS: _redis_uri,
    MONGODB: _mongodb_uri,
    SQLSERVER: _sqlserver_uri,
}
