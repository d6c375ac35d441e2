"""``ssmtunneld status``."""

import http.client
import json
import socket
import sys
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from ssmtunneld.cli.main import EXIT_NOT_RUNNING
from ssmtunneld.instance import control_sockets

_COLOURS = {"ready": "green", "idle": "cyan", "failed": "red", "unbound": "red"}
_KIB = 1024


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket; the standard library's client starts fastest."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    @override
    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(str(self._path))


@click.command()
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration of the daemon to ask, where several run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole document.")
def status(config_path: Path | None, *, as_json: bool) -> None:
    """Show how the daemon and its tunnels are; exit with 3 if none runs."""
    documents = [d for d in map(_ask, control_sockets(config_path)) if d is not None]
    if not documents:
        click.echo("ssmtunneld: no daemon runs; start one: ssmtunneld run", err=True)
        sys.exit(EXIT_NOT_RUNNING)
    if len(documents) > 1:
        configs = ", ".join(str(d["config"]) for d in documents)
        raise click.UsageError(f"several daemons run; name one with -c: {configs}")
    if as_json:
        click.echo(json.dumps(documents[0], indent=2))
    else:
        click.echo("\n".join(_lines(documents[0])))


def _ask(path: Path) -> dict[str, Any] | None:
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/status")
        document: dict[str, Any] = json.load(connection.getresponse())
    except (OSError, http.client.HTTPException, ValueError):
        return None  # left behind by a daemon that was killed
    finally:
        connection.close()
    return document


def _lines(document: dict[str, Any]) -> list[str]:
    mappings = document["mappings"]
    ready = sum(m["state"] == "ready" for m in mappings)
    head = (
        f"ssmtunneld {document['program']}, pid {document['pid']}, "
        f"up {_duration(document['uptime'])}, {document['config']}: "
        f"{ready} of {len(mappings)} tunnels ready"
    )
    width = max((len(m["name"]) for m in mappings), default=0)
    lines = [head]
    for mapping in mappings:
        lines.extend(_mapping_lines(mapping, width))
    return lines


def _mapping_lines(mapping: dict[str, Any], width: int) -> list[str]:
    colour = _COLOURS.get(mapping["state"], "yellow")
    state = click.style(f"{mapping['state']:<8}", fg=colour)
    sessions = len(mapping["sessions"])
    line = (
        f"  {mapping['name']:<{width}}  {state}  {', '.join(mapping['listen']) or '-'}"
        f" -> {mapping['target']} -> {mapping['destination']}"
        f"  {sessions} session{'s' * (sessions != 1)},"
        f" {mapping['connections']} connected,"
        f" up {_size(mapping['sent'])}, down {_size(mapping['received'])}"
    )
    if not mapping["reason"]:
        return [line]
    advice = f"; {mapping['advice']}" if mapping["advice"] else ""
    return [line, f"  {'':<{width}}  {mapping['reason']}{advice}"]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    shown = [f"{value}{unit}" for value, unit in parts if value]
    return " ".join(shown[:2]) or "0s"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < _KIB or unit == "GiB":
            break
        count /= _KIB
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
