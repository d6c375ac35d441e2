"""``ssmtunneld connect``: the client that fits, through one tunnel."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssmtunneld.cli.application_protocol import (
    DATABASES,
    HTTP,
    KUBERNETES,
    protocol_of,
)
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.child_process import BY_SIGNAL, run_program
from ssmtunneld.cli.clients.launch import Launch, Task
from ssmtunneld.cli.clients.registry import NAMES, Choice, choose, installed
from ssmtunneld.cli.daemon_client import select
from ssmtunneld.cli.destination import bound_end, fixed_tunnel_named
from ssmtunneld.cli.ending_signals import EndingSignals
from ssmtunneld.cli.exit_codes import EXIT_FAILED, EXIT_USAGE, CommandError
from ssmtunneld.cli.options import (
    complete_names,
    config_in_use_option,
    load_in_use,
    one_line,
    timeout_option,
)
from ssmtunneld.cli.own_daemon import ready_daemon
from ssmtunneld.cli.readiness import patience_for
from ssmtunneld.cli.refusals import tell_refusals
from ssmtunneld.cli.terminal.picker import can_ask
from ssmtunneld.cli.terminal.text import visible
from ssmtunneld.cli.trailing_command import TrailingCommand, trailing

if TYPE_CHECKING:
    import subprocess

    from click.shell_completion import CompletionItem

    from ssmtunneld.cli.destination import Local
    from ssmtunneld.config import TunnelSettings


def _complete_clients(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in NAMES if name.startswith(incomplete)]


@click.command(
    cls=TrailingCommand,
    options_metavar="[OPTIONS]",
    epilog="Examples: `ssmtunneld connect orders-db`; "
    "`ssmtunneld connect orders-db -- -c 'select 1'`; "
    "`ssmtunneld connect orders-db --client pg_dump -- -Fc -f orders.dump`; "
    "`ssmtunneld connect cache -- ping`.",
)
@click.argument("name", metavar="NAME [-- ARGUMENTS]", shell_complete=complete_names)
@click.option(
    "--client",
    "wanted",
    metavar="NAME",
    shell_complete=_complete_clients,
    help=f"The client: {', '.join(NAMES)}; or the path of one, any other program on "
    "libpq such as pg_dump, or a tool of MySQL's or MariaDB's such as mysqldump.",
)
@click.option(
    "--user",
    metavar="USER",
    callback=one_line,
    help="User of the database or of ssh. By default the tunnel's.",
)
@click.option(
    "--token/--no-token",
    default=None,
    help="Log in with an IAM password, or do not. By default as db_auth says.",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Print the command that is run, too."
)
@timeout_option("60s", "Limit for waiting")
@config_in_use_option
@click.pass_context
def connect(
    ctx: click.Context,
    /,
    name: str,
    *,
    wanted: str | None,
    user: str | None,
    token: bool | None,
    verbose: bool,
    timeout: float,
    config_path: Path | None,
) -> None:
    """Run the client that fits a tunnel, and end as it ends.

    Which one fits is told by db_engine, by the probe, by AWS's name of the service in
    the host, and by the port; where nothing tells, a person on a terminal is asked. The
    client gets the real host name where it can use it, TLS as the tunnel's db_tls and
    db_ca say, and with db_auth = "iam" a password by IAM, which is in no argument. What
    follows -- is for the client.

    Waits until the tunnel is ready. If no daemon runs for the configuration, one is
    started and runs as long as the client. For a page that no browser here opens, it
    says the URL and exits with 1.
    """
    config = load_in_use(config_path)
    tunnel = fixed_tunnel_named(config, name)
    if wanted is None and protocol_of(tunnel) is None:
        wanted = _ask_client(tunnel)
    choice = choose(tunnel, wanted, os.environ)
    if user is not None and choice.client.protocol in {KUBERNETES, HTTP}:
        raise click.UsageError(f"--user is not for {choice.client.name}")
    patience = patience_for(timeout)
    with (
        EndingSignals() as signals,
        signals.interrupting(),
        ready_daemon(config.source, [name], patience) as served,
    ):
        local = bound_end(select(served.daemon.document, [name])[0])
        launch = _prepare(tunnel, choice, local, user, trailing(ctx), token=token)
        if verbose and choice.program:
            tell(visible(f"ssmtunneld: {launch}"))
        if not choice.client.returns:
            code = run_program(launch.words, launch.environment(os.environ))
            # A daemon of our own has said so in its log.
            if code and served.process is None:
                tell_refusals(served.daemon, [name])
        else:
            code = _open_page(launch, choice, verbose=verbose)
            if served.process is not None and code < BY_SIGNAL:
                _stay(served.process)
    ctx.exit(code)


def _ask_client(tunnel: TunnelSettings) -> str | None:
    """Return the client that a person chooses; None where nobody can be asked.

    Raises:
        click.Abort: None of them.
    """
    here = installed(os.environ)
    if not here or not (can_ask() and sys.stdout.isatty()):
        return None
    import questionary

    choices = [
        questionary.Choice(f"{client.name}  ({client.protocol})", client)
        for client in here
    ]
    where = f"{tunnel.name} ({tunnel.destination})"
    client = questionary.select(f"Which client for {where}?", choices).ask()
    if client is None:
        raise click.Abort
    if client.protocol in DATABASES:
        tell(
            f'ssmtunneld: not asked again with db_engine = "{client.protocol}" in '
            f"[tunnels.{tunnel.name}]"
        )
    return str(client.name)


def _open_page(launch: Launch, choice: Choice, *, verbose: bool) -> int:
    """Let a browser show a page, or say where it is; return the exit code."""
    why = ""
    if choice.program:
        environ = launch.environment(os.environ)
        code = run_program(launch.words, environ, hushed=not verbose)
        if code == 0 or code >= BY_SIGNAL:
            return code
        why = f" ({Path(choice.program).name} has exited with {code})"
    words = f"no browser here opens {launch.page}{why}; open it yourself"
    tell(visible(f"ssmtunneld: {words}"))
    return EXIT_FAILED


def _prepare(
    tunnel: TunnelSettings,
    choice: Choice,
    local: Local,
    user: str | None,
    arguments: tuple[str, ...],
    *,
    token: bool | None,
) -> Launch:
    protocol, password = choice.client.protocol, None
    by_iam = tunnel.db_auth == "iam" and protocol in DATABASES
    if by_iam if token is None else token:
        from ssmtunneld.cli.commands.db_token import login_for
        from ssmtunneld.cli.database_variables import takes_iam_password

        if not takes_iam_password(protocol):
            raise CommandError(
                f"{protocol} does not support IAM passwords",
                "omit --token" if token else 'set db_auth = "password"',
                code=EXIT_USAGE,
            )
        login = login_for(tunnel, user)
        user, password = login.user, login.password
    task = Task(
        tunnel=tunnel,
        local=local,
        program=choice.program,
        protocol=protocol,
        arguments=arguments,
        environ=os.environ,
        asks=sys.stdin.isatty(),
        user=user,
        password=password,
    )
    return choice.client.prepare(task)


def _stay(daemon: subprocess.Popen[bytes]) -> None:
    """Keep our own daemon for what a client has opened, until Ctrl-C.

    Raises:
        CommandError: The daemon has ended by itself.
    """
    tell("ssmtunneld: the tunnel is open until Ctrl-C")
    with suppress(KeyboardInterrupt):
        ended = daemon.wait()
        raise CommandError(
            f"the daemon has exited with {ended}", "see its messages above"
        )
