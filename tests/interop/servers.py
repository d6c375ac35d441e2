"""OpenSSH, PostgreSQL, MariaDB and Redis as the operating system ships them."""

import contextlib
import getpass
import os
import pwd
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from tests.interop.programs import (
    Program,
    environment,
    run,
)
from tests.support.ports import free_port

# Debian keeps servers out of a user's PATH.
_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
_JOIN_TIMEOUT = 60


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
        return ["-F", "none", *self.key_options(known), "-o", f"Port={port}"]

    def key_options(self, known):
        """Return the options for the user's key and the host keys in ``known``."""
        options = (
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={known}",
            "GlobalKnownHostsFile=/dev/null",
            f"IdentityFile={self.folder / 'user_key'}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "LogLevel=ERROR",
        )
        return [word for option in options for word in ("-o", option)]

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
        MaxStartups 100
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
    program: Program
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

    def use_tls(self, certificates):
        """Offer TLS with these certificates from now on."""
        owner = self.folder.stat()
        settings = {"ssl_cert_file": certificates.own, "ssl_key_file": certificates.key}
        for setting, source in settings.items():
            file = self.folder / source.name
            file.write_bytes(source.read_bytes())
            file.chmod(0o600)
            os.chown(file, owner.st_uid, owner.st_gid)
            self.psql(self.port, "-c", f"alter system set {setting} = '{file}'")
        self.psql(self.port, "-c", "alter system set ssl = on")
        self.psql(self.port, "-c", "select pg_reload_conf()")

    def connection(self, port):
        return ["-h", "127.0.0.1", "-p", str(port), "-U", self.user, "-d", "postgres"]


def _unprivileged():
    """Return who may run PostgreSQL, which refuses to run as root; None for us."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def _folder_of(user):
    """Yield a short folder that ``user`` owns: socket paths have a limit."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        if user:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _postgres_in(folder, user, *maker):
    """Run ``maker`` there, which makes the folder ``data``, then PostgreSQL on it."""
    making = Program(*maker, user=user, cwd=folder)
    assert making.process.wait(120) == 0, making.log()
    making.kill()
    port = free_port()
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
        *("-D", folder / "data"),
        *(word for item in settings.items() for word in ("-c", "=".join(item))),
        user=user,
        cwd=folder,
    )
    try:
        program.wait_for(r"database system is ready to accept (read-only )?connections")
        yield PostgreSql(port, folder, program)
    finally:
        program.kill()


@contextmanager
def postgresql():
    """Run a cluster of its own."""
    user = _unprivileged()
    initdb = [find("initdb"), "-D", "data", "-A", "trust", "-U", "postgres"]
    initdb += ["-E", "UTF8", "--no-locale", "--no-sync"]
    with (
        _folder_of(user) as folder,
        _postgres_in(folder, user, *initdb) as server,
    ):
        yield server


@contextmanager
def standby(primary):
    """Run a copy of ``primary`` that follows it by streaming, until it is promoted."""
    user = _unprivileged()
    copy = [find("pg_basebackup"), "-D", "data", "-R", "-X", "stream", "--no-sync"]
    copy += ["-c", "fast", "-h", "127.0.0.1", "-p", primary.port, "-U", primary.user]
    with (
        _folder_of(user) as folder,
        _postgres_in(folder, user, *copy) as server,
    ):
        yield server


@contextmanager
def redis(folder, certificates=None):
    """Run a Redis that keeps nothing, and yield its port, which may be one for TLS."""
    port = free_port()
    where = ["--port", port]
    if certificates is not None:
        where = ["--port", "0", "--tls-port", port, "--tls-auth-clients", "no"]
        where += ["--tls-ca-cert-file", certificates.ca]
        where += ["--tls-cert-file", certificates.own]
        where += ["--tls-key-file", certificates.key]
    program = Program(
        find("redis-server"),
        *(*where, "--bind", "127.0.0.1", "--dir", folder),
        *("--save", "", "--appendonly", "no"),
    )
    try:
        program.wait_for("Ready to accept connections")
        yield port
    finally:
        program.kill()


@dataclass(frozen=True)
class RedisCluster:
    """A running Redis Cluster, which tells its clients names and never addresses.

    ``addresses`` has a master's loopback address by its name; ``port`` is that of all.
    """

    addresses: dict[str, str]
    port: int

    def ask(self, address, *words):
        """Ask the master at ``address`` directly."""
        return run(find("redis-cli"), "-h", address, "-p", self.port, *words)


