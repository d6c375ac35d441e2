"""``ssmtunneld login``."""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

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
    identity = _identity(name, profile, config_path)
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
            raise CommandError(
                f"{identity.name} needs no login: its credentials are keys, or renew "
                "themselves",
                "see: ssmtunneld doctor",
            )
        _run(needs.command)
        return
    region = login_region(identity)
    if needs.command and not has_credentials(identity, needs.profile, region):
        _run(needs.command)
    ends_at = begin_session(identity, _read_code if code_stdin else _ask, region)
    click.echo(f"logged in as {identity.name}{_until(ends_at)}", err=True)


def _identity(
    name: str | None, profile: str | None, config_path: Path | None
) -> Identity:
    if (name is None) == (profile is None):
        raise click.UsageError("pass either the NAME of a tunnel or --profile PROFILE")
    if name is None:
        from ssmtunneld.aws.api.port import Identity

        return Identity(profile=profile)
    tunnel = tunnel_named(load_in_use(config_path), name)
    from ssmtunneld.aws.api.port import Identity

    return Identity.of(tunnel)


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
    click.echo(f"running: {text}", err=True)
    code = subprocess.run(  # noqa: S603 - no shell, and a profile's name at the most
        [program, *command[1:]], check=False
    ).returncode
    if code:
        raise CommandError(
            f"{text} failed with exit code {code}", "see its messages above"
        )


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
