"""launchd, asked through ``launchctl``."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.service import units
from ssmtunneld.cli.service.manager import ServicePaths, State, Step, run, said

# One tab deep; what is deeper belongs to sockets, endpoints and the like.
_FACT: Final = re.compile(r"^\t([a-z][a-z ]*) = (.*)$", re.MULTILINE)


class Launchd:
    """launchd: an agent in the user's own domain.

    Args:
        place: Where this runs.
    """

    def __init__(self, place: ServicePaths) -> None:
        self._place = place
        self._domain = f"gui/{place.uid}"
        self._target = f"{self._domain}/{units.LABEL}"
        self._log = place.home / "Library" / "Logs" / "ssmtunneld.log"

    @property
    def path(self) -> Path:
        """The property list."""
        return self._place.home / "Library" / "LaunchAgents" / f"{units.LABEL}.plist"

    @property
    def log(self) -> Path:
        """The file that the agent's standard error is."""
        return self._log

    @property
    def start(self) -> str:
        """The command that starts it: launchd may have to load it first."""
        return "ssmtunneld service install"

    @property
    def logs(self) -> str:
        """The command that follows the log file."""
        return shlex.join(["tail", "-F", str(self._log)])

    @property
    def environment(self) -> None:
        """None: launchd reads no such file."""

    def text(self, program: Sequence[str], config: Path) -> str:
        """Return the property list."""
        arguments = [*program, "run", "--config", str(config)]
        return units.agent(arguments, str(self._log))

    def check(self, program: Sequence[str], config: Path) -> None:
        """Accept everything: an agent sees what its user sees."""

    def probe(self) -> None:
        """Ask launchd about the user's domain.

        Raises:
            CommandError: There is no launchd, or nobody is logged in.
        """
        result = run(("launchctl", "print", self._domain))
        if result.returncode:
            raise CommandError(
                f"launchd does not answer: {said(result)}",
                "log in graphically as this user: launch agents need such a login",
            )

    def begin(self, *, changed: bool) -> list[Step]:
        """Return enable, and bootout and bootstrap or only kickstart."""
        enable = Step(
            ("launchctl", "enable", self._target),
            "lets it start at every login, also if that was forbidden before",
        )
        load = Step(
            ("launchctl", "bootstrap", self._domain, str(self.path)),
            "loads it, which starts it now and at every login",
        )
        if changed:
            return [enable, *self.end(), load]
        if self._print() is None:
            return [enable, load]
        start = Step(
            ("launchctl", "kickstart", self._target), "starts it now, unless it runs"
        )
        return [enable, start]

    def end(self) -> list[Step]:
        """Return bootout: stop and unload."""
        return [
            Step(
                ("launchctl", "bootout", self._target),
                "lets connections finish, stops and unloads what is loaded",
                may_fail=True,
            )
        ]

    def forget(self) -> list[Step]:
        """Return nothing: launchd knows no more of it."""
        return []

    def state(self) -> State:
        """Ask launchd about the agent."""
        found = self._print()
        if found is None:
            return State({"active": "no: it is not loaded"}, active=False)
        active = found.get("state") == "running"
        if active:
            lines = {"active": f"yes, pid {found.get('pid', '?')}"}
        else:
            code = found.get("last exit code", "unknown")
            lines = {"active": f"no: {found.get('state', 'unknown')}, last exit {code}"}
        if "runs" in found:
            lines["runs"] = f"{found['runs']} since it was loaded"
        return State({"enabled": "yes: it starts at login", **lines}, active)

    def hints(self, unseen: Sequence[str] = ()) -> list[str]:
        """Return what launchd does not do."""
        names = ", ".join(unseen) or "AWS_PROFILE and the like"
        return [
            f"launchd reads no shell profile: {names} belong into "
            f"EnvironmentVariables of {self.path}, or into the configuration"
        ]

    def _print(self) -> dict[str, str] | None:
        """Return the top-level facts of ``launchctl print``; None if not loaded."""
        result = run(("launchctl", "print", self._target))
        if result.returncode:
            return None
        # One tab deep; what is deeper belongs to sockets, endpoints and the like.
        return dict(
            re.findall(r"^\t([a-z][a-z ]*) = (.*)$", result.stdout, re.MULTILINE)
        )
