"""``ssmtunneld service``."""

import difflib
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ssmtunneld.cli.exit_codes import EXIT_NOT_RUNNING, CommandError
from ssmtunneld.cli.options import config_option, load
from ssmtunneld.cli.service import units
from ssmtunneld.cli.service.launchctl import Launchd
from ssmtunneld.cli.service.manager import Manager, ServicePaths, Step, run, said
from ssmtunneld.cli.service.systemctl import Systemd
from ssmtunneld.cli.usage import SuggestingGroup, service_command
from ssmtunneld.daemon.instance_lock import holders
from ssmtunneld.errors import ConfigError

_Command = TypeVar("_Command", bound=Callable[..., Any])
_MODE: Final = 0o644


class _Service(SuggestingGroup):
    """Leaves to the service manager what that does itself."""

    synonyms = {  # noqa: RUF012 - nobody changes it
        verb: f"the service manager does that: {service_command(verb)}"
        for verb in ("start", "stop", "restart")
    }


@click.group(cls=_Service)
@click.pass_context
def service(context: click.Context) -> None:
    """Install the daemon as a systemd or launchd service.

    By default it is a user service: it starts when you log in, and uses your AWS
    profiles and logins. With --system (Linux) it is a hardened service of the machine,
    with a user of its own.

    systemd starts and stops it: `systemctl --user restart ssmtunneld`, or start or stop
    (sudo systemctl restart ssmtunneld, with --system). On macOS launchd does:
    `launchctl kickstart -k gui/$(id -u)/io.github.ssmtunneld`. After a change of the
    configuration `ssmtunneld reload` is enough.
    """
    context.obj = context.obj or ServicePaths.here()


def _scope_option(command: _Command) -> _Command:
    return click.option(
        "--system/--user",
        "system",
        help="A service of the machine, or of your user, which is the default.",
    )(command)


def _change_options(command: _Command) -> _Command:
    shown = click.option(
        "--print",
        "only_print",
        is_flag=True,
        help="Only show what would be written and run.",
    )
    agreed = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    return shown(agreed(command))


@service.command()
@_scope_option
@config_option
@_change_options
@click.pass_obj
def install(
    place: ServicePaths,
    *,
    config_path: Path | None,
    system: bool,
    only_print: bool,
    yes: bool,
) -> None:
    """Install and start the service, now and at every login or boot.

    Repeating it changes nothing; after an upgrade it renews the unit. A unit that
    differs is shown, and replaced only if you agree.
    """
    manager = manager_for(place, system=system)
    if only_print:
        config = _find(place, config_path, system=system)
        click.echo(f"# {manager.path}\n{manager.text(place.program, config)}")
        _show(manager.begin(changed=True))
        return
    loaded = load(_find(place, config_path, system=system))
    config = loaded.source.absolute()
    manager.check(place.program, config)
    text = manager.text(place.program, config)
    manager.probe()
    # A service that is active is the one whose process has the lock.
    others = [] if system or manager.state().active else holders(config)
    changed = _write(manager.path, text, yes=yes)
    _take(manager.begin(changed=changed))
    for pid in others:
        click.echo(
            f"Hint: a daemon runs {config} already (pid {pid}): end it, and the "
            "service takes its place within seconds"
        )
    from ssmtunneld.cli.service.environment import unseen

    click.echo(f"Check its state: ssmtunneld service status{' --system' * system}")
    for hint in manager.hints(unseen(loaded, place.environ, manager.environment)):
        click.echo(f"Hint: {hint}")


@service.command()
@_scope_option
@_change_options
@click.pass_obj
def uninstall(
    place: ServicePaths, *, system: bool, only_print: bool, yes: bool
) -> None:
    """Stop, disable and remove the service.

    Only a unit that `service install` wrote is removed. The configuration and the log
    stay where they are.
    """
    manager = manager_for(place, system=system)
    path = manager.path
    if only_print:
        _show(manager.end())
        click.echo(shlex.join(["rm", str(path)]))
        _show(manager.forget())
        return
    present = _read(path)
    if present is None:
        click.echo(f"Nothing to do: there is no {path}")
        return
    if not units.is_ours(present):
        raise CommandError(
            f"{path} was not written by `ssmtunneld service install`",
            "stop that service and remove the file yourself",
        )
    manager.probe()
    if not yes:
        _ask(f"Stop the service and remove {path}?")
    _take(manager.end())
    _remove(path)
    _take(manager.forget())