@contextmanager
def redis_cluster(folder, addresses):
    """Run a master for each name in ``addresses``, each with its share of the slots."""
    cluster = RedisCluster(addresses, free_port())
    nodes = []
    try:
        for name, address in addresses.items():
            home = folder / name
            home.mkdir()
            node = Program(
                find("redis-server"),
                *("--bind", address, "--port", cluster.port, "--dir", home),
                *("--save", "", "--appendonly", "no", "--cluster-enabled", "yes"),
                # Its own choice is the port plus 10000, which may be above 65535.
                *("--cluster-port", free_port(), "--cluster-announce-ip", address),
                *("--cluster-announce-hostname", name),
                *("--cluster-preferred-endpoint-type", "hostname"),
            )
            nodes.append(node)
            node.wait_for("Ready to accept connections")
        places = [f"{address}:{cluster.port}" for address in addresses.values()]
        run(
            find("redis-cli"),
            "--cluster",
            "create",
            *places,
            "--cluster-yes",
            timeout=_JOIN_TIMEOUT,
        )
        # They agree about slots before each has heard the names of all others, and
        # before each of them takes commands.
        deadline = perf_counter() + _JOIN_TIMEOUT
        for address in addresses.values():
            while not _knows(seen := cluster.ask(address, "cluster", "slots"), cluster):
                assert perf_counter() < deadline, seen
            while "state:ok" not in (seen := cluster.ask(address, "cluster", "info")):
                assert perf_counter() < deadline, seen
        yield cluster
    finally:
        for node in nodes:
            node.kill()


def _knows(slots, cluster):
    return all(name in slots.split() for name in cluster.addresses)


class _FromElsewhere(socketserver.BaseRequestHandler):
    """Passes one connection on, from another address of this machine."""

    def handle(self):
        server = self.server
        with socket.create_connection(
            ("127.0.0.1", server.onwards), source_address=(server.source, 0)
        ) as there:
            back = threading.Thread(target=self._copy, args=(there, self.request))
            back.start()
            self._copy(self.request, there)
            back.join()

    def _copy(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class _Relay(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, onwards, source):
        self.onwards, self.source = onwards, source
        super().__init__(("127.0.0.1", 0), _FromElsewhere)


@contextmanager
def relay(onwards, source):
    """Yield a port that leads to port ``onwards``, whose server sees ``source``."""
    with _Relay(onwards, source) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class MariaDb:
    """A running MariaDB with the user ``app``, whose password is ``secret``.

    It never counts the errors of 127.0.0.1; ``port`` leads to it from another address.
    """

    port: int
    direct: int
    folder: Path

    def admin(self, statement):
        """Run a statement as root, on the server's Unix socket."""
        socket_path = f"--socket={self.folder / 's'}"
        return run(
            find("mariadb"), "--no-defaults", socket_path, "-uroot", "-NBe", statement
        )

    def login(self, port):
        """Log in through local ``port``; return the completed process."""
        return subprocess.run(
            [
                *(find("mariadb"), "--no-defaults", "--ssl=0", "-h127.0.0.1"),
                *(f"-P{port}", "-uapp", "-psecret", "-NBe", "select 42"),
            ],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@contextmanager
def mariadb(certificates=None):
    """Run a server of its own, in a short folder: socket paths have a limit."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = None if os.geteuid() else "mysql" if "mysql" in names else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="db-", dir="/tmp"))
    program = None
    try:
        folder.chmod(0o755)
        if user:
            shutil.chown(folder, user)
        common = ["--no-defaults", f"--datadir={folder / 'data'}"]
        common += [f"--user={user}"] if user else []
        run(
            *(find("mariadb-install-db"), *common, "--skip-test-db"),
            "--auth-root-authentication-method=normal",
            timeout=180,
        )
        if certificates is not None:
            for kind in ("ca", "own", "key"):
                file = folder / f"{kind}.pem"
                file.write_bytes(getattr(certificates, kind).read_bytes())
                if user:
                    shutil.chown(file, user)
            common += [f"--ssl-ca={folder / 'ca.pem'}"]
            common += [f"--ssl-cert={folder / 'own.pem'}"]
            common += [f"--ssl-key={folder / 'key.pem'}"]
        direct = free_port()
        program = Program(
            *(find("mariadbd"), *common, f"--socket={folder / 's'}"),
            *(f"--pid-file={folder / 'pid'}", "--bind-address=127.0.0.1"),
            *(f"--port={direct}", "--performance-schema=ON"),
            *("--innodb-buffer-pool-size=8M", "--innodb-log-file-size=8M"),
        )
        program.wait_for("ready for connections")
        with relay(direct, "127.0.0.9") as port:
            server = MariaDb(port, direct, folder)
            server.admin("create user app@'%' identified by 'secret'")
            yield server
    finally:
        if program is not None:
            program.kill()
        shutil.rmtree(folder, ignore_errors=True)
