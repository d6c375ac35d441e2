"""Unit files: what service managers are told about the daemon.

The templates lie in ``templates/`` and are part of the installed package. ``systemd/``
of the source tree shows what they become at the usual places; a test compares.
"""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from ssmtunneld.errors import SsmtunneldError

MARK: Final = "Written by `ssmtunneld service install`"
"""In the first lines of every file that is ours to replace and to remove."""
_NOTE: Final = f"{MARK}, and replaced by the next one."
_MARK_WITHIN: Final = 500
_DROP_IN: Final = (
    "Settings of your own belong into a drop-in: systemctl {scope}edit ssmtunneld"
)
LABEL: Final = "io.github.ssmtunneld"
"""Name of the agent for launchd."""

_ESCAPED: Final = {'"': '\\"', "\\": "\\\\", "%": "%%"}


def system_unit(
    program: Sequence[str], config: str, *, head: str = "", instance: str = ""
) -> str:
    """Return the hardened unit for the whole machine.

    Args:
        program: The words that start ssmtunneld, the first one an absolute path.
        config: The configuration file, with an absolute path.
        head: Comment lines to begin with; by default, that this file is ours.
        instance: ``%i`` for a template of many instances; what stands in ``config``
            as ``%i`` is then left to systemd.

    Raises:
        SsmtunneldError: A path cannot be written down in a unit file.
    """
    suffix = f"-{instance}" if instance else ""
    return _systemd_unit(
        "system.service",
        program,
        quote(config).replace("%%i", "%i") if instance else quote(config),
        HEAD=head or _comment("# ", _NOTE, _DROP_IN.format(scope="")),
        STATE=f"ssmtunneld{suffix}",
        ENVIRONMENT=f"{instance}.environment" if instance else "environment",
        INSTANCE=f" ({instance})" if instance else "",
    )


def user_unit(program: Sequence[str], config: str, *, head: str = "") -> str:
    """Return the unit of one user's own daemon; arguments as in :func:`system_unit`.

    Raises:
        SsmtunneldError: A path cannot be written down in a unit file.
    """
    return _systemd_unit(
        "user.service",
        program,
        quote(config),
        HEAD=head or _comment("# ", _NOTE, _DROP_IN.format(scope="--user ")),
    )


def agent(arguments: Sequence[str], log: str, *, head: str = "") -> str:
    """Return the property list of the launchd agent.

    Args:
        arguments: The whole command, the first word an absolute path.
        log: The file for what the daemon says.
        head: What the first comment says; by default, that this file is ours.
    """
    lines = (f"    <string>{escape(word)}</string>" for word in arguments)
    return _fill(
        "agent.plist",
        HEAD=head or _NOTE,
        ARGUMENTS="\n".join(lines),
        LOG=escape(log),
    )


def is_ours(text: str) -> bool:
    """Return true if ``service install`` wrote the unit file with this content."""
    return MARK in text[:_MARK_WITHIN]


def runs(text: str, config: Path) -> bool:
    """Return true if the unit file or property list ``text`` is for ``config``."""
    path = str(config.absolute())
    try:
        line = f" run --config {quote(path)}\n"
    except SsmtunneldError:
        return False
    return line in text or f"<string>{escape(path)}</string>" in text


def quote(word: str) -> str:
    """Return ``word`` as systemd reads it on a command line as exactly that word.

    Dollars are left alone: a line with variables of systemd's must not have any other.

    Raises:
        SsmtunneldError: It holds control characters, or no valid text at all.
    """
    if not word.isprintable():
        raise SsmtunneldError(f"a unit file cannot hold this path: {word!a}")
    escaped = "".join(_ESCAPED.get(letter, letter) for letter in word)
    plain = escaped and not set(escaped) & set(" \"\\';")
    return escaped if plain else f'"{escaped}"'


def _systemd_unit(
    template: str, program: Sequence[str], config: str, **values: str
) -> str:
    words = [*program, config]
    # A colon keeps systemd from looking for variables where a path has a dollar.
    colon = ":" if any("$" in word for word in words) else ""
    start = colon + " ".join(map(quote, program))
    return _fill(
        template,
        RUN=f"{start} run --config {config}",
        CHECK=f"{start} check --config {config}",
        **values,
    )


def _comment(prefix: str, *lines: str) -> str:
    return "\n".join(f"{prefix}{line}" for line in lines)


def _fill(template: str, **values: str) -> str:
    folder = files("ssmtunneld.cli.service") / "templates"
    text = (folder / template).read_text(encoding="utf-8")
    # All at once: what stands in a path is not a placeholder.
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], text)