@service.command()
@_scope_option
@click.pass_obj
def status(place: ServicePaths, *, system: bool) -> None:
    """Show the state of the service; exit with 3 if it is not active."""
    manager = manager_for(place, system=system)
    present = _read(manager.path)
    if present is None:
        flag = " --system" * system
        click.echo(f"installed  no; to install: ssmtunneld service install{flag}")
        sys.exit(EXIT_NOT_RUNNING)
    state = manager.state()
    ours = "" if units.is_ours(present) else " (not written by service install)"
    lines = {"installed": f"{manager.path}{ours}", **state.lines, "logs": manager.logs}
    for name, text in lines.items():
        click.echo(f"{name:<9}  {text}")
    if not state.active:
        sys.exit(EXIT_NOT_RUNNING)


def manager_for(place: ServicePaths, *, system: bool) -> Manager:
    """Return the service manager of ``place``.

    Raises:
        CommandError: There is none that we know.
    """
    if place.platform == "linux":
        return Systemd(place, system=system)
    if place.platform != "darwin":
        raise CommandError(
            f"no supported service manager on {place.platform}",
            "have another supervisor start `ssmtunneld run`, which stays in the "
            "foreground",
        )
    if system:
        raise CommandError(
            "on macOS a system service would run as root",
            "install a user service: ssmtunneld service install",
        )
    return Launchd(place)


def _find(place: ServicePaths, explicit: Path | None, *, system: bool) -> Path:
    """Return the absolute path of the configuration, whether it is there or not."""
    from platformdirs import user_config_path

    from ssmtunneld.config import find_config
    from ssmtunneld.config.load import SYSTEM_CONFIG

    if explicit is None and system:
        return SYSTEM_CONFIG
    try:
        return find_config(explicit, place.environ).absolute()
    except ConfigError:
        return user_config_path("ssmtunneld") / "config.toml"


def _read(path: Path) -> str | None:
    """Return the content of ``path``; None if it is not there.

    Raises:
        CommandError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None


def _write(path: Path, text: str, *, yes: bool) -> bool:
    """Bring ``text`` into ``path``; return whether that changed anything.

    Raises:
        CommandError: It cannot be written, or nobody agreed to replace what is there.
    """
    present = _read(path)
    if present == text:
        click.echo(f"{path} is up to date")
        return False
    if present is not None:
        for line in _difference(path, present, text):
            click.echo(line)
        if not yes:
            _ask(f"Replace {path}?")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, text)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written: {error.strerror}",
            "--system needs root: sudo ssmtunneld service install --system",
        ) from None
    click.echo(f"Wrote {path}")
    return True


def _difference(path: Path, present: str, text: str) -> Iterable[str]:
    return difflib.unified_diff(
        present.splitlines(),
        text.splitlines(),
        f"{path} as it is",
        f"{path} as it would be",
        lineterm="",
    )


def _replace(path: Path, text: str) -> None:
    """Write ``path`` whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), _MODE)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise CommandError(f"{path} cannot be removed: {error.strerror}") from None
    click.echo(f"Removed {path}")


def _ask(question: str) -> None:
    """Go on if a person agrees.

    Raises:
        CommandError: There is nobody to ask.
        click.Abort: They do not agree.
    """
    if not sys.stdin.isatty():
        raise CommandError("no terminal to confirm on", "pass --yes to confirm")
    click.confirm(question, abort=True)


def _show(steps: Iterable[Step]) -> None:
    for step in steps:
        click.echo(f"{shlex.join(step.command)}  # {step.why}")


def _take(steps: Iterable[Step]) -> None:
    """Run ``steps`` one after the other, and say of each what it does.

    Raises:
        CommandError: One of them failed that must not.
    """
    for step in steps:
        command = shlex.join(step.command)
        click.echo(f"{command}: {step.why}")
        result = run(step.command)
        if result.returncode and not step.may_fail:
            raise CommandError(f"{command}: {said(result)}")
