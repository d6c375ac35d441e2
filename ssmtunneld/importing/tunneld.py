"""tunneld's TOML: forwards over ssh connections, as forwards through sessions."""

import re
import tomllib
from typing import Any, Final

from ssmtunneld.config.targets import parse_target
from ssmtunneld.importing.found import Found, Settings, remote_host, short

_REMOTE: Final = re.compile(r"(?:(\[[^\]]+\]|[^:]*):)?([0-9]{1,5})")
_OF_SSH: Final = ("user", "identity", "ssh_options", "port")


def read_tunneld(text: str) -> Found:
    """Return the tunnels of all forwards.

    Raises:
        ValueError: It is not TOML.
    """
    found = Found()
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not TOML: {error}") from None
    tunnels = data.get("tunnels")
    for entry in tunnels if isinstance(tunnels, list) else []:
        if isinstance(entry, dict):
            _add_entry(found, entry, _line(text, str(entry.get("name", ""))))
    return found


def _line(text: str, name: str) -> int:
    pattern = re.compile(rf"\s*name\s*=\s*[\"']{re.escape(name)}[\"']")
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if pattern.match(line)), 0)


def _add_entry(found: Found, entry: dict[str, Any], line: int) -> None:
    name = str(entry.get("name", "tunnel"))
    if entry.get("enabled") is False:
        found.note(line, f"{name} is not enabled, and is left out")
        return
    host = str(entry.get("host", ""))
    common: Settings = {}
    try:
        parse_target(host)
    except ValueError:
        found.note(line, f"{name}: {host} is a host of ssh: name a target instead")
    else:
        common["target"] = host
    if ours := [key for key in _OF_SSH if key in entry]:
        text = f"{name}: {', '.join(ours)} apply to ssh only, and are left out"
        found.note(line, text)
    for forward in _entries(entry, "forwards"):
        _add_forward(found, name, line, forward, common)
    for proxy in _entries(entry, "proxy"):
        settings = {"mode": "socks5", "destinations": ["*:*"]}
        listen = proxy.get("local")
        own = str(proxy.get("label") or f"{name}-socks")
        found.add(own, {"listen": listen, **common, **settings}, line)
        text = f"{own} lets clients name any destination: restrict destinations"
        found.note(line, text)
    if _entries(entry, "remote_forwards"):
        text = (
            f"{name}: remote_forwards are not supported: sessions do not forward back"
        )
        found.note(line, text)


def _entries(entry: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = entry.get(key)
    found = value if isinstance(value, list) else []
    return [each for each in found if isinstance(each, dict)]


def _add_forward(
    found: Found, name: str, line: int, forward: dict[str, Any], common: Settings
) -> None:
    remote = _REMOTE.fullmatch(str(forward.get("remote", "")))
    listen = forward.get("local")
    if remote is None or listen is None:
        found.note(line, f"{name}: {forward} has no destination")
        return
    host = remote_host(remote[1] or "")
    own = forward.get("label") or f"{name}-{short(host) if host else remote[2]}"
    ends: Settings = {"host": host, "port": int(remote[2])}
    found.add(str(own), {"listen": listen, **common, **ends}, line)
