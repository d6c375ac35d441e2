"""systemd, asked through ``systemctl``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.service import units
from ssmtunneld.cli.service.manager import ServicePaths, State, Step, run, said

UNIT: Final = "ssmtunneld.service"
_LIVING: Final = {"active", "reloading", "activating", "deactivating"}
_STATE: Final = (
    "UnitFileState,ActiveState,SubState,ActiveEnterTimestamp,InactiveEnterTimestamp,"
    "StatusText,MainPID,Result,ExecMainStatus,NRestarts,NeedDaemonReload"
)


class Systemd:
    """systemd: the user's instance, or the machine's.

    Args:
        place: Where this runs.
        system: Whether the machine's is meant.
    """

    def __init__(self, place: ServicePaths, *, system: bool) -> None:
        self._place = place
        self._system = system
        self._scope = () if system else ("--user",)

    @property
    def path(self) -> Path:
        """The unit file."""
        if self._system:
            return self._place.system_folder / UNIT
        return self._place.user_config / "systemd" / "user" / UNIT

    @property
    def environment(self) -> Path:
        """The file that the unit names in EnvironmentFile."""
        config = Path("/etc") if self._system else self._place.user_config
        return config / "ssmtunneld" / "environment"

    @property
    def start(self) -> str:
        """The command that starts it, once it is installed."""
        return "sudo " * self._system + " ".join(self._systemctl("start", "ssmtunneld"))

    @property
    def logs(self) -> str:
        """The journal's command."""
        return " ".join(["journalctl", *self._scope, "-u", "ssmtunneld", "-e"])

    def text(self, program: Sequence[str], config: Path) -> str:
        """Return the unit.

        Raises:
            SsmtunneldError: A path cannot be written down in a unit.
        """
        if not self._system:
            return units.user_unit(program, str(config))
        return units.system_unit(program, str(config))

    def check(self, program: Sequence[str], config: Path) -> None:
        """Find out whether the unit would see all that it needs.

        Raises:
            CommandError: A folder that is hidden from it is in the way.
        """
        if not self._system:
            return
        for path in (Path(program[0]), *self._place.software):
            if self._is_hidden(path):
                raise CommandError(
                    f"a service of the machine does not see {path}",
                    "in a checkout, install it for all: sudo pipx install --global .",
                )
        if self._is_hidden(config):
            raise CommandError(
                f"a service of the machine does not see {config}",
                "put the configuration into /etc/ssmtunneld",
            )

    def _is_hidden(self, path: Path) -> bool:
        # A link in the open may lead to what is not.
        return any(
            name.is_relative_to(folder)
            for name in (path, path.resolve())
            for folder in self._place.hidden
        )

    def probe(self) -> None:
        """Ask systemd for its version.

        Raises:
            CommandError: There is no systemd, or none for this user.
        """
        result = run(self._systemctl("show", "--property=Version"))
        if not result.returncode:
            return
        if not self._place.booted.is_dir():
            raise CommandError(
                f"this machine is not run by systemd ({said(result)})",
                "run the daemon yourself: ssmtunneld run; or let another supervisor do "
                "that",
            )
        raise CommandError(
            f"systemd does not answer: {said(result)}",
            ""
            if self._system
            else "log in as this user itself, not through su or sudo",
        )

    def begin(self, *, changed: bool) -> list[Step]:
        """Return reload, enable, and start or restart."""
        reload = Step(self._systemctl("daemon-reload"), "lets systemd read the unit")
        enable = Step(
            self._systemctl("enable", UNIT),
            f"starts it at every {'boot' if self._system else 'login'}",
        )
        # The first session may take its time, and a tunnel that waits for a login even
        # longer: --no-block hands the job over.
        verb, why = (
            ("restart", "starts it now, with the new unit")
            if changed
            else ("start", "starts it now, unless it runs")
        )
        start = Step(self._systemctl(verb, "--no-block", UNIT), why)
        return [reload, enable, start]

    def end(self) -> list[Step]:
        """Return disable and stop."""
        return [
            Step(
                self._systemctl("disable", "--now", UNIT),
                "lets connections finish, stops it, and starts it no more",
            )
        ]

    def forget(self) -> list[Step]:
        """Return reload, and forgetting that it ever failed."""
        return [
            Step(self._systemctl("daemon-reload"), "lets systemd forget the unit"),
            Step(
                self._systemctl("reset-failed", UNIT),
                "lets it forget failures too",
                may_fail=True,
            ),
        ]

    def state(self) -> State:
        """Ask systemd about the unit."""
        self.probe()
        result = run(self._systemctl("show", UNIT, f"--property={_STATE}"))
        known = dict(
            line.split("=", 1) for line in result.stdout.splitlines() if "=" in line
        )
        return State(
            {"enabled": self._enabled(known), **_activity(known)},
            known.get("ActiveState") in {"active", "reloading"},
        )

    def hints(self, unseen: Sequence[str] = ()) -> list[str]:
        """Return where variables belong, and how to keep it while nobody is there."""
        hints = []
        if unseen:
            sudo = "sudo " * self._system
            restart = " ".join(self._systemctl("restart", "ssmtunneld"))
            hints.append(
                f"the service does not see this shell's {', '.join(unseen)}: write "
                f"them to {self.environment} (one NAME=value a line, mode 0600), then: "
                f"{sudo}{restart}"
            )
        if not self._system and not self._lingers():
            hints.append("to keep it while you are logged out: loginctl enable-linger")
        return hints

    def _lingers(self) -> bool:
        user = str(self._place.uid)
        try:
            result = run(("loginctl", "show-user", user, "--property=Linger"))
        except CommandError:
            return False  # systemd without its logind: nobody logs out
        return result.stdout.strip() == "Linger=yes"

    def _enabled(self, known: Mapping[str, str]) -> str:
        state = known.get("UnitFileState", "")
        if state != "enabled":
            return f"no{f' ({state})' if state else ''}"
        if self._system:
            return "yes: it starts at boot"
        if self._lingers():
            return "yes: it starts at boot, and stays while you are logged out"
        return "yes: it starts at login, and ends with the last logout"

    def _systemctl(self, *arguments: str) -> tuple[str, ...]:
        return ("systemctl", *self._scope, *arguments)


