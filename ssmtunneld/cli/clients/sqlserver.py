"""sqlcmd, Microsoft's old one on ODBC and the new one in Go."""

from __future__ import annotations

from ssmtunneld.cli.clients.launch import Launch, Task
from ssmtunneld.cli.clients.tls import level_for
from ssmtunneld.cli.database import DISABLE, REQUIRE, Database


def prepare(task: Task) -> Launch:
    """Return how to run sqlcmd, which asks for the password.

    It trusts the system's authorities only: ``db_ca`` does not reach it.

    Raises:
        CommandError: It cannot connect to the tunnel.
    """
    database = task.database
    words = [task.program, "-S", f"tcp:{database.address},{database.local.port}"]
    words += [] if database.user is None else ["-U", database.user]
    words += [] if database.name is None else ["-d", database.name]
    return Launch([*words, *_tls(database), *task.arguments])


def _tls(database: Database) -> list[str]:
    level = level_for(database, "sqlcmd", checks_name=True)
    if level is None:
        return []
    if level == DISABLE:
        return ["-No"]
    if level == REQUIRE:
        return ["-N", "-C"]
    named = database.named or database.host is None
    return ["-N"] if named else ["-N", "-F", str(database.host)]
