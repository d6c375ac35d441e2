"""The tables of a parsed file: checked, merged with ``[defaults]``, made into models.

Everything wrong is collected first, so that a person repairs a file in one go.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.nearest import nearest
from ssmtunneld.config.lines import KeyLines, KeyPath
from ssmtunneld.config.metadata import expanding_keys
from ssmtunneld.config.model import (
    DYNAMIC,
    FIXED,
    INSTANCE,
    Config,
    Conflicts,
    DaemonSettings,
    TunnelDefaults,
    TunnelSettings,
)
from ssmtunneld.config.parsers import (
    Address,
    UnixAddress,
    binds,
    expand_variables,
    parse_address,
)
from ssmtunneld.errors import ConfigError

_Table: TypeAlias = dict[str, Any]
_Ip: TypeAlias = IPv4Address | IPv6Address
_Section = TypeVar("_Section", bound=BaseModel)

_TOP_LEVEL: Final = ("daemon", "defaults", "tunnels")
_EXPANDED: Final = expanding_keys(TunnelDefaults)
_NO_CREDENTIALS: Final = "credentials do not belong in this file: name a profile"
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
    "instance": "target",
    "instance_id": "target",
    "role": "role_arn",
    "endpoint": "endpoint_url",
}
"""Names that other programs have for a tunnel's settings."""
PROBLEM_LIMIT: Final = 100
"""Limit of reported problems of a file; suggestions for unknown keys end there too."""
_KEY_LIMIT: Final = 80
_BARE_KEY: Final = re.compile("[A-Za-z0-9_-]+")


def read_tables(
    data: _Table, text: str, source: Path, environ: Mapping[str, str]
) -> Config:
    """Return the configuration that the parsed ``text`` describes.

    Raises:
        ConfigError: Lists every problem, in the order of the lines.
    """
    reading = _Reading(source, environ)
    daemon, tunnels = reading.read(data)
    for path in _find_credentials(data):
        reading.refuse_credentials(path)
    problems = dict.fromkeys(reading.problems)
    if problems:
        raise ConfigError(_render(problems, text, source))
    return Config(source=source, daemon=daemon, tunnels=tuple(tunnels))


class _Reading:
    """One pass over a file's tables; ``problems`` grows as it goes."""

    def __init__(self, source: Path, environ: Mapping[str, str]) -> None:
        self.problems: list[tuple[KeyPath, str]] = []
        self._environ = environ
        self._home = Path(environ["HOME"]) if environ.get("HOME") else None
        self._context = {"directory": source.parent, "home": self._home}
        self._unknown: set[KeyPath] = set()

    def read(self, data: _Table) -> tuple[DaemonSettings, list[TunnelSettings]]:
        for key, value in data.items():
            if key not in _TOP_LEVEL:
                self._refuse_key((key,), value, _TOP_LEVEL)
        daemon = self._section(DaemonSettings, self._table(data, "daemon"), ("daemon",))
        before = len(self.problems)
        defaults = self._defaults(self._table(data, "defaults"))
        trusted = len(self.problems) == before
        tunnels = []
        for name, own in self._tunnel_tables(data).items():
            tunnel = self._tunnel(name, own, defaults, trusted=trusted)
            if tunnel is not None:
                tunnels.append(tunnel)
        daemon = daemon or DaemonSettings()
        self.problems.extend(_find_clashes(daemon, tunnels))
        return daemon, tunnels

    def refuse_credentials(self, path: KeyPath) -> None:
        """Complain about an access key at ``path``, unless its key is unknown."""
        if any(path[: len(unknown)] == unknown for unknown in self._unknown):
            return
        self.problems = [problem for problem in self.problems if problem[0] != path]
        self._complain(path, f"looks like an AWS access key ({_NO_CREDENTIALS})")

    def _complain(self, path: KeyPath, message: str) -> None:
        self.problems.append((path, message))

    def _refuse_key(self, path: KeyPath, value: object, known: Iterable[str]) -> None:
        self._unknown.add(path)
        key = str(path[-1])
        # To look for a name takes a millisecond.
        late = len(self.problems) >= PROBLEM_LIMIT
        near = None if late else _nearest(key, [*known])
        if _SECRET_KEY.search(key) or any(_find_credentials([key, value])):
            self._complain(path, f"unknown key ({_NO_CREDENTIALS})")
        elif key in TunnelSettings.model_fields and path[0] == "defaults":
            self._complain(path, "unknown key (every tunnel has its own)")
        elif near:
            self._complain(path, f"unknown key (did you mean {near}?)")
        else:
            self._complain(path, "unknown key")

    def _table(self, parent: _Table, key: str) -> _Table:
        value = parent.get(key, {})
        if isinstance(value, dict):
            return value
        self._complain((key,), f"should be a table, [{key}]")
        return {}

    def _tunnel_tables(self, data: _Table) -> _Table:
        tables = data.get("tunnels", {})
        if not isinstance(tables, dict):
            self._complain(("tunnels",), "should be tables with names, [tunnels.NAME]")
        elif not tables:
            self._complain((), "has no tunnels: add a table [tunnels.NAME]")
        else:
            return tables
        return {}

    def _defaults(self, table: _Table) -> _Table:
        """Return the usable ones; what is wrong with the others is said once, here."""
        path: KeyPath = ("defaults",)
        before = len(self.problems)
        expanded = self._expand(table, path)
        self._section(TunnelDefaults, expanded, path)
        broken = {problem[0][1] for problem in self.problems[before:]}
        return {key: value for key, value in expanded.items() if key not in broken}

    def _tunnel(
        self, name: str, own: object, defaults: _Table, *, trusted: bool
    ) -> TunnelSettings | None:
        path: KeyPath = ("tunnels", name)
        if not isinstance(own, dict):
            self._complain(path, "should be a table, [tunnels.NAME]")
            return None
        if "name" in own:
            self._unknown.add((*path, "name"))
            self._complain(
                (*path, "name"), "unknown key (the table's name is the name)"
            )
        expanded = self._expand(own, path)
        whole = {**defaults, **expanded, "name": name}
        if "allow" not in own and _is_local(own.get("listen"), self._home):
            whole.pop("allow", None)
        useless = DYNAMIC if whole.get("mode", "tcp") == "tcp" else FIXED
        for key in useless | (INSTANCE if "host" in own else frozenset()):
            if key not in own:
                whole.pop(key, None)
        # With parts left out, what is missing or does not go together proves nothing.
        complete = trusted and len(expanded) == len(own)
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
                self._complain((*path, key), str(error))
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


