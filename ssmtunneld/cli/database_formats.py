"""A database in the forms that people paste into other programs; without a password."""

from __future__ import annotations

import re
import shlex
import uuid
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape, quoteattr

from ssmtunneld.cli.application_protocol import (
    MONGODB,
    MYSQL,
    POSTGRES,
    REDIS,
    SQLSERVER,
)
from ssmtunneld.cli.database import DISABLE, REQUIRE, VERIFY_FULL, Database
from ssmtunneld.cli.database_uris import (
    MYSQL_MODES,
    libpq_parameters,
    some,
    text_of,
    uri,
)
from ssmtunneld.cli.database_variables import takes_iam_password
from ssmtunneld.cli.destination import bracketed
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_DBEAVER_DRIVERS: Final[Mapping[str, str]] = {
    POSTGRES: "postgresql",
    MYSQL: "mysql",
    SQLSERVER: "mssql_jdbc_ms_new",
}
"""Drivers of DBeaver's free edition, by id or name."""
_DATAGRIP_DRIVERS: Final[Mapping[str, tuple[str, str]]] = {
    POSTGRES: ("postgresql", "org.postgresql.Driver"),
    MYSQL: ("mysql.8", "com.mysql.cj.jdbc.Driver"),
    SQLSERVER: ("sqlserver.ms", "com.microsoft.sqlserver.jdbc.SQLServerDriver"),
    REDIS: ("redis", "jdbc.RedisDriver"),
    MONGODB: ("mongo", "com.dbschema.MongoJdbcDriver"),
}
"""DataGrip's drivers and their classes."""
_LONGEST_LINE: Final = 1000
"""Bytes of a line of a service file; libpq reads 1023 at most."""
_NEEDS_BRACES: Final = re.compile(r"[;{}\s]")


def as_jdbc(database: Database) -> str:
    """Return a URL for the database's own JDBC driver, with the user.

    Where the password is one by IAM, for AWS's wrapper around it, which makes a new one
    for each connection. Redis's is the driver of JetBrains.

    Raises:
        CommandError: There is no such driver, or it cannot connect to the tunnel.
    """
    return _jdbc(database, user=True)


def as_pgservice(database: Database) -> str:
    """Return a section for ``~/.pg_service.conf``: then ``psql service=NAME``.

    Raises:
        CommandError: It is not PostgreSQL, libpq cannot connect to the tunnel, or a
            value cannot be said in such a file.
    """
    if database.kind != POSTGRES:
        raise _unknown("a service file", database)
    found = libpq_parameters(database)
    for name, value in found.items():
        # libpq cuts spaces off the end of a line, and takes none that is longer.
        if value.endswith(" ") or len(f"{name}={value}".encode()) > _LONGEST_LINE:
            raise CommandError(
                f"a service file cannot say a {name} that ends with a space, or of "
                f"more than {_LONGEST_LINE} bytes",
                "take --format uri",
                code=EXIT_USAGE,
            )
    return "\n".join([f"[{database.tunnel}]", *(f"{k}={found[k]}" for k in found)])


def as_dbeaver(database: Database) -> str:
    """Return the command that makes a connection in DBeaver.

    Raises:
        CommandError: DBeaver's free edition has no driver for it, the driver cannot
            connect to the tunnel, or a value cannot be said in such a command.
    """
    driver = _DBEAVER_DRIVERS.get(database.kind)
    if driver is None:
        raise _unknown("DBeaver's free edition", database)
    found = some(
        driver=driver,
        name=database.tunnel,
        host=database.address,
        port=str(database.local.port),
        database=database.name,
        user=database.user,
    )
    properties = _PROPERTIES[database.kind](database)
    found |= {f"prop.{name}": properties[name] for name in properties}
    found |= {"savePassword": "false", "create": "true", "save": "true"}
    unsayable = [name for name in found if "|" in found[name]]
    if unsayable:
        raise CommandError(
            f"DBeaver's command cannot say a {unsayable[0]} with | in it",
            "take --format jdbc",
            code=EXIT_USAGE,
        )
    words = "|".join(f"{name}={found[name]}" for name in found)
    return shlex.join(["dbeaver", "-con", words])


def as_datagrip(database: Database) -> str:
    """Return what DataGrip imports from the clipboard; again for the same data source.

    Raises:
        CommandError: Its driver cannot connect to the tunnel.
    """
    driver, driver_class = _DATAGRIP_DRIVERS[database.kind]
    is_uri = database.kind == MONGODB
    url = uri(database) if is_uri else _jdbc(database, user=False)
    name = database.tunnel
    elements = some(
        **{
            "driver-ref": driver,
            "synchronize": "true",
            "jdbc-driver": driver_class,
            "jdbc-url": url,
            "user-name": database.user,
        }
    )
    inner = "".join(f"<{tag}>{escape(elements[tag])}</{tag}>" for tag in elements)
    same = uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.ssmtunneld")
    source = f'<data-source source="LOCAL" name={quoteattr(name)} uuid="{same}">'
    return "\n".join(
        [
            "#DataSourceSettings#",
            f"#LocalDataSource: {name}",
            "#BEGIN#",
            f"{source}{inner}</data-source>",
            "#END#",
        ]
    )


