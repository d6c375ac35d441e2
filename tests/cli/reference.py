"""The tables of docs/commands.md: ``python -m tests.cli.reference`` writes them."""

import re
from pathlib import Path

import click

from ssmtunneld.cli.exit_codes import MEANINGS
from ssmtunneld.cli.main import GROUPS, PROGRAM, cli
from ssmtunneld.cli.manual import summary

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"

# Where a document says more than the summary.
MORE = {
    "open": "[below](#open)",
    "init": "[quickstart.md](quickstart.md)",
    "add": "[below](#add-and-remove)",
    "remove": "[below](#add-and-remove)",
    "import": "[below](#import)",
    "discover": "[below](#discover)",
    "ssh": "[below](#ssh)",
    "targets": "[below](#targets)",
    "status": "[status.md](status.md)",
    "doctor": "[doctor.md](doctor.md)",
    "check": "[doctor.md](doctor.md#the-short-form-ssmtunneld-check---live)",
    "login": "[below](#login), [identities.md](identities.md#logging-in)",
    "request": "[below](#request), [tasks/access.md](tasks/access.md)",
    "db-token": "[databases.md](databases.md)",
    "kubeconfig": "[tasks/clusters.md](tasks/clusters.md)",
    "env": "[databases.md](databases.md)",
    "hosts": "[databases.md](databases.md)",
    "proxy": "[ssh.md](ssh.md)",
    "ssh-config": "[ssh.md](ssh.md)",
    "demo": "[emulator.md](emulator.md)",
    "emulator": "[emulator.md](emulator.md)",
    "wait": "[below](#wait)",
    "connect": "[below](#connect), "
    "[databases.md](databases.md#the-client-ssmtunneld-connect-name)",
    "exec": "[below](#exec)",
    "reload": "[below](#reload)",
    "drain": "[below](#drain-pause-resume)",
    "pause": "[below](#drain-pause-resume)",
    "resume": "[below](#drain-pause-resume)",
    "sessions": "[below](#sessions)",
    "top": "[below](#top)",
    "connections": "[below](#connections-kill)",
    "kill": "[below](#connections-kill)",
    "logs": "[below](#logs)",
    "completion": "[below](#completion)",
}
_BLOCK = re.compile(r"(<!-- (\w+): .*? -->\n).*?(<!-- end -->)", re.DOTALL)


def _commands(command, context, words=()):
    """Yield every command that does something, with its words and its context."""
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        inner = click.Context(below, info_name=name, parent=context)
        if not isinstance(below, click.Group) or below.invoke_without_command:
            yield (*words, name), below
        if isinstance(below, click.Group):
            yield from _commands(below, inner, (*words, name))


def _arguments(command):
    return [
        param.metavar or param.name.upper()
        for param in command.params
        if isinstance(param, click.Argument)
    ]


def commands_table():
    first = {next(iter(commands)): heading for heading, commands in GROUPS.items()}
    lines = []
    for words, command in _commands(cli, click.Context(cli, info_name=PROGRAM)):
        if heading := first.pop(words[0], ""):
            lines += ["", f"**{heading}**", ""]
            lines += ["| command | what it does | more |", "|---|---|---|"]
        typed = " ".join([*words, *_arguments(command)])
        more = MORE.get(words[0], "")
        lines.append(f"| `{typed}` | {summary(command).removesuffix('.')} | {more} |")
    return [*lines[1:], ""]


def exits_table():
    rows = [f"| {code} | {words} |" for code, words in MEANINGS.items()]
    return ["| code | meaning |", "|---|---|", *rows]


TABLES = {"commands": commands_table, "exits": exits_table}


def renewed(text):
    """Return the document with its tables as the commands say."""
    return _BLOCK.sub(
        lambda m: m[1] + "\n".join(TABLES[m[2]]()) + "\n" + m[3],
        text,
    )


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text("utf-8")), "utf-8")
