"""Places of the control sockets of daemons; light enough for every login by ssh."""

import os
from pathlib import Path
from typing import Final

from ssmtunneld.base.paths import listed
from ssmtunneld.daemon.instance_lock import control_sockets

VARIABLE: Final = "SSMTUNNELD_CONFIG"
"""Names the configuration file whose daemon is meant, where no option does."""
SYSTEM_PLACES: Final = (Path("/run"), Path("/var/lib"))
"""Folders in which system services have a folder for their sockets (``systemd/``)."""


def named_config(config: Path | None) -> Path | None:
    """Return ``config``, or the file that ``$SSMTUNNELD_CONFIG`` names instead."""
    if config is None and (named := os.environ.get(VARIABLE)):
        return Path(named)
    return config


def system_sockets() -> list[Path]:
    """Return the control sockets of system services; a dead daemon can leave one."""
    return [
        path for place in SYSTEM_PLACES for path in listed(place, "ssmtunneld*/*.sock")
    ]


def all_sockets(config: Path | None) -> list[Path]:
    """Return the control sockets that could belong to the daemon of ``config``.

    Args:
        config: A file; None for all daemons, the user's own ones first.
    """
    return [*control_sockets(config), *system_sockets()]
