"""The daemons that run beside a command, for commands that can do without them."""

import os
from pathlib import Path
from typing import Any, Final

from ssmtunneld.cli import client
from ssmtunneld.cli.exits import CommandError
from ssmtunneld.instance import control_sockets

PATIENCE: Final = 2.0
"""Seconds for a daemon to say what it has; without an answer we go alone."""


def running(config: Path | None) -> list[dict[str, Any]]:
    """Return the status documents of the daemons that answer, our own ones first.

    Args:
        config: Only the one that runs this file; by default $SSMTUNNELD_CONFIG's, and
            without it all of them. Other users' daemons do not answer.
    """
    if config is None and (named := os.environ.get(client.VARIABLE)):
        config = Path(named)
    paths = control_sockets(config)
    for place in client.SYSTEM_PLACES:
        paths += sorted(place.glob("ssmtunneld*/*.sock"))
    found = [document for path in paths if (document := _ask(path)) is not None]
    if config is None:
        return found
    source = str(config.resolve())
    return [document for document in found if document.get("config") == source]


def _ask(path: Path) -> dict[str, Any] | None:
    try:
        answer = client.request(path, "GET", "/status", timeout=PATIENCE)
    except CommandError:
        return None
    return answer.document if answer is not None and answer.code < 400 else None
