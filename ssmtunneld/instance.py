"""Which daemon this is: one for each configuration file, user and machine.

The name is part of the reason of every session, so that a daemon that starts after a
crash knows the sessions of the one before it. A lock makes sure that there is only one
at a time; a second one must not take the first one's sessions for forgotten.
"""

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_state_path


def instance_name(source: Path) -> str:
    """Return the name of the daemon that runs the configuration in ``source``."""
    identity = f"{os.getuid()}@{socket.gethostname()}:{source.resolve()}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


@contextmanager
def claim_instance(source: Path, directory: Path | None = None) -> Iterator[str | None]:
    """Hold the instance's lock; yield its name, or ``None`` if another one holds it.

    Args:
        source: The configuration file.
        directory: Where locks are; by default systemd's StateDirectory, or else the
            user's state directory.

    Where no lock can be written, the name is ``None`` too: then nothing of another
    daemon is touched.
    """
    name = instance_name(source)
    if directory is None:
        state = os.environ.get("STATE_DIRECTORY")
        directory = Path(state) if state else user_state_path("ssmtunneld")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(
            directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError:
        yield None
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield None
    else:
        yield name
    finally:
        os.close(handle)
