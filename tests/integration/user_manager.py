"""A real systemd user instance of the test's own, where the machine can have one.

It needs root on Linux, systemd's programs and its cgroup hierarchy, but no booted
systemd: the instance lives in a mount namespace in which systemd seems to be, and in
a control group of its own.
"""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 60
_SYSTEMD = next(
    (
        p
        for p in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
        if Path(p).exists()
    ),
    None,
)
_SYSTEMCTL = ("systemctl", "--user")
_CGROUPS = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))

# The shell becomes systemd, which wants to see that it is the machine's. Its /run is a
# new one: nothing is left on the machine's own.
_START = """
set -e
echo $$ > "$1/cgroup.procs"
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
exec "$2" --user
"""


def missing():
    """Return why this machine cannot have an instance; empty if it may."""
    if os.geteuid():
        return "not root"
    if not _SYSTEMD or not all(map(shutil.which, ("unshare", "nsenter", "systemctl"))):
        return "systemd or util-linux is not installed"
    if _hierarchy() is None:
        return "no control groups of systemd"
    return ""


def _hierarchy():
    found = [path for path in _CGROUPS if os.access(path / "cgroup.procs", os.W_OK)]
    return found[0] if found else None


class UserManager:
    """systemctl for the instance."""

    def __init__(self, process, units, environ):
        self._process = process
        self._units = units
        self._environ = environ

    def write(self, name, text):
        """Write a unit file and let systemd know."""
        (self._units / name).write_text(text)
        self.call("daemon-reload")

    def call(self, *arguments, check=True):
        """Run ``systemctl --user`` and return what it prints."""
        done = subprocess.run(
            ["nsenter", "-m", "-t", str(self._process.pid), *_SYSTEMCTL, *arguments],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout.strip()

    def show(self, unit, key):
        """Return one property of a unit."""
        return self.call("show", "--value", "-p", key, unit)


@contextmanager
def user_manager():
    """Run an instance; ``None`` if it does not come up here."""
    group = _hierarchy() / f"ssmtunneld-test-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="ssmtunneld-") as folder:
        home, runtime = Path(folder, "home"), Path(folder, "run")
        units = home / ".config/systemd/user"
        for path in (units, runtime):
            path.mkdir(mode=0o700, parents=True)
        environ = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "XDG_RUNTIME_DIR": str(runtime),
            "SYSTEMD_LOG_TARGET": "console",
        }
        group.mkdir()
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _START, "sh", str(group), _SYSTEMD],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        manager = UserManager(process, units, environ)
        try:
            yield manager if _is_up(process, manager) else None
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for path in sorted(group.rglob("*"), reverse=True):
                if path.is_dir():
                    with suppress(OSError):
                        path.rmdir()
            with suppress(OSError):
                group.rmdir()


def _is_up(process, manager):
    """Wait until the instance answers, has ended, or takes too long."""
    for _ in range(10 * PATIENCE):
        if process.poll() is not None:
            return False
        state = manager.call("is-system-running", check=False)
        if state in {"running", "degraded"}:
            return True
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    return False
