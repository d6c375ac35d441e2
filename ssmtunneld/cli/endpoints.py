"""Comparison of a daemon's AWS endpoint with that of a command.

``AWS_ENDPOINT_URL_SSM`` and ``AWS_ENDPOINT_URL`` say where AWS answers, for an emulator
or a private endpoint. A command with another one than the daemon means another place,
although its target has the same id.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ssmtunneld.errors import ConfigError

VARIABLES: Final = ("AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL")
"""Variables that botocore reads, in this order."""
IGNORED: Final = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"

_PROCESSES: Final = Path("/proc")

Configured = Callable[[Path | None], str | None]
"""Returns the ``endpoint_url`` that a configuration file has for the target."""


def endpoint_in(environ: Mapping[str, str]) -> str:
    """Return the endpoint that ``environ`` names; empty if it names none."""
    if environ.get(IGNORED, "").lower() == "true":
        return ""
    return next((environ[name] for name in VARIABLES if environ.get(name)), "")


def environment_of(pid: int, processes: Path = _PROCESSES) -> dict[str, str]:
    """Return the environment with which process ``pid`` was started.

    Empty where it cannot be read: for another user's process, and without ``/proc``.
    """
    try:
        raw = (processes / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in raw.split(b"\0"))
    return {name: value for name, _, value in pairs if name}


def is_same_endpoint(
    document: Mapping[str, Any],
    environ: Mapping[str, str],
    config: Path | None,
    configured: Configured,
) -> bool:
    """Say whether a daemon reaches the place that a command with ``environ`` means.

    Without a variable of `VARIABLES` there is nothing to compare. A file's own
    ``endpoint_url`` goes before the variables. If the daemon's endpoint is unknown, it
    is another one: starting a session of one's own is only slower.

    Args:
        document: The daemon's status document.
        environ: The command's environment.
        config: The command's configuration file, or None.
        configured: Looks an endpoint up in a file.
    """
    named = endpoint_in(environ)
    if not named:
        return True
    try:
        ours = configured(config) or named
        theirs = configured(Path(document["config"]))
    except ConfigError:
        return False
    theirs = theirs or endpoint_in(environment_of(document["pid"]))
    return ours.rstrip("/") == theirs.rstrip("/")