def _nearest(key: str, known: Sequence[str]) -> str | None:
    """Return the one of ``known`` that was probably meant; None if none is near."""
    synonym = SYNONYMS.get(key)
    if synonym in known:
        return synonym
    return next(iter(nearest(key, known)), None)


def _needs_all(detail: ErrorDetails) -> bool:
    return detail["type"] == "missing" or not detail["loc"]


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
        message = detail["msg"].removeprefix("Input ").removeprefix("String ")
        yield where, message


def _trim(location: tuple[int | str, ...], table: _Table) -> KeyPath:
    """Return a location as the file has it: no index where it has no list."""
    path: KeyPath = ()
    value: Any = table
    for part in location:
        if isinstance(value, dict):
            value = value.get(str(part))
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
    daemon: DaemonSettings, tunnels: Iterable[TunnelSettings]
) -> Iterator[tuple[KeyPath, str]]:
    """Yield a problem for each address that would be bound twice."""
    listed: list[tuple[KeyPath, str, Address]] = [
        (("daemon", "http_listen"), "daemon.http_listen", address)
        for address in daemon.http_listen
    ]
    for tunnel in tunnels:
        path: KeyPath = ("tunnels", tunnel.name, "listen")
        owner = f"tunnels.{tunnel.name}"
        listed += [(path, owner, address) for address in tunnel.listen]
    held: defaultdict[object, list[tuple[_Ip | None, Address, str]]] = defaultdict(list)
    for path, owner, address in listed:
        for group, ip in _claims(address):
            for other_ip, other, holder in held[group]:
                if ip == other_ip or _is_any(ip) or _is_any(other_ip):
                    yield path, f"{address} clashes with {other} of {holder}"
                    break
            held[group].append((ip, address, owner))


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
    problems: Iterable[tuple[KeyPath, str]], text: str, source: Path
) -> list[str]:
    lines = KeyLines(text)
    found = sorted(
        ((lines.find(path), path, message) for path, message in problems),
        key=lambda problem: problem[0],
    )
    told = [
        f"{source}:{line}: {_spell(path)}{': ' if path else ''}{clean(message)}"
        for line, path, message in found[:PROBLEM_LIMIT]
    ]
    if len(found) > PROBLEM_LIMIT:
        told.append(f"{source}: has {len(found) - PROBLEM_LIMIT} more problems")
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
