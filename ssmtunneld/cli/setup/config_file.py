"""Changing a configuration file as a person would: only what is meant changes.

Tables are added at the end of the text, and removed from it line by line, so that
comments, order and spelling of everything else stay. Whatever is written has been
parsed before: it says what the old text said, but for the change.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ssmtunneld.base.paths import real_path
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.file_change import Change
from ssmtunneld.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ssmtunneld.config.sources import SourceFile, Sources

_PRIVATE: Final = 0o600
_HEADER: Final = re.compile(
    r"[ \t]*\[[ \t]*tunnels[ \t]*\.[ \t]*"
    r"(?:\"(?P<double>[^\"\\]*)\"|'(?P<single>[^']*)'|(?P<bare>[A-Za-z0-9_-]+))"
    r"[ \t]*(?:\.[^\]]*)?\][ \t]*(?:#.*)?"
)
_BARE: Final = re.compile("[A-Za-z0-9_-]+")
_ANY_HEADER: Final = re.compile(r"[ \t]*\[")
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+\Z")
"""A line with its end, as TOML has lines: not at every character of Unicode's."""
_COMMENT: Final = re.compile(r"[ \t]*(?:#.*)?")
_SHARED: Final = ("profile", "region", "endpoint_url", "target")
"""Settings that a person would write once, for all tunnels."""

Settings = dict[str, object]


@dataclass(frozen=True, slots=True)
class FileChange:
    """A change of a file.

    Attributes:
        before: Its text; None if there is no file yet.
        after: The text that it is to have.
        removed: Names of tunnels that it loses, in the order in which they were named.
    """

    before: str | None
    after: str
    removed: tuple[str, ...] = ()


def place(config_path: Path | None) -> Path:
    """Return the file to change; it need not exist."""
    from ssmtunneld.config.load import find_config, user_config

    try:
        return find_config(config_path, os.environ)
    except ConfigError:
        return user_config(os.environ)


def read(path: Path) -> str | None:
    """Return the text of the file, with its line ends; None if there is none.

    Raises:
        ConfigError: It cannot be read, or is nothing that ``run`` would read either: a
            device, a pipe, a file of gigabytes.
    """
    from ssmtunneld.config.load import read_file

    there = os.path.exists(path)  # noqa: PTH110 - that one can raise
    return read_file(path) if there else None


def render(tables: Mapping[str, Settings]) -> str:
    """Return TOML with these tables, in this order."""
    import tomlkit

    parts = []
    for header, settings in tables.items():
        document = tomlkit.document()
        for key, value in settings.items():
            document.add(key, _as_inline(value))
        parts.append(f"[{header}]\n{tomlkit.dumps(document)}")
    return "\n".join(parts)


def _as_inline(value: object) -> object:
    import tomlkit

    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        return table
    return value


def with_defaults(tunnels: Mapping[str, Settings]) -> dict[str, Settings]:
    """Return the tables of a whole file: what all tunnels share is said once."""
    every = list(tunnels.values())
    shared: Settings = {}
    for key in _SHARED:
        values = {str(settings.get(key)) for settings in every if key in settings}
        missing = any(key not in settings for settings in every)
        if len(every) > 1 and len(values) == 1 and not missing:
            shared[key] = every[0][key]
    tables: dict[str, Settings] = {"defaults": shared} if shared else {}
    for name, settings in tunnels.items():
        own = {key: value for key, value in settings.items() if key not in shared}
        tables[f"tunnels.{name}"] = own
    return tables


