"""Paths as the same file has them, whoever names it."""

import os
from pathlib import Path


def real_path(path: Path) -> Path:
    """Return ``path`` from the root on, with its links followed.

    Never raises: where links go round, or the working directory is gone, the path is
    returned as far as it could be followed. Whoever opens it is told.
    """
    try:
        return Path(os.path.realpath(path))
    except OSError:
        return path
