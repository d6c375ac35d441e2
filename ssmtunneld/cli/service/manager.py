"""A service manager, as ``ssmtunneld service`` needs it.

Managers are asked through their own commands, ``systemctl`` and ``launchctl``. They run
nothing but questions themselves; what changes something is a :class:`Step`, so that it
can be shown first.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from ssmtunneld.base.interpreter import interpreter
from ssmtunneld.base.paths import home
from ssmtunneld.cli.exit_codes import CommandError

HIDDEN: Final = tuple(
    map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))  # noqa: S108 - named, not used
)
"""Folders that ProtectHome=yes and PrivateTmp=yes hide."""
_PATIENCE: Final = 120.0
"""Seconds for one command of a service manager; stopping waits for the drain."""


@dataclass(frozen=True, slots=True)
class ServicePaths:
    """The machine and the program of a service; tests bring their own."""

    platform: str
    """As ``sys.platform`` says it."""
    home: Path
    uid: int
    environ: Mapping[str, str]
    program: tuple[str, ...]
    """The words that start this very program, the first one an absolute path."""
    software: tuple[Path, ...] = ()
    """Folders that the program needs."""
    system_folder: Path = Path("/etc/systemd/system")
    """Folder of an administrator's units."""
    booted: Path = Path("/run/systemd/system")
    """A folder that is there where systemd runs the machine (sd_booted(3))."""
    hidden: tuple[Path, ...] = HIDDEN
    """Folders that the unit of the machine's service cannot see."""

    @classmethod
    def here(cls) -> Self:
        """Return where this process runs."""
        return cls(
            platform=sys.platform,
            home=home(),
            uid=os.getuid(),
            environ=os.environ,
            program=tuple(program(sys.argv[0])),
            software=(Path(sys.prefix), Path(sys.base_prefix)),
        )

    @property
    def user_config(self) -> Path:
        """The user's folder for configuration, as systemd's ``%E`` has it."""
        base = self.environ.get("XDG_CONFIG_HOME", "")
        return Path(base) if base.startswith("/") else self.home / ".config"


def program(called: str) -> list[str]:
    """Return the words that start this very program again, from anywhere.

    Args:
        called: What it was called as, ``sys.argv[0]``.

    A link is kept as it is: pipx and uv let it lead to the next version too.
    """
    found = shutil.which(called)
    if found is None or found.endswith(".py"):
        return interpreter("-m", "ssmtunneld")
    return [str(Path(found).absolute())]


@dataclass(frozen=True, slots=True)
class Step:
    """One command that changes something."""

    command: tuple[str, ...]
    why: str
    """Its purpose, as the beginning of a sentence."""
    may_fail: bool = False
    """True if a refusal means only that there was nothing to do."""


@dataclass(frozen=True, slots=True)
class State:
    """The state of a service."""

    lines: dict[str, str]
    """Lines to show: a word or two, and its explanation."""
    active: bool


class Manager(Protocol):
    """A service manager, for one user or for the machine."""

    @property
    def path(self) -> Path:
        """The file that describes the service."""
        ...

    @property
    def logs(self) -> str:
        """The command that shows what the daemon said."""
        ...

    @property
    def environment(self) -> Path | None:
        """The file from which the service gets variables; None if there is none."""
        ...

    def text(self, program: Sequence[str], config: Path) -> str:
        """Return the content of the file.

        Raises:
            SsmtunneldError: A path cannot be written down in it.
        """
        ...

    def check(self, program: Sequence[str], config: Path) -> None:
        """Find out whether this can be a service here.

        Raises:
            CommandError: It cannot.
        """
        ...

    def probe(self) -> None:
        """Find out whether the manager is there and listens.

        Raises:
            CommandError: It is not.
        """
        ...

    def begin(self, *, changed: bool) -> list[Step]:
        """Return what starts the service now and at every login or boot.

        Args:
            changed: Whether the file is new or another one than before.
        """
        ...

    def end(self) -> list[Step]:
        """Return what stops the service for good, while its file is still there."""
        ...

    def forget(self) -> list[Step]:
        """Return what is left to do once the file is gone."""
        ...

    def state(self) -> State:
        """Ask how the service is."""
        ...

    def hints(self, unseen: Sequence[str] = ()) -> list[str]:
        """Return what somebody who has just installed the service should know.

        Args:
            unseen: Variables of this shell that the service needs and does not see.
        """
        ...


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of a service manager and return what came of it.

    Blocks until it ends, two minutes at most: stopping waits for connections.

    Raises:
        CommandError: There is no such command, or it does not end.
    """
    try:
        return subprocess.run(  # noqa: S603 - fixed commands, and no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except OSError as error:
        raise CommandError(
            f"{command[0]} cannot be run: {error.strerror}",
            "have another supervisor start `ssmtunneld run`, which stays in the "
            "foreground",
        ) from None
    except subprocess.TimeoutExpired:
        raise CommandError(
            f"{' '.join(command)} did not end within {_PATIENCE:.0f} s"
        ) from None


def said(result: subprocess.CompletedProcess[str]) -> str:
    """Return what a command that failed had to say, in one line."""
    text = " ".join((result.stderr or result.stdout).split())
    return text or f"it ended with status {result.returncode}"
