"""Running daemons, for commands that also work without one."""

import os
from pathlib import Path
from typing import Any, Final

from ssmtunneld.base.paths import real_path
from ssmtunneld.cli import daemon_client
from ssmtunneld.cli.daemon_sockets import VARIABLE, all_sockets, named_config
from ssmtunneld.cli.exit_codes import CommandError

PATIENCE: Final = 2.0
"""Seconds for a daemon to answer; without an answer a command works alone."""


def running(config: Path | None) -> list[dict[str, Any]]:
    """Return the status documents of the daemons that answer, our own ones first.

    Args:
        config: Only the one that runs this file; by default $SSMTUNNELD_CONFIG's, and
            without it all of them. Other users' daemons do not answer.
    """
    config = named_config(config)
    asked = map(_ask, all_sockets(config))
    found = [document for document in asked if document is not None]
    if config is None:
        return found
    source = str(real_path(config))
    return [document for document in found if document.get("config") == source]


def credentials_trouble(config: Path, tunnel: str) -> tuple[str, str] | None:
    """Return why the daemon of ``config`` has no usable credentials for a tunnel.

    It has an environment of its own, which is not that of whoever asks.

    Returns:
        What is wrong, as a sentence that names the daemon, and what to do; None if
        nothing is, or no daemon answers.
    """
    for document in running(config):
        for found in document["tunnels"]:
            if found["name"] == tunnel and found["state"] == "needs_login":
                who = f"the running daemon (pid {document['pid']})"
                return f"{who} has no usable credentials: {found['reason']}", found[
                    "advice"
                ]
    return None


def config_in_use(config: Path | None) -> Path:
    """Return the configuration file that a command is about.

    As ``status`` finds a daemon: the file that is named, by option or
    $SSMTUNNELD_CONFIG; else that of the daemon that runs; else, because no daemon needs
    to run, the one in the usual places.

    Raises:
        CommandError: Several daemons run, and none is named.
        ConfigError: There is no file.
    """
    from ssmtunneld.config import find_config

    return find_config(followed_file(config) or config, os.environ)


def followed_file(config: Path | None) -> Path | None:
    """Return the running daemon's file, if `config_in_use` chooses that one.

    None where a file is named, by ``config`` or $SSMTUNNELD_CONFIG, or no daemon runs.

    Raises:
        CommandError: Several daemons run, and none is named.
    """
    if config is not None or os.environ.get(VARIABLE):
        return None
    sources = sorted({str(document["config"]) for document in running(None)})
    if len(sources) > 1:
        raise daemon_client.SeveralRunning(sources)
    return next(map(Path, sources), None)


def _ask(path: Path) -> dict[str, Any] | None:
    try:
        answer = daemon_client.request(path, "GET", "/status", timeout=PATIENCE)
    except CommandError:
        return None
    return answer.document if answer is not None and answer.code < 400 else None
