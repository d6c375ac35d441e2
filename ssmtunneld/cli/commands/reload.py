"""``ssmtunneld reload``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ssmtunneld.base.sentences import with_advice
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.daemon_client import RELOAD_TIMEOUT, find
from ssmtunneld.cli.options import daemon_option
from ssmtunneld.cli.terminal.text import counted, printable


@click.command()
@daemon_option
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
def reload(config_path: Path | None, *, as_json: bool) -> None:
    """Reload the configuration file.

    Only tunnels whose settings changed are touched; connections of others continue, and
    connections of removed tunnels get drain_timeout to finish. Settings of [daemon]
    apply at once, too. An invalid file is refused as a whole, with exit code 2, and the
    daemon runs on as before.
    """
    daemon = find(config_path)
    changes = daemon.ask("POST", "/reload", timeout=RELOAD_TIMEOUT)
    if as_json:
        click.echo(json.dumps(changes, indent=2))
        return
    for verb in ("added", "removed", "changed"):
        if names := changes.get(verb):
            click.echo(f"{verb}: {', '.join(names)}")
    if keys := changes.get("daemon"):
        click.echo(f"changed in [daemon]: {', '.join(keys)}; none needs a restart")
    click.echo(f"unchanged: {counted(changes.get('unchanged', 0), 'tunnel')}")
    touched = {*changes.get("changed", ()), *changes.get("removed", ())}
    _say_what_stays([m for m in daemon.document["tunnels"] if m["name"] not in touched])


def _say_what_stays(tunnels: Sequence[dict[str, Any]]) -> None:
    """Say which of these tunnels need credentials: the file of settings has none.

    Whoever has just written keys somewhere may expect a reload to take them up.
    """
    names: dict[tuple[str, str], list[str]] = {}
    for tunnel in tunnels:
        if tunnel["state"] == "needs_login":
            why = printable(tunnel["reason"]), printable(tunnel["advice"])
            names.setdefault(why, []).append(tunnel["name"])
    for (reason, advice), found in names.items():
        said = f"{', '.join(found)} still without credentials: {reason}"
        tell(f"ssmtunneld: {with_advice(said, advice)}")
