"""``ssmtunneld login``."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.destination import tunnel_named
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.options import complete_names, config_in_use_option, load_in_use

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ssmtunneld.aws.api.port import Identity

_INSTALL: Final = (
    "install version 2 of it: "
    "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
)
_VERSION_TIMEOUT: Final = 10.0
"""Seconds for the AWS CLI to say its version: half a second, on a busy machine more."""


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_names)
@click.option(
    "--profile",
    metavar="PROFILE",
    help="Log in with a profile of ~/.aws/config, instead of a tunnel's.",
)
@click.option(
    "--code-stdin",
    is_flag=True,
    help="Read the MFA code from standard input, not from the terminal.",
)
@config_in_use_option
def login(
    name: str | None, profile: str | None, config_path: Path | None, *, code_stdin: bool
) -> None:
    """Log in to AWS with a tunnel's identity.

    For IAM Identity Center and "aws login" it runs the AWS CLI, which opens a browser.
    For a role that requires an MFA code it asks for the code, and caches the role's
    session where the AWS CLI does. The daemon notices by itself. Run it as the daemon's
    user.
    """
    identity, source = _identity(name, profile, config_path)
    # Importing botocore takes longer than finding out that there is no such tunnel.
    from ssmtunneld.aws.identity.mfa import (
        begin_session,
        has_credentials,
        login_needs,
        login_region,
    )

    needs = login_needs(identity)
    if not needs.code:
        if not needs.command:
            raise _needless(identity, source)
        _run(needs.command)
        return
    region = login_region(identity)
    if needs.command and not has_credentials(identity, needs.profile, region):
        _run(needs.command)
    ends_at = begin_session(identity, _read_code if code_stdin else _ask, region)
    tell(f"logged in as {identity.name}{_until(ends_at)}")


def _identity(
    name: str | None, profile: str | None, config_path: Path | None
) -> tuple[Identity, Path | None]:
    """Return who logs in, and the file that says so; None for a profile."""
    if (name is None) == (profile is None):
        raise click.UsageError("pass either the NAME of a tunnel or --profile PROFILE")
    if name is None:
        from ssmtunneld.aws.api.port import Identity

        return Identity(profile=profile), None
    config = load_in_use(config_path)
    tunnel = tunnel_named(config, name)
    from ssmtunneld.aws.api.port import Identity

    return Identity.of(tunnel), config.source


def _needless(identity: Identity, source: Path | None) -> CommandError:
    """Return the error for credentials that no login renews, and what to do instead.

    A daemon that has none itself is right about its own environment, whatever this
    shell's has.
    """
    from ssmtunneld.cli.running_daemons import credentials_trouble

    if source is not None:
        trouble = credentials_trouble(source, identity.tunnel)
        if trouble is not None:
            return CommandError(f"no login helps: {trouble[0]}", trouble[1])
    if identity.profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
        return CommandError(
            "AWS_ACCESS_KEY_ID and what belongs to it are keys: they need no login",
            "once they have expired, set new ones and start what uses them again; or "
            "name a profile in the configuration",
        )
    return CommandError(
        f"{identity.name} needs no login: its credentials are keys, or renew "
        "themselves",
        "see: ssmtunneld doctor",
    )


def _run(command: Sequence[str]) -> None:
    """Run a command of the AWS CLI, on this terminal.

    Raises:
        CommandError: It is not installed, or failed.
    """
    text = shlex.join(command)
    program = shutil.which(command[0])
    if program is None:
        raise CommandError(
            f"{text} needs the AWS CLI, which is not installed", _INSTALL
        )
    tell(f"running: {text}")
    code = subprocess.run(  # noqa: S603 - no shell, and a profile's name at the most
        [program, *command[1:]], check=False
    ).returncode
    if not code:
        return
    if version := _old_version(program):
        raise CommandError(f"{text} needs AWS CLI 2, and this is {version}", _INSTALL)
    raise CommandError(f"{text} failed with exit code {code}", "see its messages above")


def _old_version(program: str) -> str:
    """Return the version of an AWS CLI that knows no logins; empty for another one.

    Version 1 takes them for wrong usage, and says nothing of its age.
    """
    try:
        told = subprocess.run(  # noqa: S603 - no shell
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # Where older ones of them write it.
            stderr=subprocess.STDOUT,
            timeout=_VERSION_TIMEOUT,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.match(r"aws-cli/(1\.[0-9.]+)", told.decode(errors="replace"))
    return found[1] if found else ""


def _ask(device: str) -> str:
    if not sys.stdin.isatty():
        raise CommandError(
            "no terminal to ask for the MFA code",
            "pass --code-stdin and write the code to standard input",
            code=EXIT_USAGE,
        )
    return _checked(lambda: getpass.getpass(f"MFA code of {device}: "))


def _read_code(_device: str) -> str:
    return _checked(sys.stdin.readline)


def _checked(read: Callable[[], str]) -> str:
    try:
        code = read().strip()
    except EOFError:
        code = ""
    # What STS says of anything else would have it on the screen, and in a log perhaps.
    if not re.fullmatch(r"[0-9]{6}", code):
        raise CommandError("invalid MFA code: it must have 6 digits", code=EXIT_USAGE)
    return code


def _until(ends_at: float) -> str:
    from ssmtunneld.cli.terminal.text import duration

    end = datetime.fromtimestamp(ends_at, UTC)
    left = (end - datetime.now(UTC)).total_seconds()
    return f" until {end.astimezone():%H:%M}, for {duration(max(0, left))}"
