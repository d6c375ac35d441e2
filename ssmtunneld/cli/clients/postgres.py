"""psql, and everything else that reads libpq's variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ssmtunneld.base.paths import expanded, is_file
from ssmtunneld.cli.clients.launch import Launch, Task
from ssmtunneld.cli.clients.tls import authorities, level_for
from ssmtunneld.cli.database import VERIFY_CA, VERIFY_FULL
from ssmtunneld.cli.database_variables import password_variables, variables

if TYPE_CHECKING:
    from ssmtunneld.cli.database import Database

# A service's parameters come before all variables; the others only if they are not set.
_ELSEWHERE: Final = ("PGSERVICE", "PGHOST", "PGHOSTADDR", "PGPORT")


def prepare(task: Task) -> Launch:
    """Return how to run psql: it gets everything by variables.

    Options and connection strings among the arguments come before these, and the
    user's ``~/.pgpass`` knows the database by its own name.

    Raises:
        CommandError: libpq cannot connect to the tunnel.
    """
    database = task.database
    found = variables(database)
    del found["DATABASE_URL"]
    if database.local.port is not None:
        found |= _tls(database, task)
    hidden = {}
    if task.password is not None:
        hidden = password_variables(database.kind, task.password)
    words = [task.program, *task.arguments]
    return Launch(words, found, dropped=_ELSEWHERE, secret=hidden)


def _tls(database: Database, task: Task) -> dict[str, str]:
    """Return the variables for TLS; the user's own where the file says nothing."""
    level = level_for(database, "libpq", checks_name=True)
    said = database.wanted_level(checks_name=True) is not None
    if level is None or (not said and "PGSSLMODE" in task.environ):
        return {}
    found = {"PGSSLMODE": level}
    if level in {VERIFY_CA, VERIFY_FULL} and not (
        database.ca is None and _has_authorities(task)
    ):
        file = authorities(database)
        found |= {} if file is None else {"PGSSLROOTCERT": file}
    return found


def _has_authorities(task: Task) -> bool:
    """Return True if the user has told libpq whom to trust."""
    own = expanded(task.environ.get("HOME", "~")) / ".postgresql" / "root.crt"
    return "PGSSLROOTCERT" in task.environ or is_file(own)
