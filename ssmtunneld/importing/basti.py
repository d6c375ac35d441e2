"""``.basti.yaml``: connections of basti, with their targets."""

import json
import re
from typing import Any, Final

from ssmtunneld.importing.found import Found, Settings, remote_host

_LOOKED_UP: Final = (
    "rdsInstance",
    "rdsCluster",
    "elasticacheRedisCluster",
    "elasticacheRedisNode",
    "elasticacheMemcachedCluster",
    "elasticacheMemcachedNode",
)
"""Kinds that basti finds by name in AWS; a tunnel has their address."""
_KNOWN: Final = frozenset(
    {
        *_LOOKED_UP,
        *("customTargetVpc", "customTargetHost", "customTargetPort"),
        *("awsProfile", "awsRegion"),
    }
)


def read_basti(text: str) -> Found:
    """Return the tunnels of all connections.

    Raises:
        ValueError: It is not YAML.
    """
    found = Found()
    data = _load(text)
    targets = _table(data.get("targets"))
    for name, value in _table(data.get("connections")).items():
        line = _line(text, str(name))
        connection = _table(value)
        target = connection.get("target")
        if isinstance(target, str):
            if target not in targets:
                found.note(line, f"connections.{name}: there is no target {target}")
                continue
            target = targets[target]
        _add(found, str(name), line, _table(target), connection.get("localPort"))
    return found


def _load(text: str) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - 20 ms that only this format needs

    try:
        data = json.loads(text) if text.lstrip().startswith("{") else None
        data = yaml.safe_load(text) if data is None else data
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"is not YAML: {first}") from None
    return _table(data)


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _line(text: str, name: str) -> int:
    pattern = re.compile(rf"\s*[\"']?{re.escape(name)}[\"']?\s*:")
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if pattern.match(line)), 0)


def _add(
    found: Found, name: str, line: int, target: dict[str, Any], local: object
) -> None:
    for key in target.keys() - _KNOWN:
        found.note(line, f"connections.{name}: {key} has no equivalent")
    profile, region = target.get("awsProfile"), target.get("awsRegion")
    host, port = target.get("customTargetHost"), target.get("customTargetPort")
    looked_up = next((target[key] for key in _LOOKED_UP if key in target), None)
    if looked_up is not None:
        options = {"--profile": profile, "--region": region, "--listen": local}
        given = [f"{o} {value}" for o, value in options.items() if value is not None]
        words = " ".join(["--from-discover", str(looked_up), *given])
        found.note(
            line,
            f"connections.{name}: basti looks up where {looked_up} is; "
            f"ssmtunneld add {name} {words} does that once",
        )
        return
    if not isinstance(host, str) or not isinstance(port, int):
        found.note(line, f"connections.{name}: its target has no host and port")
        return
    settings: Settings = {
        "listen": local if isinstance(local, int) else port,
        "profile": profile,
        "region": region,
        "host": remote_host(host),
        "port": port,
    }
    found.add(name, settings, line)