def with_tunnels(
    text: str,
    tunnels: Mapping[str, Settings],
    included: Iterable[SourceFile] = (),
) -> str:
    """Return ``text`` with further tunnels at its end.

    Args:
        text: The file to change.
        tunnels: To add.
        included: Files whose names are taken too.

    Raises:
        CommandError: There is one of such a name, or the text has a form in which
            nothing can be added.
    """
    data = _parse(text)
    present = data.get("tunnels", {})
    taken = {name: "" for name in tunnels if name in present}
    for file in included:
        others = file.names
        taken |= {name: f", in {file.path}" for name in tunnels if name in others}
    for name, where in taken.items():
        raise CommandError(
            f"there is a tunnel called {name} already{where}",
            "choose another name, or remove it first",
            code=EXIT_USAGE,
        )
    added = render({f"tunnels.{_key(name)}": own for name, own in tunnels.items()})
    newline = "\r\n" if "\r\n" in text else "\n"
    added = added.replace("\n", newline)
    # One blank line between, and an end as the text has it: both of which
    # `without_tunnel` takes back.
    gap = newline if text else ""
    if text and not text.endswith("\n"):
        gap, added = newline * 2, added.removesuffix(newline)
    changed = f"{text}{gap}{added}"
    wanted = {**data, "tunnels": {**present, **tunnels}}
    _check_same(changed, wanted)
    return changed


def _key(name: str) -> str:
    """Return a name as a key; what no tunnel may be called is refused later."""
    return name if _BARE.fullmatch(name) else json.dumps(name)


def without_tunnel(text: str, name: str) -> str:
    """Return ``text`` without the tunnel ``name``; comments outside of it stay.

    What `with_tunnels` has added goes to the last byte.

    Raises:
        CommandError: There is none, or the text has a form that only a person can
            change.
    """
    data = _parse(text)
    present = data.get("tunnels", {})
    if not isinstance(present, dict) or name not in present:
        known = ", ".join(present) if isinstance(present, dict) else ""
        raise CommandError(
            f"there is no tunnel called {name}",
            f"the file has {known or 'none'}",
            code=EXIT_USAGE,
        )
    wanted = {**data, "tunnels": {n: t for n, t in present.items() if n != name}}
    if not wanted["tunnels"]:
        del wanted["tunnels"]
    changed = _cut(text, name)
    _check_same(changed, wanted)
    return changed


def _cut(text: str, name: str) -> str:
    lines = _LINE.findall(text)
    kept: list[str] = []
    at = 0
    while at < len(lines):
        if _tunnel_of(lines[at]) != name:
            kept.append(lines[at])
            at += 1
            continue
        end = at + 1
        while end < len(lines) and not _ANY_HEADER.match(lines[end]):
            end += 1
        # What stands behind its last key belongs to whatever comes next.
        while end > at + 1 and _COMMENT.fullmatch(lines[end - 1].rstrip("\r\n")):
            end -= 1
        at = end
        if not (kept and kept[-1].strip()):
            while at < len(lines) and not lines[at].strip():
                at += 1
        if at == len(lines):
            kept = _with_end_of(text, kept)
    return "".join(kept)


def _with_end_of(text: str, kept: list[str]) -> list[str]:
    """Return the lines above the last tunnel of ``text``, now that it is gone.

    The blank line above it has nothing to part any more, and the last line ends as the
    last one of ``text`` does.
    """
    if kept and not kept[-1].strip():
        kept = kept[:-1]
    if kept and not text.endswith("\n"):
        kept = [*kept[:-1], kept[-1].rstrip("\r\n")]
    return kept


def _tunnel_of(line: str) -> str | None:
    match = _HEADER.fullmatch(line.rstrip("\r\n"))
    if match is None:
        return None
    return next((part for part in match.groups() if part is not None), None)


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(
            f"the file is not TOML: {error}", "correct it first", code=EXIT_USAGE
        ) from None


def _check_same(text: str, wanted: Mapping[str, Any]) -> None:
    """Make sure that ``text`` says exactly what is wanted."""
    try:
        found: object = tomllib.loads(text)
    except ValueError:
        found = None
    plain = {key: value for key, value in wanted.items() if value != {}}
    if found not in (wanted, plain):
        raise CommandError(
            "the file is written in a way that only you can change",
            "write each tunnel as a table of its own, [tunnels.NAME]",
            code=EXIT_USAGE,
        )


def sources(path: Path, text: str) -> Sources:
    """Return a configuration whose main file ``path`` has ``text``, unchecked.

    Raises:
        ConfigError: The text is not TOML.
    """
    from ssmtunneld.config.load import read_sources

    return read_sources(path, os.environ, instead={real_path(path): text})


