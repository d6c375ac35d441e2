"""redis-cli and valkey-cli."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ssmtunneld.cli.clients.launch import Launch, Task
from ssmtunneld.cli.clients.tls import authorities, level_for
from ssmtunneld.cli.database import DISABLE, REQUIRE
from ssmtunneld.cli.destination import is_address

if TYPE_CHECKING:
    from ssmtunneld.cli.database import Database

_PASSWORDS: Final = ("REDISCLI_AUTH", "VALKEYCLI_AUTH")
_LOGIN: Final = frozenset({"-a", "--pass", "--askpass", "-u", "--no-auth-warning"})


def prepare(task: Task) -> Launch:
    """Return how to run the client.

    It asks for the user's password, unless ``REDISCLI_AUTH`` has it.

    Raises:
        CommandError: The file asks for a check of the name, which these cannot do.
    """
    database = task.database
    words = [task.program]
    if database.local.port is None:
        words += ["-s", database.local.address]
    else:
        words += ["-h", database.local.address, "-p", str(database.local.port)]
        words += _tls(database)
    words += [] if database.name is None else ["-n", database.name]
    if database.user is not None:
        words += ["--user", database.user]
        told = any(name in task.environ for name in _PASSWORDS)
        if task.asks and not told and _LOGIN.isdisjoint(task.arguments):
            words.append("--askpass")
    return Launch([*words, *task.arguments])


def _tls(database: Database) -> list[str]:
    level = level_for(database, "redis-cli", checks_name=False, by_hosts=False)
    if level in {None, DISABLE}:
        return []
    words = ["--tls"]
    if database.host is not None and not is_address(database.host):
        words += ["--sni", database.host]
    if level == REQUIRE:
        return [*words, "--insecure"]
    trusted = authorities(database)
    return words if trusted is None else [*words, "--cacert", trusted]
