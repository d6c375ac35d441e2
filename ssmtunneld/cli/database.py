"""Environment variables that the usual database programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from ssmtunneld.cli.destination import Local, remote_host, remote_port
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmtunneld.config import TunnelSettings

POSTGRES: Final = "postgres"
MYSQL: Final = "mysql"
REDIS: Final = "redis"
KINDS: Final = (POSTGRES, MYSQL, REDIS)
TOKEN_VARIABLES: Final = {POSTGRES: "PGPASSWORD", MYSQL: "MYSQL_PWD"}
"""The variable in which programs of each kind look for a password."""

_KNOWN_PORTS: Final = {
    5432: POSTGRES,
    5439: POSTGRES,  # Redshift
    6432: POSTGRES,  # PgBouncer
    3306: MYSQL,
    6379: REDIS,
    6380: REDIS,
}
_PG_SOCKET: Final = ".s.PGSQL."


def known_kind(tunnel: TunnelSettings) -> str | None:
    """Return the kind of database by the tunnel's ``db_engine``, or by its port."""
    return tunnel.db_engine or _KNOWN_PORTS.get(remote_port(tunnel) or 0)


def kind_of(tunnel: TunnelSettings) -> str:
    """Return the kind of database: the tunnel's ``db_engine``, or by its port.

    Raises:
        CommandError: Neither is known.
    """
    kind = known_kind(tunnel)
    if kind is None:
        raise CommandError(
            f"{tunnel.name}: unknown kind of database: no db_engine, no known port",
            f"pass --kind {'|'.join(KINDS)}, or set db_engine",
            code=EXIT_USAGE,
        )
    return kind


def variables(kind: str, tunnel: TunnelSettings, local: Local) -> dict[str, str]:
    """Return the environment for programs of ``kind``, without any password.

    Raises:
        CommandError: Programs of this kind cannot connect to ``local``.
    """
    if kind == POSTGRES:
        return _postgres(tunnel, local)
    if local.port is None:
        raise CommandError(
            f"{tunnel.name} listens on a Unix socket only",
            "add a TCP address to listen",
        )
    where = {"HOST": local.address, "PORT": str(local.port)}
    if kind == REDIS:
        url = _url("redis", tunnel, local.address, local.port)
        return {"REDIS_HOST": where["HOST"], "REDIS_PORT": where["PORT"]} | {
            "REDIS_URL": url
        }
    found = {
        "MYSQL_HOST": where["HOST"],
        # The first is what MySQL's own programs read, the second what containers do.
        "MYSQL_TCP_PORT": where["PORT"],
        "MYSQL_PORT": where["PORT"],
        "MYSQL_USER": tunnel.db_user,
        "MYSQL_DATABASE": tunnel.db_name,
        "DATABASE_URL": _url("mysql", tunnel, local.address, local.port),
    }
    return {name: value for name, value in found.items() if value is not None}


def _postgres(tunnel: TunnelSettings, local: Local) -> dict[str, str]:
    name = remote_host(tunnel)
    found: dict[str, str | None]
    if local.port is None:
        folder, port = _postgres_socket(tunnel.name, local.address)
        url = _url("postgresql", tunnel, "", None, {"host": folder, "port": port})
        found = {"PGHOST": folder, "PGPORT": port, "DATABASE_URL": url}
    else:
        host = name or local.address
        extra = {"hostaddr": local.address} if name else {}
        found = {
            "PGHOST": host,
            "PGHOSTADDR": local.address,
            "PGPORT": str(local.port),
            "DATABASE_URL": _url("postgresql", tunnel, host, local.port, extra),
        }
    found |= {"PGUSER": tunnel.db_user, "PGDATABASE": tunnel.db_name}
    return {key: value for key, value in found.items() if value is not None}


def _postgres_socket(name: str, path: str) -> tuple[str, str]:
    """Return the folder and the number that make libpq open this socket."""
    file = Path(path)
    port = file.name.removeprefix(_PG_SOCKET)
    if not (file.name.startswith(_PG_SOCKET) and port.isdecimal()):
        raise CommandError(
            f"{name} listens on {path} only, which PostgreSQL's programs cannot open",
            "name the socket .s.PGSQL.5432, or add a TCP address to listen",
        )
    return str(file.parent), port


def _url(
    scheme: str,
    tunnel: TunnelSettings,
    host: str,
    port: int | None,
    query: Mapping[str, str] | None = None,
) -> str:
    user = f"{quote(tunnel.db_user, safe='')}@" if tunnel.db_user else ""
    netloc = f"[{host}]" if ":" in host else host
    netloc += "" if port is None else f":{port}"
    path = f"/{quote(tunnel.db_name, safe='')}" if tunnel.db_name else "/"
    tail = f"?{urlencode(query)}" if query else ""
    return f"{scheme}://{user}{netloc}{path}{tail}"
