"""The user's ssh files: one that is ours, and one line in one that is not."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ssmtunneld.base.paths import exists, is_link
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.file_change import Change, read_own
from ssmtunneld.daemon.instance_lock import state_directory

OURS: Final = "ssmtunneld.conf"
INCLUDE: Final = f"Include {OURS}\n"

_OTHERWISE: Final = f"add the line yourself: {INCLUDE.strip()}"
_PRIVATE: Final = 0o600
_KEYWORD: Final = re.compile(r"\s*(?P<keyword>[A-Za-z]+)(?:\s*=\s*|\s+)(?P<rest>.*)")


def keys_directory() -> Path:
    """Return where the keys of single logins are (``proxy --instance-connect``)."""
    return state_directory() / "ssh"


def plan_changes(folder: Path, text: str) -> list[Change]:
    """Return what must be done so that ssh reads ``text``.

    Args:
        folder: The user's ``~/.ssh``.
        text: What our file should hold.

    Raises:
        CommandError: A file is not what it should be: somebody else's, no file at all.
    """
    ours = folder / OURS
    if is_link(ours):
        raise CommandError(f"{ours} is a link instead of a file", "remove it")
    own = Change(ours, read_own(ours, _OTHERWISE), text, _PRIVATE)
    # Many keep this one elsewhere and link to it: the file is replaced, not the link.
    config = folder / "config"
    if is_link(config) and not exists(config):
        raise CommandError(f"{config} is a link that leads nowhere", "mend it")
    path = config.resolve()
    before = read_own(path, _OTHERWISE)
    mode = _PRIVATE if before is None else stat.S_IMODE(path.stat().st_mode)
    return [own, Change(path, before, _with_include(before or "", folder), mode)]


def _with_include(text: str, folder: Path) -> str:
    """Return ``text`` with our line at its top, unless it has one that counts.

    One that stands behind a Host or Match line counts for those hosts only.
    """
    names = {OURS, f"~/.ssh/{OURS}", str(folder / OURS)}
    if any(name.strip('"') in names for name in _included(text)):
        return text
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = newline if text and not text.startswith(("\n", "\r")) else ""
    return INCLUDE.replace("\n", newline) + gap + text


def _included(text: str) -> Iterator[str]:
    for line in text.splitlines():
        match = _KEYWORD.fullmatch(line)
        if match is None:
            continue
        keyword = match["keyword"].lower()
        if keyword in {"host", "match"}:
            return
        if keyword == "include":
            yield from match["rest"].split()
