"""The clients that ``connect`` knows, and which of them fits a tunnel."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssmtunneld.base.nearest import nearest
from ssmtunneld.cli.application_protocol import (
    DATABASES,
    HTTP,
    KUBERNETES,
    MONGODB,
    MYSQL,
    POSTGRES,
    REDIS,
    SQLSERVER,
    SSH,
    protocol_of,
)
from ssmtunneld.cli.child_process import NOT_FOUND
from ssmtunneld.cli.clients import (
    browser,
    kubectl,
    mongodb,
    mysql,
    postgres,
    redis,
    sqlserver,
    ssh,
)
from ssmtunneld.cli.clients.installing import Package, advice
from ssmtunneld.cli.clients.launch import Launch, Task, find_program
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ssmtunneld.config import TunnelSettings


@dataclass(frozen=True, slots=True)
class Client:
    """A program that connects to something."""

    name: str
    protocol: str
    prepare: Callable[[Task], Launch]
    package: Package
    programs: Sequence[str] = ()
    """Names of its file, the best first; by default its own name."""
    returns: bool = False
    """True if it ends at once, while what it has opened goes on."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A client, and where it is."""

    client: Client
    program: str
    """Its path; empty if no browser is here: a person can still be told the URL."""


_MACOS_OPENER: Final = "/usr/bin/open"
"""The opener of macOS; elsewhere a program of that name is another one."""
_MYSQL: Final = Package(
    apt="mariadb-client",
    dnf="mariadb",
    apk="mariadb-client",
    brew="brew install mysql-client && brew link --force mysql-client",
    page="https://dev.mysql.com/downloads/",
)
CLIENTS: Final = (
    Client(
        "psql",
        POSTGRES,
        postgres.prepare,
        Package(
            apt="postgresql-client",
            dnf="postgresql",
            apk="postgresql-client",
            brew="brew install libpq && brew link --force libpq",
            page="https://www.postgresql.org/download/",
        ),
    ),
    Client("mysql", MYSQL, mysql.prepare, _MYSQL),
    Client("mariadb", MYSQL, mysql.prepare, _MYSQL),
    Client(
        "redis-cli",
        REDIS,
        redis.prepare,
        Package(
            apt="redis-tools",
            dnf="redis",
            apk="redis",
            brew="brew install redis",
            page="https://redis.io/docs/latest/operate/oss_and_stack/install/",
        ),
    ),
    Client(
        "valkey-cli",
        REDIS,
        redis.prepare,
        Package(
            apt="valkey-tools",
            dnf="valkey",
            apk="valkey-cli",
            brew="brew install valkey",
            page="https://valkey.io/download/",
        ),
    ),
    Client(
        "mongosh",
        MONGODB,
        mongodb.prepare,
        Package(
            brew="brew install mongosh",
            page="https://www.mongodb.com/docs/mongodb-shell/install/",
        ),
    ),
    Client(
        "sqlcmd",
        SQLSERVER,
        sqlserver.prepare,
        Package(
            brew="brew install sqlcmd",
            page="https://learn.microsoft.com/sql/tools/sqlcmd/sqlcmd-utility",
        ),
    ),
    Client(
        "ssh",
        SSH,
        ssh.prepare,
        Package(
            apt="openssh-client",
            dnf="openssh-clients",
            apk="openssh-client",
            page="https://www.openssh.com/portable.html",
        ),
    ),
    Client(
        "kubectl",
        KUBERNETES,
        kubectl.prepare,
        Package(
            brew="brew install kubernetes-cli",
            page="https://kubernetes.io/docs/tasks/tools/",
        ),
    ),
    Client(
        "chromium",
        HTTP,
        browser.prepare_mapped,
        Package(
            apt="chromium",
            dnf="chromium",
            apk="chromium",
            brew="brew install --cask chromium",
            page="https://www.chromium.org/getting-involved/download-chromium/",
        ),
        programs=(
            "chromium",
            "chromium-browser",
            "google-chrome",
            "google-chrome-stable",
            "microsoft-edge",
            "brave-browser",
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
            "/Applications/Chromium.app/Contents/MacOS/Chromium",
        ),
    ),
    Client(
        "browser",
        HTTP,
        browser.prepare_own,
        Package(
            apt="xdg-utils",
            dnf="xdg-utils",
            apk="xdg-utils",
            page="https://www.freedesktop.org/wiki/Software/xdg-utils/",
        ),
        programs=("xdg-open", "wslview", _MACOS_OPENER),
        returns=True,
    ),
)
"""Those that come first are taken first, where several speak the same."""
NAMES: Final = tuple(client.name for client in CLIENTS)


