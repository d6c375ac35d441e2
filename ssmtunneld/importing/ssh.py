"""Hosts of an ssh_config(5) that are reached through Session Manager."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from ssmtunneld.importing.commands import Call, check_known, parse_calls
from ssmtunneld.importing.found import Found, Settings, local_address, remote_host

_LINE: Final = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*?)\s*")
_END: Final = re.compile(r"(?:(\[[^\]]+\]|[^:/\s]*)[:/])?([0-9]{1,5})")
_REMOTE: Final = re.compile(r"(\[[^\]]+\]|[^:/\s]+)[:/]([0-9]{1,5})")
_REPEATED: Final = frozenset({"localforward", "dynamicforward", "remoteforward"})
_SSH_PORT: Final = 22
_LOCAL_SSH: Final = 2222
_EVERYTHING: Final = ["*:*"]


@dataclass(frozen=True, slots=True)
class _Option:
    line: int
    key: str
    value: str


@dataclass(slots=True)
class _Block:
    line: int
    patterns: Sequence[str]
    asks: str = ""
    """The conditions of a Match."""
    options: list[_Option] = field(default_factory=list)

    def applies(self, host: str) -> bool:
        """Return True if its options apply to ``host``."""
        if any(fnmatchcase(host, p[1:]) for p in self.patterns if p.startswith("!")):
            return False
        return any(fnmatchcase(host, p) for p in self.patterns)


def read_ssh_config(text: str) -> Found:
    """Return the tunnels of all hosts whose ProxyCommand starts a session."""
    found = Found()
    blocks = list(_blocks(text))
    names: dict[str, int] = {}
    for block in blocks:
        for name in block.patterns:
            names.setdefault(name, block.line)
    _note_unfollowed(found, blocks)
    for name, line in names.items():
        if name.startswith("!"):
            continue
        options = [o for block in blocks if block.applies(name) for o in block.options]
        call = _call(found, name, options)
        if call is None:
            continue
        if "*" in name or "?" in name:
            if name != "*":
                text_of = f"Host {name} is a pattern: use ssmtunneld ssh-config --write"
                found.note(line, text_of)
            continue
        _add_host(found, name, line, options, call)
    return found


def _blocks(text: str) -> Iterator[_Block]:
    block = _Block(0, ("*",))
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        key, value = match[1].lower(), match[2]
        if key in {"host", "match"}:
            yield block
            # What Match asks for cannot be known here: its options apply to nobody.
            patterns = _words(value) if key == "host" else ()
            block = _Block(number, patterns, value if key == "match" else "")
        else:
            block.options.append(_Option(number, key, value))
    yield block


def _words(value: str) -> list[str]:
    return [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', value)]


def _first(options: Sequence[_Option], key: str) -> str:
    return next((o.value.strip('"') for o in options if o.key == key), "")


def _note_unfollowed(found: Found, blocks: Sequence[_Block]) -> None:
    """Say which lines lead to options that are not read."""
    for block in blocks:
        if block.asks:
            text = f"Match {block.asks} is not followed: its options are left out"
            found.note(block.line, text)
        for option in block.options:
            if option.key == "include":
                text = f"Include {option.value} is not followed: import that file too"
                found.note(option.line, text)


def _call(found: Found, name: str, options: Sequence[_Option]) -> Call | None:
    """Return how the host's ProxyCommand starts a session; None if it does not."""
    command = next((o for o in options if o.key == "proxycommand"), None)
    if command is None or "start-session" not in command.value:
        return None
    call = next(iter(parse_calls(command.value, command.line)), None)
    try:
        for key in ("target", "profile", "region"):
            check_known(key, call.settings.get(key, "") if call else "")
    except ValueError as error:
        found.note(command.line, f"Host {name}: {error}")
        return None
    if call is None:
        found.note(command.line, f"Host {name}: its ProxyCommand cannot be read")
    return call


def _add_host(
    found: Found, name: str, line: int, options: Sequence[_Option], call: Call
) -> None:
    host_name = _first(options, "hostname") or name
    target = call.settings.get("target", "%h").replace("%h", host_name)
    target = target.replace("%n", name)
    text = _first(options, "port")
    port = int(text) if text.isdecimal() else _SSH_PORT
    common: Settings = {
        "target": target,
        **{key: call.settings.get(key) for key in ("profile", "region")},
    }
    for unknown in call.unknown:
        found.note(line, f"Host {name}: {unknown} has no equivalent and is left out")
    for note in call.notes:
        if note not in found.notes:
            found.notes.append(note)
    forwards = [o for o in options if o.key in _REPEATED]
    for number, option in enumerate(forwards, 1):
        # One forward is the host's; of several each needs a name of its own.
        own = name if len(forwards) == 1 else f"{name}-{number}"
        _add_forward(found, own, option, common)
    if not forwards:
        found.add(name, {"listen": _LOCAL_SSH, **common, "port": port}, line)
        found.note(
            line,
            f"Host {name} only logs in: ssmtunneld ssh {target} does that without a "
            "tunnel",
        )


def _add_forward(found: Found, name: str, option: _Option, common: Settings) -> None:
    words = _words(option.value)
    local = _END.fullmatch(words[0]) if words else None
    if option.key == "remoteforward":
        text = "RemoteForward is not supported: sessions do not forward back"
        found.note(option.line, text)
    elif local is None:
        text = f"{option.value} has no fixed port to listen on"
        found.note(option.line, text)
    elif option.key == "dynamicforward":
        found.note(
            option.line,
            f"{name} lets clients name any destination, as ssh does: restrict "
            "destinations to those needed",
        )
        listen = local_address(local[1] or "", int(local[2]))
        mode = {"mode": "socks5", "destinations": list(_EVERYTHING)}
        found.add(name, {"listen": listen, **common, **mode}, option.line)
    elif len(words) != 2 or not (remote := _REMOTE.fullmatch(words[1])):
        found.note(option.line, f"{option.value} has no host and port")
    else:
        ends: Settings = {"host": remote_host(remote[1]), "port": int(remote[2])}
        listen = local_address(local[1] or "", int(local[2]))
        found.add(name, {"listen": listen, **common, **ends}, option.line)
