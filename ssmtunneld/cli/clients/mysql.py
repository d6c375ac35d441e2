"""MySQL's client and MariaDB's, which differ in all that concerns TLS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssmtunneld.cli.clients.launch import Launch, Task, ask
from ssmtunneld.cli.clients.tls import authorities, level_for
from ssmtunneld.cli.database import DISABLE, REQUIRE, VERIFY_CA, VERIFY_FULL
from ssmtunneld.cli.database_uris import MYSQL_MODES
from ssmtunneld.cli.database_variables import password_variables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssmtunneld.cli.database import Database

# These must come first, and say which files are read.
_FIRST: Final = re.compile(r"--(no-defaults|defaults-[a-z-]+=.*|login-path=.*)")
_PASSWORD: Final = re.compile(r"-p.*|--(skip-)?password(=.*)?")
_MARIADB: Final = re.compile(r"(\d+)\.(\d+)\.\d+-MariaDB")
_CHECKS_BY_ITSELF: Final = (11, 4)
"""MariaDB's first version that verifies certificates unless it is told not to; it then
checks no name of 127.0.0.1 and ::1. Told not to, it verifies nothing at all, while
those before still verify the chain if they know authorities."""


TOOLS: Final = re.compile(r"(mysql|mariadb-)(admin|check|dump|import|show|slap)")
"""Names of programs that take the client's options, but for the database."""


def prepare(task: Task) -> Launch:
    """Return how to run the client.

    The password comes by a variable, or from the user's option files, or it is asked
    for.

    Raises:
        CommandError: The file asks for what the client cannot do, or it does not say
            what it is.
    """
    name = task.database.name
    return _prepare(task, [] if name is None else [f"--database={name}"])


def prepare_tool(task: Task) -> Launch:
    """Return how to run one of the `TOOLS`, which have a place of their own for a name.

    Raises:
        CommandError: As `prepare` does.
    """
    return _prepare(task, [])


def _prepare(task: Task, name: Sequence[str]) -> Launch:
    database, environ = task.database, task.environ
    program = _by_its_own_name(task.program)
    first, rest = _divide(task.arguments)
    version = mariadb_version(ask([program, "--version"], environ))
    words: list[str] = []
    if database.local.port is None:
        words.append(f"--socket={database.local.address}")
    else:
        words += ["--protocol=TCP", f"--host={database.address}"]
        words += [f"--port={database.local.port}", *_tls(database, version)]
    words += [] if database.user is None else [f"--user={database.user}"]
    words += name
    hidden: Mapping[str, str] = {}
    if task.password is not None:
        hidden = password_variables(database.kind, task.password)
        if not first and _has_password(program, environ):
            # A password in a file would come before the variable.
            first = ["--no-defaults"]
    elif task.asks and database.user is not None and "MYSQL_PWD" not in environ:
        said = any(_PASSWORD.fullmatch(word) for word in rest)
        if not (said or first or _has_password(program, environ)):
            words.append("--password")  # without a value: it asks
    return Launch([program, *first, *words, *rest], secret=hidden)


def mariadb_version(text: str) -> tuple[int, int] | None:
    """Return MariaDB's version from what ``--version`` prints; None if it is MySQL's.

    Where the old numbering goes on, it is the last of two numbers that counts.
    """
    found = _MARIADB.findall(text)
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def _by_its_own_name(program: str) -> str:
    """Return MariaDB's program instead of a link to it, which prints a warning."""
    own = Path(program).resolve()
    return str(own) if own.name.startswith("mariadb") else program


def _divide(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    at = 0
    while at < len(arguments) and _FIRST.fullmatch(arguments[at]):
        at += 1
    return list(arguments[:at]), list(arguments[at:])


def _has_password(program: str, environ: Mapping[str, str]) -> bool:
    return "--password=" in ask([program, "--print-defaults"], environ)


def _tls(database: Database, version: tuple[int, int] | None) -> list[str]:
    client = "mysql" if version is None else "mariadb"
    level = level_for(database, client, checks_name=database.named)
    if level is None:
        return []
    trusted = authorities(database) if level in {VERIFY_CA, VERIFY_FULL} else None
    ca = [] if trusted is None else [f"--ssl-ca={trusted}"]
    if version is None:
        return [f"--ssl-mode={MYSQL_MODES[level]}", *ca]
    if level == DISABLE:
        return ["--skip-ssl"]
    verifies = level == VERIFY_FULL or (
        level == VERIFY_CA and version >= _CHECKS_BY_ITSELF
    )
    if level == REQUIRE or not verifies:
        return ["--ssl", *ca, "--skip-ssl-verify-server-cert"]
    return ["--ssl", *ca, "--ssl-verify-server-cert"]
