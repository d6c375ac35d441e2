"""``ssmtunneld ssh``: the user's own ssh, through a session."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ssmtunneld.base.ports import HIGHEST_PORT
from ssmtunneld.cli.ad_hoc import check_target
from ssmtunneld.cli.child_process import NOT_FOUND, run_program
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.options import file_option
from ssmtunneld.cli.service.manager import program
from ssmtunneld.cli.trailing_command import TrailingCommand, trailing
from ssmtunneld.ssh.host_names import host_name


@click.command(
    cls=TrailingCommand,
    epilog="Examples: `ssmtunneld ssh ubuntu@i-0182d91e85d69cf00`; "
    "`ssmtunneld ssh ec2-user@name:web-1 --instance-connect`; "
    "`ssmtunneld ssh tag:Role=bastion -- -L 8080:localhost:80 uptime`.",
)
@click.argument("destination", metavar="[USER@]TARGET [-- SSH ARGUMENTS]")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(1, HIGHEST_PORT),
    help="Where the ssh server listens. By default what ssh's own files say, or 22.",
)
@click.option("--profile", metavar="NAME", help="The AWS profile.")
@click.option("--region", metavar="REGION", help="The AWS region.")
@click.option("--document", metavar="NAME", help="A session document of your own.")
@click.option(
    "--endpoint-url", metavar="URL", help="The SSM API, where it is not the public one."
)
@click.option(
    "--instance-connect",
    is_flag=True,
    help="Log in with a key that is made now, and that the instance accepts for a "
    "minute (EC2 Instance Connect).",
)
@file_option(
    "Configuration file, whose daemon, profile, region and endpoints are used. By "
    "default $SSMTUNNELD_CONFIG, then the usual places."
)
@click.pass_context
def ssh(
    ctx: click.Context,
    /,
    destination: str,
    *,
    port: int | None,
    instance_connect: bool,
    config_path: Path | None,
    **given: str | None,
) -> None:
    """Log in to a target with your own ssh, and end as it ends.

    TARGET is i-..., mi-..., name:web-1, tag:Role=bastion, or whatever else a file may
    say. No file is touched but ssh's own known_hosts. What follows -- is for ssh:
    options first, then a command.
    """
    from ssmtunneld.ssh.fd_passing import IS_USUAL

    if shutil.which("ssh") is None:
        raise CommandError(
            "there is no ssh on this machine", "install OpenSSH", code=NOT_FOUND
        )
    user, target = _split(destination)
    _check(target)
    options = {**given, "config": None if config_path is None else str(config_path)}
    words = [*program(sys.argv[0]), "proxy"]
    for name, value in options.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", value]
    chosen: list[str] = []
    tail = ""
    if not instance_connect:
        if IS_USUAL:
            words.append("--fdpass")
            chosen = ["-o", "ProxyUseFdpass=yes"]
    else:
        # ssh knows whose key it is only once it has read its own configuration.
        tail = " --instance-connect --user '%r'"
        chosen = _key_options(target)
    line = f"{proxy_command(words)}{tail} {_escaped(target)} %p"
    command = ["ssh", "-o", f"ProxyCommand={line}", *chosen]
    command += [] if port is None else ["-p", str(port)]
    command += [] if user is None else ["-l", user]
    # ssh reads options that come after the host as well, then a command.
    command += [host_name(target), *trailing(ctx)]
    ctx.exit(run_program(command, os.environ))


def _split(destination: str) -> tuple[str | None, str]:
    user, at, target = destination.rpartition("@")
    return (user or None, target) if at and ":" not in user else (None, destination)


def _check(target: str) -> None:
    try:
        check_target(target)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _key_options(target: str) -> list[str]:
    """Return where ssh finds the key that ``proxy --instance-connect`` makes."""
    from ssmtunneld.cli.ssh_files import keys_directory
    from ssmtunneld.ssh.keys import NAME, folder_name

    folder = f"%r{folder_name('', target)}"
    root = str(keys_directory()).replace("%", "%%")
    path = f"{root}/{folder}/{NAME}"
    return ["-o", f'IdentityFile="{path}"', "-o", "IdentitiesOnly=yes"]


def proxy_command(words: Sequence[str]) -> str:
    """Return ``words`` as ssh's ProxyCommand: ssh expands it, then a shell reads it."""
    return " ".join(map(_escaped, words))


def _escaped(word: str) -> str:
    return shlex.quote(word).replace("%", "%%")