PASTED: Final[Mapping[str, Callable[[Database], str]]] = {
    "uri": uri,
    "jdbc": as_jdbc,
    "pgservice": as_pgservice,
    "dbeaver": as_dbeaver,
    "datagrip": as_datagrip,
}
"""The forms, by the name that ``env --format`` gives them."""


def remarks(database: Database, style: str) -> Iterator[str]:
    """Yield what somebody must know who pastes the form ``style``."""
    java = style in {"jdbc", "dbeaver", "datagrip"}
    checked_here = database.kind == SQLSERVER or (
        database.kind == POSTGRES and not java
    )
    if database.tls == VERIFY_FULL and not (checked_here or database.named):
        yield (
            f"{database.local.address} is not the name in the certificate: let the "
            "real name lead to the tunnel, with ssmtunneld hosts"
        )
    if java and database.ca is not None and database.kind != POSTGRES:
        yield f"Java must trust {database.ca}: import it with keytool"
    has_password = database.by_iam and takes_iam_password(database.kind)
    if has_password and not (style == "jdbc" and _has_wrapper(database)):
        yield (
            "the password is good for 15 minutes: "
            f"ssmtunneld db-token {database.tunnel}"
        )


def _jdbc(database: Database, *, user: bool) -> str:
    if database.kind == MONGODB:
        raise _unknown("JDBC", database)
    login = some(user=database.user) if user else {}
    properties = _PROPERTIES[database.kind](database)
    netloc = f"{bracketed(database.address)}:{database.local.port}"
    if database.kind == SQLSERVER:
        found = some(databaseName=database.name) | login | properties
        parts = [f"{name}={_braced(found[name])}" for name in found]
        return ";".join([f"jdbc:sqlserver://{netloc}", *parts])
    scheme = _SCHEMES[database.kind]
    if user and _has_wrapper(database):
        scheme = f"aws-wrapper:{scheme}"
        properties |= _wrapper_properties(database)
    query = urlencode(login | properties, quote_via=quote)
    name = quote(database.name or "", safe="")
    return f"jdbc:{scheme}://{netloc}/{name}{f'?{query}' if query else ''}"


_SCHEMES: Final[Mapping[str, str]] = {
    POSTGRES: "postgresql",
    MYSQL: "mysql",
    REDIS: "redis",
}


def _has_wrapper(database: Database) -> bool:
    """Return True if AWS's JDBC wrapper can make the password: for RDS and Aurora."""
    own = database.host is not None and database.port is not None
    return (
        database.by_iam
        and own
        and database.kind in {POSTGRES, MYSQL}
        and (database.service in {None, "rds"})
    )


def _wrapper_properties(database: Database) -> dict[str, str]:
    """Return what makes the wrapper sign for the database, not for the tunnel."""
    from ssmtunneld.aws.databases.rds_tokens import region_of

    host = database.host or ""
    return some(
        wrapperPlugins="iam",
        iamHost=host,
        iamDefaultPort=str(database.port),
        iamRegion=region_of(host),
    )


def _postgres_properties(database: Database) -> dict[str, str]:
    level = database.wanted_level(checks_name=database.named)
    return some(sslmode=level, sslrootcert=text_of(database.ca))


def _mysql_properties(database: Database) -> dict[str, str]:
    level = database.wanted_level(checks_name=database.named)
    return {} if level is None else {"sslMode": MYSQL_MODES[level]}


def _redis_properties(database: Database) -> dict[str, str]:
    level = database.wanted_level(checks_name=True) or database.usual_level
    if level in {None, DISABLE}:
        return {}
    found = {"ssl": "true"}
    return found | ({"verifyServerCertificate": "false"} if level == REQUIRE else {})


def _sqlserver_properties(database: Database) -> dict[str, str]:
    level = database.wanted_level(checks_name=True)
    if level is None:
        return {}
    found = {"encrypt": "false" if level == DISABLE else "true"}
    if level == REQUIRE:
        return found | {"trustServerCertificate": "true"}
    own = None if level == DISABLE else database.host
    return found | some(hostNameInCertificate=own)


_PROPERTIES: Final[Mapping[str, Callable[[Database], dict[str, str]]]] = {
    POSTGRES: _postgres_properties,
    MYSQL: _mysql_properties,
    REDIS: _redis_properties,
    SQLSERVER: _sqlserver_properties,
}
"""The level of TLS, in the words of each kind's JDBC driver."""


def _braced(value: str) -> str:
    """Return a value as a connection string of SQL Server has it."""
    if not _NEEDS_BRACES.search(value):
        return value
    return "{" + value.replace("}", "}}") + "}"


def _unknown(what: str, database: Database) -> CommandError:
    return CommandError(
        f"{what} is not for {database.kind}",
        "take another --format, such as uri",
        code=EXIT_USAGE,
    )
