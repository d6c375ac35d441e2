"""Real programs on both ends of a real daemon that talks to a real emulator process.

::

    curl, psql, ssh ... -> ssmtunneld run -> ssmtunneld emulator -> sshd, postgres ...

Every arrow is a loopback socket between processes. Where a program is missing its tests
are skipped, unless SSMTUNNELD_REQUIRE_INTEROP is set, as it is in CI.
"""

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop import servers
from tests.interop.http_server import HttpServer
from tests.interop.programs import (
    Program,
    aws_environment,
    environment,
)
from tests.support.ports import free_port

TARGET = "i-0123456789abcdef0"

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Mark whatever lies in this folder."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.interop)


def _need(*programs):
    missing = [program for program in programs if servers.find(program) is None]
    if missing:
        _lack(", ".join(missing))


def _lack(programs):
    words = f"not installed: {programs}"
    if os.environ.get("SSMTUNNELD_REQUIRE_INTEROP"):
        pytest.fail(words)
    pytest.skip(words)


@dataclass(frozen=True)
class Emulator:
    """A running ``ssmtunneld emulator``."""

    endpoint: str
    program: Program

    def state(self):
        """Return the document of the emulator's admin path."""
        status = self.program.process.poll()
        assert status is None, f"it ended with {status}:\n{self.program.log()}"
        with urllib.request.urlopen(f"{self.endpoint}/_emulator/state") as answer:
            return json.load(answer)

    def statuses(self):
        """Return the status of every session that ever was."""
        return {session["status"] for session in self.state()["sessions"]}

    @contextmanager
    def faults(self, *specs):
        """Put faults in force for the time of a ``with`` block."""
        self._faults("POST", json.dumps({"specs": specs}).encode())
        try:
            yield
        finally:
            self._faults("DELETE")

    def _faults(self, method, data=None):
        url = f"{self.endpoint}/_emulator/faults"
        request = urllib.request.Request(url, data, method=method)
        urllib.request.urlopen(request).close()


def _command(*arguments):
    return [sys.executable, "-m", "ssmtunneld", *arguments]


@contextmanager
def run_emulator(addresses=None, *options):
    """Run the AWS side, as fast as it can; its agents find ``addresses`` by name."""
    aliases = [f"{name}={address}" for name, address in (addresses or {}).items()]
    program = Program(
        *_command("emulator", "--listen", "127.0.0.1:0", "--pace", "none"),
        *(word for alias in aliases for word in ("--host-alias", alias)),
        *options,
        env=environment(),
    )
    try:
        endpoint = program.wait_for(r"emulator listening on (http://\S+)")[1]
        yield Emulator(endpoint, program)
        assert program.stop() == 0, program.log()
    finally:
        program.kill()


@pytest.fixture(scope="session")
def emulator():
    """The AWS side; every session of it ends as a session of ours should."""
    with run_emulator() as running:
        yield running


@pytest.fixture(scope="module")
def daemon(emulator, tmp_path_factory):
    """Start daemons from configuration text; each must end cleanly, leaving nothing.

    What ``daemon(text)`` returns is a ``Program``: ``log()``, ``wait_for()``, ``pid``.
    """
    started = []

    def start(text, **environ):
        path = tmp_path_factory.mktemp("daemon") / "config.toml"
        path.write_text(text)
        program = Program(
            *_command("run", "--config", path),
            env={**aws_environment(emulator.endpoint), **environ},
        )
        started.append(program)
        program.wait_for(r"daemon\.ready")
        return program

    try:
        yield start
        for program in started:
            assert program.stop() == 0, program.log()
            # Lines of this level ask somebody to act; nothing here is a reason to.
            assert "[error" not in program.log(), program.log()
        assert not started or emulator.statuses() == {"Terminated"}
    finally:
        for program in started:
            program.kill()


@pytest.fixture(scope="module")
def tunnel(daemon):
    """Start a daemon with one tunnel to a port and return the local port."""

    def start(port, **settings):
        local = free_port()
        daemon(tunnel_table("only", local, port, **settings))
        return local

    return start


def tunnel_table(name, local, port, **settings):
    """Return the configuration of one tunnel."""
    values = {
        "listen": f"127.0.0.1:{local}",
        "target": TARGET,
        "port": port,
        **settings,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[tunnels.{name}]", *lines, ""])


@pytest.fixture(scope="session")
def http_server():
    """A web server of deterministic files."""
    with HttpServer() as server:
        yield server


@pytest.fixture(scope="session")
def curl():
    """The path of curl."""
    _need("curl")
    return servers.find("curl")


@pytest.fixture(scope="session")
def nc():
    """The path of OpenBSD's netcat: others of this name cannot half-close."""
    name = "nc.openbsd" if servers.find("nc.openbsd") else "nc"
    _need(name)
    help_text = subprocess.run(
        [name, "-h"], capture_output=True, text=True, check=False
    )
    if "OpenBSD" not in help_text.stderr:
        _lack("OpenBSD's netcat")
    return servers.find(name)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    """A running sshd of our own."""
    _need("sshd", "ssh", "scp", "sftp", "ssh-keygen")
    with servers.sshd(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture(scope="module")
def postgresql():
    """A running PostgreSQL of our own."""
    _need("initdb", "postgres", "psql", "pgbench")
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory):
    """The port of a running Redis of our own."""
    _need("redis-server", "redis-cli", "redis-benchmark")
    with servers.redis(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory):
    """A running Redis Cluster of our own, whose masters are told apart by name."""
    _need("redis-server", "redis-cli")
    folder = tmp_path_factory.mktemp("redis-cluster")
    names = (f"node-{number}.cache.example.internal" for number in (1, 2, 3))
    addresses = {name: f"127.0.78.{n}" for n, name in enumerate(names, start=1)}
    with servers.redis_cluster(folder, addresses) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def mariadb():
    """A running MariaDB of our own."""
    _need("mariadbd", "mariadb", "mariadb-install-db")
    with servers.mariadb() as server:
        yield server
