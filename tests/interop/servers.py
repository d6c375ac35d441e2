"""OpenSSH, PostgreSQL and Redis as the operating system ships them."""

import getpass
import os
import pwd
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.interop.programs import Program, free_port, run

# Debian keeps servers out of a user's PATH.
_FOLDERS = ("/usr/sbin", "/usr/local/sbin")


def find(program):
    """Return the path of ``program``, or None where it is not installed."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *_FOLDERS]
    folders += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(program, path=os.pathsep.join(folders))


@dataclass(frozen=True)
class Sshd:
    """A running sshd and the client's side of it."""

    port: int
    folder: Path
    program: Program

    def options(self, port):
        """Return what ssh, scp and sftp need to reach it through local ``port``."""
        known = self.folder / f"known_hosts_{port}"
        host_key = (self.folder / "host_key.pub").read_text().strip()
        known.write_text(f"[localhost]:{port} {host_key}\n")
        options = (
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={known}",
            "GlobalKnownHostsFile=/dev/null",
            f"IdentityFile={self.folder / 'user_key'}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "LogLevel=ERROR",
            f"Port={port}",
        )
        return ["-F", "none", *(word for o in options for word in ("-o", o))]

    @property
    def destination(self):
        return f"{getpass.getuser()}@localhost"


@contextmanager
def sshd(folder, authorized=None):
    """Run sshd as the current user with keys of its own.

    ``authorized`` are lines of its configuration that say who may log in, instead of
    whoever has the user's key.
    """
    for name in ("host_key", "user_key"):
        key = folder / name
        run(find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    authorized = authorized or f"AuthorizedKeysFile {folder}/authorized_keys"
    port = free_port()
    configuration = folder / "sshd_config"
    configuration.write_text(
        f"""
        Port {port}
        ListenAddress 127.0.0.1
        HostKey {folder}/host_key
        {authorized}
        PidFile none
        UsePAM no
        StrictModes no
        PermitRootLogin prohibit-password
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        PubkeyAuthentication yes
        AllowTcpForwarding yes
        PermitTTY yes
        PrintMotd no
        PrintLastLog no
        Subsystem sftp internal-sftp
        """
    )
    if os.geteuid() == 0:
        # Where sshd gives its privileges away; made by the service, which may be off.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    program = Program(find("sshd"), "-D", "-e", "-f", configuration)
    try:
        program.wait_for(r"Server listening on 127\.0\.0\.1")
        yield Sshd(port, folder, program)
    finally:
        program.kill()


@dataclass(frozen=True)
class PostgreSql:
    """A running PostgreSQL that trusts everybody on loopback."""

    port: int
    folder: Path
    user: str = field(default="postgres", init=False)

    def psql(self, port, *arguments, timeout=180):
        """Run psql through local ``port`` and return what it prints."""
        return run(
            find("psql"),
            *self.connection(port),
            *("-X", "-q", "-v", "ON_ERROR_STOP=1"),
            *arguments,
            timeout=timeout,
        )

    def connection(self, port):
        return ["-h", "127.0.0.1", "-p", str(port), "-U", self.user, "-d", "postgres"]


def _unprivileged():
    """Return who may run PostgreSQL, which refuses to run as root; None for us."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def postgresql():
    """Run a cluster of its own, in a short folder: socket paths have a limit."""
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    program = None
    try:
        folder.chmod(0o755)
        if user:
            shutil.chown(folder, user)
        data, port = folder / "data", free_port()
        initdb = Program(
            find("initdb"),
            *("-D", data, "-A", "trust", "-U", "postgres"),
            *("-E", "UTF8", "--no-locale", "--no-sync"),
            user=user,
            cwd=folder,
        )
        assert initdb.process.wait(120) == 0, initdb.log()
        initdb.kill()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "synchronize_seqscans": "off",
            "max_connections": "60",
        }
        program = Program(
            find("postgres"),
            *("-D", data),
            *(word for item in settings.items() for word in ("-c", "=".join(item))),
            user=user,
            cwd=folder,
        )
        program.wait_for("database system is ready to accept connections")
        yield PostgreSql(port, folder)
    finally:
        if program is not None:
            program.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def redis(folder):
    """Run a Redis that keeps nothing, and yield its port."""
    port = free_port()
    program = Program(
        find("redis-server"),
        *("--port", port, "--bind", "127.0.0.1", "--dir", folder),
        *("--save", "", "--appendonly", "no"),
    )
    try:
        program.wait_for("Ready to accept connections")
        yield port
    finally:
        program.kill()