def _activity(known: Mapping[str, str]) -> dict[str, str]:
    """Return the lines about what the unit does now."""
    state, detail = known.get("ActiveState", ""), known.get("SubState", "")
    since = known.get("ActiveEnterTimestamp", "")
    lines: dict[str, str] = {}
    if state in {"active", "reloading"}:
        lines["active"] = f"yes, since {since}, pid {known.get('MainPID', '?')}"
    elif state == "activating":
        lines["active"] = f"not yet: {_starting(detail)}"
    elif state == "failed":
        lines["active"] = f"no: {_failure(known)}"
    else:
        lines["active"] = f"no: {state or 'unknown'}"
    # systemd keeps the last sentence of a service that has ended.
    if known.get("StatusText") and state in _LIVING:
        lines["says"] = known["StatusText"]
    if known.get("NRestarts", "0") != "0":
        lines["restarts"] = f"{known['NRestarts']} after a failure"
    if known.get("NeedDaemonReload") == "yes":
        lines["note"] = "the unit has changed; ssmtunneld service install takes it up"
    return lines


def _starting(detail: str) -> str:
    if detail == "auto-restart":
        return "it has failed and is tried again every two seconds; see its log"
    return "it waits for its required tunnels; ssmtunneld status says why"


def _failure(known: Mapping[str, str]) -> str:
    when = known.get("InactiveEnterTimestamp", "")
    if known.get("ExecMainStatus") == "2":
        return f"the configuration cannot be used (since {when}); ssmtunneld check"
    return f"it failed with {known.get('Result', 'an error')} (since {when})"
