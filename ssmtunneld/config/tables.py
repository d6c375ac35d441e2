"""The tables of parsed files: checked, merged with ``[defaults]``, made into models.

Everything wrong is collected first, so that a person repairs the files in one go.

An included file has tunnels, and ``[defaults]`` for these. What is for the process, a
command to run among it, stands in the main file only: whoever may write a tunnel must
not by that run programs, and two files must not contradict each other.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.nearest import nearest
from ssmtunneld.base.record import Record
from ssmtunneld.config.includes import KEY as INCLUDE
from ssmtunneld.config.lines import KeyLines, KeyPath
from ssmtunneld.config.metadata import expanding_keys, path_keys
from ssmtunneld.config.model import (
    DYNAMIC,
    FIXED,
    INSTANCE,
    Config,
    Conflicts,
    DaemonSettings,
    FileSettings,
    TunnelDefaults,
    TunnelSettings,
)
from ssmtunneld.config.parsers import (
    Address,
    UnixAddress,
    binds,
    expand_home,
    expand_variables,
    parse_address,
)
from ssmtunneld.config.sources import SourceFile, Sources
from ssmtunneld.errors import ConfigError

_Table: TypeAlias = dict[str, Any]
_Ip: TypeAlias = IPv4Address | IPv6Address
_Section = TypeVar("_Section", bound=BaseModel)

_TOP_LEVEL: Final = ("include", "daemon", "defaults", "tunnels")
_INCLUDED: Final = ("defaults", "tunnels")
_EXPANDED: Final = expanding_keys(TunnelDefaults)
_PATHS: Final = path_keys(TunnelDefaults)
_NO_CREDENTIALS: Final = "credentials do not belong in this file: name a profile"
_SAMPLE: Final = "see: ssmtunneld config example"
_SECRET_KEY: Final = re.compile(
    "secret|access_?key|token|passw(?:or)?d|credential", re.IGNORECASE
)
_ACCESS_KEY_ID: Final = re.compile("(?:AKIA|ASIA)[A-Z0-9]{16}")
SYNONYMS: Final = {
    "local_port": "listen",
    "local_address": "listen",
    "bind": "listen",
    "remote_port": "port",
    "remote_host": "host",
    "destination": "host",
    "eks_cluster": "cluster",
    "instance": "target",
    "instance_id": "target",
    "role": "role_arn",
    "endpoint": "endpoint_url",
    "engine": "db_engine",
    "user": "db_user",
    "username": "db_user",
    "database": "db_name",
    "dbname": "db_name",
}
"""Names that other programs have for a tunnel's settings."""
PROBLEM_LIMIT: Final = 100
"""Limit of reported problems of a file; suggestions for unknown keys end there too."""
_KEY_LIMIT: Final = 80
_ELSEWHERE: Final = frozenset({"host", "cluster"})
"""Settings that say that the destination is not the target itself; one of them at most.
"""
_KINDS: Final = {
    "int": ("a whole number", re.compile("[0-9]{1,20}")),
    "float": ("a number", re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")),
    "bool": ("true or false", re.compile("true|false")),
    "string": ("text, in quotes", re.compile(r"\b\B")),
}
"""Kinds of values in pydantic's words and in TOML's, and what somebody has quoted that
would have been right without quotes (no text)."""
_BARE_KEY: Final = re.compile("[A-Za-z0-9_-]+")


def read_tables(
    data: _Table, text: str, source: Path, environ: Mapping[str, str]
) -> Config:
    """Return the configuration that the parsed ``text`` describes, by itself.

    Raises:
        ConfigError: Lists every problem, in the order of the lines.
    """
    return read_source_tables(Sources(SourceFile(source, text, data)), environ)


def read_tunnel(
    name: str, settings: _Table, file: SourceFile, environ: Mapping[str, str]
) -> TunnelSettings:
    """Return one tunnel, with settings that ``file`` has no table for.

    The models of what else a file has are not made: they take as long again.

    Raises:
        ConfigError: Lists every problem.
    """
    table = {"tunnels": {name: settings}}
    reading = _Reading(SourceFile(file.path, file.text, table), environ)
    reading.read_tunnels(_Defaults({}, trusted=True), {})
    problems = list(reading.told())
    if problems:
        raise ConfigError(_limited(problems, file.path))
    (tunnel,) = reading.tunnels
    return tunnel


def read_source_tables(sources: Sources, environ: Mapping[str, str]) -> Config:
    """Return the configuration that parsed files describe.

    Raises:
        ConfigError: Lists every problem, in the order of the files and lines.
    """
    main = _Reading(sources.main, environ)
    main.note_patterns(sources.problems)
    top = main.read_top()
    daemon = main.read_daemon()
    defaults = main.read_defaults()
    owners: dict[str, _Reading] = {}
    main.read_tunnels(defaults, owners)
    folder = main.file.path.parent
    above = with_absolute_paths(defaults.settings, folder, environ)
    shared = _Defaults(above, defaults.trusted)
    readings = [main, *(_Reading(file, environ) for file in sources.included)]
    for reading in readings[1:]:
        reading.refuse_other_tables(main.file.path)
        reading.read_tunnels(reading.read_defaults(shared), owners)
    unread = sources.problems or any(file.problems for file in sources.included)
    if not owners and not unread:
        main.refuse_emptiness(sources.unmatched)
    tunnels = [tunnel for reading in readings for tunnel in reading.tunnels]
    _find_clashes(daemon, main, tunnels, owners)
    problems = [line for reading in readings for line in reading.told()]
    if problems:
        raise ConfigError(_limited(problems, main.file.path))
    return Config(
        source=main.file.path,
        included=tuple(file.path for file in sources.included),
        include=top.include,
        unmatched=sources.unmatched,
        daemon=daemon,
        tunnels=tuple(tunnels),
        origins={name: reading.file.path for name, reading in owners.items()},
    )


def with_absolute_paths(
    settings: Mapping[str, Any], folder: Path, environ: Mapping[str, str]
) -> _Table:
    """Return settings of a file in ``folder`` for a file that can be in another."""
    moved = dict(settings)
    home = _home(environ)
    for key in _PATHS:
        if isinstance(text := moved.get(key), str):
            # Without a home it cannot be used, whichever file it is in.
            with suppress(ValueError):
                moved[key] = str((folder / expand_home(text, home)).absolute())
    return moved


class _Defaults(Record):
    """Settings that tunnels inherit, as a file spells them.

    Attributes:
        settings: Those that can be used, with variables replaced.
        trusted: False if some could not be used: what is missing proves nothing.
    """

    settings: _Table
    trusted: bool


class _Reading:
    """One pass over a file's tables; ``problems`` and ``tunnels`` grow as it goes."""

    def __init__(self, file: SourceFile, environ: Mapping[str, str]) -> None:
        self.file = file
        self.problems: list[tuple[KeyPath, str]] = []
        self.tunnels: list[TunnelSettings] = []
        self._environ = environ
        self._home = _home(environ)
        self._context = {"directory": file.path.parent, "home": self._home}
        self._unknown: set[KeyPath] = set()

    @cached_property
    def lines(self) -> KeyLines:
        """The lines of keys; made only if there is something to report."""
        return KeyLines(self.file.text)

    def place(self, path: KeyPath) -> str:
        """Return file and line of a key."""
        return f"{self.file.path}:{self.lines.find(path)}"

    def told(self) -> list[str]:
        """Return a line for each problem of the file, in the order of its lines."""
        for path in _find_credentials(self.file.tables):
            self.refuse_credentials(path)
        problems = dict.fromkeys(self.problems)
        # The lines of keys are looked for only if there is something to report.
        return [*self.file.problems, *(_render(problems, self) if problems else ())]

    def note_patterns(self, problems: Iterable[tuple[int, str]]) -> None:
        """Complain about patterns of ``include``, which are known by their numbers."""
        for number, message in problems:
            path = _trim((INCLUDE, number), self.file.tables)
            self.complain(path, message)

    def read_top(self) -> FileSettings:
        """Return what stands above the tables of the main file."""
        data = self.file.tables
        for key, value in data.items():
            if key not in _TOP_LEVEL:
                self._refuse_key((key,), value, _TOP_LEVEL)
        above = {key: data[key] for key in FileSettings.model_fields if key in data}
        return self._section(FileSettings, above, ()) or FileSettings()

    def refuse_other_tables(self, main: Path) -> None:
        """Complain about what an included file cannot have."""
        for key, value in self.file.tables.items():
            if key == INCLUDE:
                problem = f"is for the main file only: name the files in {main}"
                self.complain((key,), problem)
            elif key == "daemon":
                problem = "is for the main file only, because it is about the process"
                self.complain((key,), f"{problem}: {main}")
            elif key not in _INCLUDED:
                self._refuse_key((key,), value, _INCLUDED)

    def read_daemon(self) -> DaemonSettings:
        """Return the table ``[daemon]``."""
        table = self._table(self.file.tables, "daemon")
        return self._section(DaemonSettings, table, ("daemon",)) or DaemonSettings()

    def read_tunnels(self, defaults: _Defaults, owners: dict[str, "_Reading"]) -> None:
        """Read the tunnels; ``owners`` has those of the files before, and gets ours."""
        for name, own in self._tunnel_tables(self.file.tables).items():
            path: KeyPath = ("tunnels", name)
            if (owner := owners.get(name)) is not None:
                other = owner.place(path)
                self.complain(path, f"is a name that {other} has given: choose another")
                continue
            owners[name] = self
            tunnel = self._tunnel(name, own, defaults)
            if tunnel is not None:
                self.tunnels.append(tunnel)

    def refuse_emptiness(self, unmatched: Sequence[str]) -> None:
        """Complain that there is no tunnel in any file.

        Args:
            unmatched: Patterns that match no file.
        """
        if any(path[:1] in {("tunnels",), (INCLUDE,)} for path, _ in self.problems):
            return  # there may be some, once that is right
        words = ", ".join(unmatched)
        also = f", or a file that {words} matches: there is none" if unmatched else ""
        self.complain((), f"has no tunnels: add a table [tunnels.NAME]{also}")

    def refuse_credentials(self, path: KeyPath) -> None:
        """Complain about an access key at ``path``, unless its key is unknown."""
        if any(path[: len(unknown)] == unknown for unknown in self._unknown):
            return
        self.problems = [problem for problem in self.problems if problem[0] != path]
        self.complain(path, f"looks like an AWS access key ({_NO_CREDENTIALS})")

    def complain(self, path: KeyPath, message: str) -> None:
        """Note that something is wrong at ``path``."""
        self.problems.append((path, message))

    def _refuse_key(self, path: KeyPath, value: object, known: Iterable[str]) -> None:
        self._unknown.add(path)
        key = str(path[-1])
        # To look for a name takes a millisecond.
        late = len(self.problems) >= PROBLEM_LIMIT
        near = None if late else _nearest(key, [*known])
        if _SECRET_KEY.search(key) or any(_find_credentials([key, value])):
            self.complain(path, f"unknown key ({_NO_CREDENTIALS})")
        elif key == INCLUDE and len(path) > 1:
            self.complain(path, "belongs to the top of the file, above all tables")
        elif key in TunnelSettings.model_fields and path[0] == "defaults":
            self.complain(path, "unknown key (every tunnel has its own)")
        elif near:
            self.complain(path, f"unknown key (did you mean {near}?)")
        else:
            self.complain(path, f"unknown key ({_SAMPLE})")

    def _table(self, parent: _Table, key: str) -> _Table:
        value = parent.get(key, {})
        if isinstance(value, dict):
            return value
        self.complain((key,), f"should be a table, [{key}]")
        return {}

    def _tunnel_tables(self, data: _Table) -> _Table:
        tables = data.get("tunnels", {})
        if isinstance(tables, dict):
            return tables
        self.complain(("tunnels",), "should be tables with names, [tunnels.NAME]")
        return {}

    def read_defaults(self, inherited: _Defaults | None = None) -> _Defaults:
        """Return the usable defaults; report what is wrong with the rest once, here.

        Args:
            inherited: Those of the main file, which hold where this file says nothing;
                with absolute paths.
        """
        path: KeyPath = ("defaults",)
        before = len(self.problems)
        table = self._table(self.file.tables, "defaults")
        expanded = self._expand(table, path)
        if expanded:  # to make the model takes longer than to read most files
            self._section(TunnelDefaults, expanded, path)
        found = self.problems[before:]
        broken = {problem[0][1] for problem in found if len(problem[0]) > 1}
        own = {key: value for key, value in expanded.items() if key not in broken}
        if inherited is None:
            return _Defaults(own, not found)
        trusted = inherited.trusted and not found
        return _Defaults({**inherited.settings, **own}, trusted)

    def _tunnel(
        self, name: str, own: object, defaults: _Defaults
    ) -> TunnelSettings | None:
        path: KeyPath = ("tunnels", name)
        if not isinstance(own, dict):
            self.complain(path, "should be a table, [tunnels.NAME]")
            return None
        if "name" in own:
            self._unknown.add((*path, "name"))
            self.complain((*path, "name"), "unknown key (the table's name is the name)")
        expanded = self._expand(own, path)
        whole = {**defaults.settings, **expanded, "name": name}
        if "allow" not in own and _is_local(own.get("listen"), self._home):
            whole.pop("allow", None)
        useless = DYNAMIC if whole.get("mode", "tcp") == "tcp" else FIXED
        if _ELSEWHERE & own.keys():
            useless |= INSTANCE | _ELSEWHERE
        for key in useless:
            if key not in own:
                whole.pop(key, None)
        # With parts left out, what is missing or does not go together proves nothing.
        complete = defaults.trusted and len(expanded) == len(own)
        return self._section(TunnelSettings, whole, path, complete=complete)

    def _expand(self, table: _Table, path: KeyPath) -> _Table:
        """Return ``table`` with variables replaced, without those where that failed."""
        expanded = dict(table)
        for key in _EXPANDED:
            try:
                match table.get(key):
                    case str() as text:
                        expanded[key] = expand_variables(text, self._environ)
                    case list() as texts:
                        expanded[key] = [self._expand_one(text) for text in texts]
                    case _:
                        pass
            except ValueError as error:
                del expanded[key]
                self.complain((*path, key), str(error))
        return expanded

    def _expand_one(self, value: object) -> object:
        if isinstance(value, str):
            return expand_variables(value, self._environ)
        return value

    def _section(
        self,
        model: type[_Section],
        table: _Table,
        path: KeyPath,
        *,
        complete: bool = True,
    ) -> _Section | None:
        try:
            return model.model_validate(table, context=self._context)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                where = (*path, *_trim(detail["loc"], table))
                if model is TunnelSettings and detail["loc"] == ("name",):
                    where = path  # it is not written as a key, but in the header
                if detail["type"] == "extra_forbidden":
                    known = model.model_fields.keys() - {"name"}
                    self._refuse_key(where, detail["input"], known)
                elif complete or not _needs_all(detail):
                    self.problems.extend(_translate(detail, where))
        return None


def _home(environ: Mapping[str, str]) -> Path | None:
    return Path(environ["HOME"]) if environ.get("HOME") else None


def _nearest(key: str, known: Sequence[str]) -> str | None:
    """Return the one of ``known`` that was probably meant; None if none is near."""
    synonym = SYNONYMS.get(key)
    if synonym in known:
        return synonym
    return next(iter(nearest(key, known)), None)


def _needs_all(detail: ErrorDetails) -> bool:
    return detail["type"] == "missing" or not detail["loc"]


def problems_of(error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
    """Yield where a model's values are wrong, and how in words that follow on."""
    for detail in error.errors(include_url=False):
        yield from _translate(detail, detail["loc"])


def _translate(detail: ErrorDetails, where: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield pydantic's complaint in words that follow on from a key path."""
    if detail["type"] == "missing":
        yield where, "is required"
    elif detail["type"] == "value_error":
        error = detail["ctx"]["error"]
        if isinstance(error, Conflicts):
            for key, message in error.found:
                yield (*where, key), message
        else:
            yield where, str(error)
    else:
        yield where, _complaint(detail)


def _complaint(detail: ErrorDetails) -> str:
    """Return what is wrong with a value, in the words of TOML where it is its kind."""
    kind, _, fault = detail["type"].partition("_")
    if fault not in {"type", "parsing", "from_float"} or kind not in _KINDS:
        return detail["msg"].removeprefix("Input ").removeprefix("String ")
    words, spelling = _KINDS[kind]
    value = detail["input"]
    if isinstance(value, str) and spelling.fullmatch(value):
        return f"should be {words}: write {value} without quotes"
    return f"should be {words}"


def _trim(location: tuple[int | str, ...], table: _Table) -> KeyPath:
    """Return a location as the file has it: no index where it has no list."""
    path: KeyPath = ()
    value: Any = table
    for part in location:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        else:
            break
        path = (*path, part)
    return path


def _is_local(listen: object, home: Path | None) -> bool:
    """Return True if ``listen``, as written, is reachable only from this machine."""
    try:
        addresses = [
            parse_address(value, home)
            for value in (listen if isinstance(listen, list) else [listen])
        ]
    except ValueError:
        return False
    return all(
        isinstance(address, UnixAddress) or address.is_loopback for address in addresses
    )


def _find_credentials(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    match value:
        case str():
            if _ACCESS_KEY_ID.search(value):
                yield path
        case dict():
            for key, inner in value.items():
                yield from _find_credentials(inner, (*path, key))
        case list():
            for index, inner in enumerate(value):
                yield from _find_credentials(inner, (*path, index))
        case _:
            pass


def _find_clashes(
    daemon: DaemonSettings,
    main: _Reading,
    tunnels: Iterable[TunnelSettings],
    owners: Mapping[str, _Reading],
) -> None:
    """Complain about each address that would be bound twice.

    A tunnel that is not enabled binds none.
    """
    listed: list[tuple[_Reading, KeyPath, str, Address]] = [
        (main, ("daemon", "http_listen"), "daemon.http_listen", address)
        for address in daemon.http_listen
    ]
    for tunnel in tunnels:
        if tunnel.enabled:
            path: KeyPath = ("tunnels", tunnel.name, "listen")
            owner = f"tunnels.{tunnel.name}"
            listed += [(owners[tunnel.name], path, owner, a) for a in tunnel.listen]
    held: defaultdict[object, list[_Holder]] = defaultdict(list)
    for reading, path, owner, address in listed:
        for group, ip in _claims(address):
            for other in held[group]:
                if ip == other.ip or _is_any(ip) or _is_any(other.ip):
                    there = other.reading.file.path
                    where = "" if other.reading is reading else f" in {there}"
                    clash = f"{address} clashes with {other.address} of {other.owner}"
                    reading.complain(path, f"{clash}{where}: {_another(address)}")
                    break
            held[group].append(_Holder(reading, owner, address, ip))


def _another(address: Address) -> str:
    """Return the cure of an address that another one has."""
    is_path = isinstance(address, UnixAddress)
    return "choose another path" if is_path else "choose another port or address"


class _Holder(Record):
    """Whoever is to listen on an address, for looking for clashes."""

    reading: _Reading
    owner: str
    address: Address
    ip: _Ip | None


def _claims(address: Address) -> Iterator[tuple[object, _Ip | None]]:
    """Yield what binding takes: a key that rivals for it share, and the IP address."""
    if isinstance(address, UnixAddress):
        yield address.path, None
    elif address.port:
        for ip in binds(address):
            yield (ip.version, address.port), ip


def _is_any(ip: _Ip | None) -> bool:
    return ip is not None and ip.is_unspecified


def _render(
    problems: Iterable[tuple[KeyPath, str]], reading: _Reading
) -> Iterator[str]:
    lines, source = reading.lines, reading.file.path
    found = sorted(
        ((lines.find(path), path, message) for path, message in problems),
        key=lambda problem: problem[0],
    )
    for line, path, message in found:
        spelled = f"{_spell(path)}{': ' if path else ''}"
        yield f"{source}:{line}: {spelled}{clean(message)}"


def _limited(problems: list[str], source: Path) -> list[str]:
    """Return as many problems as a person wants to read at once."""
    told = problems[:PROBLEM_LIMIT]
    if len(problems) > PROBLEM_LIMIT:
        told.append(f"{source}: has {len(problems) - PROBLEM_LIMIT} more problems")
    return told


def _spell(path: KeyPath) -> str:
    """Return ``path`` as TOML spells it; nothing in it may be a secret."""
    spelled = ""
    for part in path:
        if isinstance(part, int):
            spelled += f"[{part}]"
        else:
            key = _spell_key(part)
            spelled += f".{key}" if spelled else key
    return _ACCESS_KEY_ID.sub("***", spelled)


def _spell_key(key: str) -> str:
    if len(key) > _KEY_LIMIT:
        key = f"{key[: _KEY_LIMIT - 1]}…"
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)
