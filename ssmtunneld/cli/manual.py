"""The manual pages, made from the commands: ``python -m ssmtunneld.cli.manual FOLDER``.

One page for the program and one for each command, in man(7)'s macros, which groff and
mandoc both read. ``hatch_build.py`` puts them into a wheel, and ``make man`` into a
folder. The same commands give the same bytes.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from ssmtunneld.cli.exit_codes import MEANINGS
from ssmtunneld.cli.main import GROUPS, PROGRAM, cli
from ssmtunneld.version import __version__

DATE: Final = "2026-11-30"
"""Date at the foot of the pages: that of the release that they describe."""

_FILES: Final = (
    (
        "~/.config/ssmtunneld/config.toml",
        "The user's configuration; elsewhere if XDG_CONFIG_HOME is set, and on macOS.",
    ),
    ("/etc/ssmtunneld/config.toml", "The machine's configuration."),
    (
        "~/.local/state/ssmtunneld",
        "Locks, control sockets, and the sizes of messages that agents take; "
        "STATE_DIRECTORY under systemd.",
    ),
)
_ENVIRONMENT: Final = (
    ("SSMTUNNELD_CONFIG", "The configuration file, where --config does not name it."),
    ("NO_COLOR", "If not empty, output has no colours."),
    ("COLUMNS", "The width of tables where there is no terminal."),
)
_PROGRAM_TEXT: Final = (
    "A daemon keeps sessions of AWS Systems Manager open, and forwards local ports and "
    "Unix sockets through them. The configuration file says which; the commands below "
    "start the daemon, query it, and try it without AWS."
)


def pages() -> dict[str, str]:
    """Return the text of every page, by the name of its file."""
    context = click.Context(cli, info_name=PROGRAM)
    commands = {
        name: command
        for name in cli.list_commands(context)
        if (command := cli.get_command(context, name)) is not None
    }
    found = {f"{PROGRAM}.1": _program_page(commands)}
    for name, command in commands.items():
        found |= _command_pages(f"{PROGRAM} {name}", command)
    return found


def _command_pages(title: str, command: click.Command) -> dict[str, str]:
    """Return the page of a command, and those of the commands below it."""
    found = {f"{title.replace(' ', '-')}.1": _command_page(title, command)}
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            found |= _command_pages(f"{title} {name}", below)
    return found


def _program_page(commands: dict[str, click.Command]) -> str:
    listed: list[str] = []
    for heading, names in GROUPS.items():
        rows = [
            (_bold(f"{PROGRAM}-{name}") + "(1)", _escape(summary(commands[name])))
            for name in names
            if name in commands
        ]
        listed += [f'.SS "{heading}"', *_definitions(rows)]
    return _page(
        PROGRAM,
        (cli.help or "").splitlines()[0].rstrip("."),
        [
            ("SYNOPSIS", [f"{_bold(PROGRAM)} {_italic('COMMAND')} [...]"]),
            ("DESCRIPTION", [_escape(_PROGRAM_TEXT)]),
            ("COMMANDS", listed),
            ("OPTIONS", _options(cli)),
            (
                "EXIT STATUS",
                _plain_definitions(
                    (str(code), f"{words[0].upper()}{words[1:]}.")
                    for code, words in MEANINGS.items()
                ),
            ),
            ("ENVIRONMENT", _plain_definitions(_ENVIRONMENT)),
            ("FILES", _plain_definitions(_FILES)),
        ],
    )


def _command_page(title: str, command: click.Command) -> str:
    synopsis = " ".join([_bold(title), *_pieces(command)])
    return _page(
        title,
        summary(command).rstrip("."),
        [
            ("SYNOPSIS", [synopsis]),
            ("DESCRIPTION", _paragraphs(command.help or "")),
            ("OPTIONS", _options(command)),
            ("EXIT STATUS", [f"See {_bold(PROGRAM)}(1)."]),
            ("SEE ALSO", [f"{_bold(PROGRAM)}(1)"]),
        ],
    )


def _page(
    title: str, summary: str, sections: Iterable[tuple[str, Sequence[str]]]
) -> str:
    name = title.replace(" ", "-")
    lines = [
        '.\\" Made from the commands by ssmtunneld.cli.manual; edit those instead.',
        f'.TH "{_escape(name.upper())}" 1 "{DATE}" "{PROGRAM} {__version__}" '
        '"User Commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{_escape(name)} \\- {_escape(summary)}",
    ]
    for heading, body in sections:
        lines += [f'.SH "{heading}"', *body]
    return "\n".join(lines) + "\n"


def summary(command: click.Command) -> str:
    """Return the first line of a command's help: one sentence."""
    return (command.help or "").partition("\n")[0]


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for block in text.strip().split("\n\n"):
        literal = block.lstrip().startswith("\b")
        if lines:
            lines.append(".PP")
        if literal:  # click's mark for a paragraph that is not to be filled
            rows = [row.strip() for row in block.lstrip().splitlines()[1:]]
            lines += [".nf", *(_line(row) for row in rows), ".fi"]
        else:
            lines.append(_line(" ".join(block.split())))
    return lines


def _options(command: click.Command) -> list[str]:
    listed = [
        (_spelled(option), _explained(option))
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]
    listed.append((f"{_bold('-h')}, {_bold('--help')}", "Show help and exit."))
    return _definitions(listed)


def _pieces(command: click.Command) -> Iterator[str]:
    yield "[OPTIONS]"
    for param in command.params:
        if isinstance(param, click.Argument):
            yield _escape(_value_name(param))
    if isinstance(command, click.Group) and not command.invoke_without_command:
        yield "COMMAND [...]"


def _spelled(option: click.Option) -> str:
    names = ", ".join(map(_bold, [*option.opts, *option.secondary_opts]))
    if option.is_flag or option.count:
        return names
    return f"{names} {_italic(_value_name(option))}"


def _explained(option: click.Option) -> str:
    text = _escape(" ".join((option.help or "").split()))
    if option.show_default and option.default is not None:
        text += f" The default is {_escape(str(option.default))}."
    return text.strip()


def _value_name(param: click.Parameter) -> str:
    if param.metavar:
        return param.metavar
    if isinstance(param.type, click.Choice):
        return "|".join(map(str, param.type.choices))
    return (param.name or param.type.name).upper()


def _plain_definitions(items: Iterable[tuple[str, str]]) -> list[str]:
    return _definitions([(_bold(term), _escape(text)) for term, text in items])


def _definitions(items: Iterable[tuple[str, str]]) -> list[str]:
    """Return a list of terms, with their escaped texts."""
    lines = []
    for term, text in items:
        lines += [".TP", term, _protected(text) or "\\&"]
    return lines


def _line(text: str) -> str:
    return _protected(_escape(text))


def _protected(escaped: str) -> str:
    """Return a line that does not begin as a request does."""
    return f"\\&{escaped}" if escaped[:1] in {".", "'"} else escaped


def _escape(text: str) -> str:
    """Return ``text`` for roff: a hyphen is what one types, not a typographer's."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    for letter, name in (("~", "ti"), ("^", "ha"), ("`", "ga"), ("'", "aq")):
        escaped = escaped.replace(letter, f"\\({name}")
    return escaped


def _bold(text: str) -> str:
    return f"\\fB{_escape(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_escape(text)}\\fR"


def write(folder: Path) -> None:
    """Put the pages into ``folder``, and take away those of commands that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for old in folder.glob("*.1"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
