"""A client's task, and what comes of it: a command line and an environment."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from ssmtunneld.cli.database import Database, database_of
from ssmtunneld.cli.exit_codes import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssmtunneld.base.secret import Secret
    from ssmtunneld.cli.destination import Local
    from ssmtunneld.config import TunnelSettings

ANSWER_TIMEOUT: Final = 10.0
"""Seconds for a client to answer what it is asked before it is run."""


@dataclass(frozen=True, slots=True)
class Task:
    """All that decides how a client is run."""

    tunnel: TunnelSettings
    local: Local
    """The address at which the tunnel listens."""
    program: str
    """The client's path."""
    protocol: str
    """The protocol that it speaks."""
    arguments: Sequence[str]
    """The user's own arguments."""
    environ: Mapping[str, str]
    """The user's environment."""
    asks: bool
    """True if somebody is there to type a password."""
    user: str | None = None
    """Instead of the tunnel's."""
    password: Secret | None = None
    """One by IAM."""

    @property
    def database(self) -> Database:
        """The database to connect to, for clients of databases."""
        return database_of(self.protocol, self.tunnel, self.local, self.user)

    @property
    def port(self) -> int:
        """The local port.

        Raises:
            CommandError: The tunnel listens on a Unix socket only.
        """
        if self.local.port is None:
            raise CommandError(
                f"{self.tunnel.name} listens on a Unix socket only",
                "add a TCP address to listen",
            )
        return self.local.port


@dataclass(frozen=True, slots=True)
class Launch:
    """A command line, and how its environment differs from the user's."""

    words: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    dropped: Sequence[str] = ()
    """Variables that would lead the client elsewhere."""
    secret: Mapping[str, str] = field(default_factory=dict)
    """More variables, which are not to be shown."""
    page: str = ""
    """The URL that a person can open, where the program opens nothing."""

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the client's environment, made from the user's."""
        kept = {key: environ[key] for key in environ if key not in self.dropped}
        return {**kept, **self.variables, **self.secret}

    @override
    def __str__(self) -> str:
        """Return it as a shell has it, without secrets."""
        given = [f"{key}={shlex.quote(text)}" for key, text in self.variables.items()]
        hidden = [f"{key}=***" for key in self.secret]
        return " ".join([*given, *hidden, shlex.join(self.words)])


def find_program(names: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Return the path of the first of ``names`` that is installed; None without any."""
    found = (shutil.which(name, path=environ.get("PATH")) for name in names)
    return next((path for path in found if path is not None), None)


def ask(words: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return what a program prints about itself.

    Raises:
        CommandError: It cannot be run, or does not end in time.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the client that is about to be run
            list(words),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=ANSWER_TIMEOUT,
        )
    except OSError as error:
        raise CommandError(f"{words[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise CommandError(
            f"{words[0]} has not answered within {ANSWER_TIMEOUT:g} s: "
            + shlex.join(words)
        ) from None
    return done.stdout.decode(errors="replace")