def without_tunnels(main: Sources, names: Sequence[str]) -> dict[Path, FileChange]:
    """Return the changes of files that remove tunnels, each from the file it is in.

    Raises:
        CommandError: There is no tunnel of a name, or a file has a form that only a
            person can change.
    """
    owners = {name: file for file in main.files for name in file.names}
    changes: dict[Path, FileChange] = {}
    for name in dict.fromkeys(names):
        if (file := owners.get(name)) is None:
            raise CommandError(
                f"there is no tunnel called {name}",
                f"the {'files have' if main.included else 'file has'} "
                f"{', '.join(owners) or 'none'}",
                code=EXIT_USAGE,
            )
        so_far = changes.get(file.path, FileChange(file.text, file.text))
        changes[file.path] = FileChange(
            file.text, without_tunnel(so_far.after, name), (*so_far.removed, name)
        )
    return changes


def save(path: Path, before: str | None, after: str) -> None:
    """Replace the file in one step, with the permissions that it had.

    Raises:
        ConfigError: What it would say cannot be used; nothing has changed.
        CommandError: It cannot be written; nothing has changed.
    """
    save_files(path, {path: FileChange(before, after)})


def save_files(main: Path, changes: Mapping[Path, FileChange]) -> None:
    """Replace files of the configuration ``main``, each as `save` does.

    Raises:
        ConfigError: What they would say cannot be used; nothing has changed.
        CommandError: One cannot be written; those before it have been.
    """
    from ssmtunneld.config import load_config

    instead = {real_path(path): change.after for path, change in changes.items()}
    load_config(main, os.environ, instead=instead)
    for path, change in changes.items():
        real = real_path(path)  # a link stays one
        is_new = change.before is None
        mode = _PRIVATE if is_new else stat.S_IMODE(real.stat().st_mode)
        Change(real, change.before, change.after, mode).apply()


def reload_daemon(path: Path) -> str:
    """Let the daemon of the file take it over; return in words what happened.

    Raises:
        CommandError: The daemon runs, but refuses.
    """
    from ssmtunneld.cli.daemon_client import RELOAD_TIMEOUT, NotRunning, find

    try:
        daemon = find(path)
    except NotRunning:
        return f"no daemon runs it: ssmtunneld run{_option(path)}"
    daemon.ask("POST", "/reload", timeout=RELOAD_TIMEOUT)
    return "the running daemon has reloaded it"


def _option(path: Path) -> str:
    from ssmtunneld.config import find_config

    try:
        usual = find_config(None, os.environ)
    except ConfigError:
        usual = None
    return "" if usual == path else f" -c {path}"


def texts(text: str, included: Iterable[SourceFile]) -> list[str]:
    """Return ``text``, and those of the files that it includes and that are TOML."""
    return [text, *(file.text for file in included if not file.problems)]


def ports_in(text: str) -> list[int]:
    """Return the TCP ports that tunnels of a file listen on."""
    from ssmtunneld.config import TcpAddress, parse_address

    found = []
    for own in _tables(_parse(text).get("tunnels")):
        listen = own.get("listen")
        for value in listen if isinstance(listen, list) else [listen]:
            try:
                address = parse_address(value)
            except ValueError:
                continue
            if isinstance(address, TcpAddress):
                found.append(address.port)
    return found


def names_in(text: str) -> list[str]:
    """Return the names of the tunnels of a file."""
    tunnels = _parse(text).get("tunnels")
    return [*tunnels] if isinstance(tunnels, dict) else []


def _tables(value: object) -> Iterable[Mapping[str, Any]]:
    tables: Sequence[object] = [*value.values()] if isinstance(value, dict) else []
    return [table for table in tables if isinstance(table, dict)]


def defaults_in(text: str) -> Mapping[str, Any]:
    """Return the table ``[defaults]`` of a file."""
    defaults = _parse(text).get("defaults")
    return defaults if isinstance(defaults, dict) else {}
