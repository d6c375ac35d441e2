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
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_state_path

from ssmtunneld.base.folders import make_private_folder


def instance_name(source: Path) -> str:
    """Return the name of the daemon that runs the configuration in ``source``."""
    identity = f"{os.getuid()}@{_machine()}:{source.resolve()}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def _machine() -> str:
    """Return what no other machine is called, as far as can be."""
    name = socket.gethostname()
    try:
        # Many are called the same, and reach the same targets.
        return f"{name} {Path('/etc/machine-id').read_text().strip()}"
    except OSError:
        return name


def state_directory() -> Path:
    """Return where locks and control sockets are: systemd's place, or the user's."""
    state = os.environ.get("STATE_DIRECTORY")
    return Path(state) if state else user_state_path("ssmtunneld")


def control_socket(name: str) -> Path:
    """Return the control socket of the instance called ``name``."""
    return state_directory() / f"{name}.sock"


def control_sockets(source: Path | None) -> list[Path]:
    """Return the control sockets of the daemon of ``source``, or of all daemons.

    Some may be left behind: a daemon that was killed does not remove its own.
    """
    if source is not None:
        return [control_socket(instance_name(source))]
    return sorted(state_directory().glob("*.sock"))


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
    directory = directory or state_directory()
    path = directory / f"{name}.lock"
    handle = _lock(path)
    if handle is None:
        yield None
        return
    try:
        yield name
    finally:
        # While it is still held, so that nobody locks a file that is about to go.
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def _lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock ``path``; ``None`` if that cannot be."""
    while True:
        try:
            make_private_folder(path.parent)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass  # its holder removed it in between: it locks nothing any more
        except OSError:
            os.close(handle)
            return None
        os.close(handle)