def choose(
    tunnel: TunnelSettings, wanted: str | None, environ: Mapping[str, str]
) -> Choice:
    """Return the client for a tunnel that is installed here.

    Args:
        tunnel: The tunnel.
        wanted: The client that the user wants: one of `NAMES`, its path, another
            program on libpq, or one of MySQL's tools.
        environ: Has the PATH.

    Raises:
        CommandError: Nothing tells what fits, or it is not installed.
    """
    if wanted is not None:
        return _named(tunnel, wanted, environ)
    protocol = protocol_of(tunnel)
    if protocol is None:
        engine = f'db_engine = "{DATABASES[0]}" ({", ".join(DATABASES[1:])})'
        raise CommandError(
            f"cannot tell which client fits {tunnel.name} ({tunnel.destination})",
            f"for a database write {engine} in the file, or pass --client "
            f"({', '.join(NAMES)}), as in: ssmtunneld connect {tunnel.name} --client "
            f"{NAMES[0]}",
            code=EXIT_USAGE,
        )
    fitting = [client for client in CLIENTS if client.protocol == protocol]
    if protocol == HTTP and not browser.wants_name(tunnel):
        fitting = [client for client in fitting if client.name == "browser"]
    for client in fitting:
        program = _find(client.programs or [client.name], environ)
        if program is not None:
            return Choice(client, program)
    if protocol == HTTP:
        return Choice(fitting[-1], "")
    raise _missing(" or ".join(client.name for client in fitting), fitting[0], environ)


def installed(environ: Mapping[str, str]) -> list[Client]:
    """Return the clients that are on this machine, the first of each protocol."""
    found: dict[str, Client] = {}
    for client in CLIENTS:
        is_here = _find(client.programs or [client.name], environ) is not None
        if is_here and client.protocol not in found:
            found[client.protocol] = client
    return list(found.values())


def _named(tunnel: TunnelSettings, wanted: str, environ: Mapping[str, str]) -> Choice:
    name = Path(wanted).name
    known = {client.name: client for client in CLIENTS}
    known |= {
        Path(program).name: client
        for client in CLIENTS
        for program in client.programs
        if "/" not in program
    }
    client = known.get(name)
    if client is None:
        program = find_program([wanted], environ)
        if program is None:
            near = nearest(name, NAMES)
            raise CommandError(
                f"there is no {wanted} on this machine",
                f"did you mean {near[0]}?" if near else f"try {', '.join(NAMES)}",
                code=NOT_FOUND,
            )
        return Choice(_any_of(tunnel, name), program)
    is_kind = wanted == client.name
    names = (client.programs or [wanted]) if is_kind else [wanted]
    program = _find(names, environ)
    if program is None:
        raise _missing(wanted, client, environ)
    return Choice(client, program)


def _find(names: Sequence[str], environ: Mapping[str, str]) -> str | None:
    here = [n for n in names if n != _MACOS_OPENER or sys.platform == "darwin"]
    return find_program(here, environ)


def _any_of(tunnel: TunnelSettings, name: str) -> Client:
    """Return another program as a client: one that is known to go where it is sent.

    What does not read the variables would connect to whatever is nearest.
    """
    protocol = protocol_of(tunnel)
    if protocol == POSTGRES:
        return Client(name, POSTGRES, postgres.prepare, Package())
    if protocol == MYSQL and mysql.TOOLS.fullmatch(name):
        return Client(name, MYSQL, mysql.prepare_tool, Package())
    raise CommandError(
        f"{name} is none of {', '.join(NAMES)}, no program on libpq with PostgreSQL "
        "behind the tunnel, and no tool of MySQL's or MariaDB's",
        f"tell it where to connect: ssmtunneld exec -t {tunnel.name} -- {name}",
        code=EXIT_USAGE,
    )


def _missing(names: str, client: Client, environ: Mapping[str, str]) -> CommandError:
    return CommandError(
        f"there is no {names} on this machine",
        advice(client.package, environ),
        code=NOT_FOUND,
    )
