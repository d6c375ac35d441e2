"""Probes of a real MariaDB, which locks out who hangs up on it too often."""

import asyncio
import json
import socket
import subprocess
import sys

import pytest

from ssmtunneld.config.probes import parse_probe
from ssmtunneld.observe.probe_protocols import converse
from tests.interop import conftest
from tests.interop.programs import environment
from tests.support.ports import free_port

PROBES = 300
LIMIT = 100  # max_connect_errors, unless somebody sets it

COUNTED = """
    select coalesce(sum(sum_connect_errors), 0) from performance_schema.host_cache
"""


class SocketDuplex:
    """A connection to a local port, as far as a probe uses it."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer

    async def receive(self):
        return await self._reader.read(65536)

    async def send(self, data):
        self._writer.write(data)
        await self._writer.drain()

    async def send_eof(self):
        self._writer.write_eof()

    def abort(self):
        self._writer.transport.abort()

    async def aclose(self):
        self._writer.close()


async def probe(port, text="mysql"):
    duplex = SocketDuplex(*await asyncio.open_connection("127.0.0.1", port))
    try:
        async with asyncio.timeout(30):
            return await converse(parse_probe(text), duplex, "localhost")
    finally:
        duplex.abort()


async def probe_often(port):
    return [await probe(port) for _ in range(PROBES)]


def hang_up(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.recv(1024)


@pytest.fixture(scope="module")
def running(daemon, mariadb):
    """Start a daemon with one tunnel; return it and its local port."""
    local = free_port()
    settings = {"probe": "mysql", "probe_interval": "1s", "db_engine": "mysql"}
    table = conftest.tunnel_table("db", local, mariadb.port, **settings)
    return daemon(table), local


def status_of(program):
    """Return the status of its tunnel; ``status`` ends with 1 if it is not usable."""
    asked = subprocess.run(
        [
            *(sys.executable, "-m", "ssmtunneld", "status", "--json"),
            *("--config", program.argv[-1]),
        ],
        env=environment(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return json.loads(asked.stdout)["tunnels"][0]


def test_three_hundred_probes_do_not_lock_the_target_out(running, mariadb):
    _, local = running
    assert PROBES > LIMIT == int(mariadb.admin("select @@max_connect_errors"))
    faults = asyncio.run(probe_often(local))
    assert faults == [None] * PROBES
    assert int(mariadb.admin(COUNTED)) == 0
    answer = mariadb.login(local)
    assert answer.stdout == "42\n", answer.stderr


def test_a_user_with_another_way_to_log_in_changes_nothing(running, mariadb):
    _, local = running
    mariadb.admin("install soname 'auth_ed25519'")
    for number in range(30):  # an unknown user is asked as one of these would be
        mariadb.admin(
            f"create user e{number}@'%' identified via ed25519 using password('x')"
        )
    faults = asyncio.run(probe_often(local))
    assert faults == [None] * PROBES
    assert int(mariadb.admin(COUNTED)) == 0


def test_a_banner_probe_of_a_port_that_nobody_knew_does_no_harm(running, mariadb):
    _, local = running
    fault = asyncio.run(probe(local, "banner:SSH-"))
    assert fault.reason == "it is MySQL or MariaDB"
    assert 'probe = "mysql"' in fault.advice
    assert int(mariadb.admin(COUNTED)) == 0


def test_a_target_that_is_locked_out_is_unhealthy_and_says_1129(running, mariadb):
    program, local = running
    for _ in range(LIMIT + 1):
        hang_up(mariadb.port)
    program.wait_for(r"probe\.failed.*1129")
    found = status_of(program)
    assert found["state"] == "unhealthy"
    assert "(1129)" in found["probe"]["reason"]
    assert "FLUSH HOSTS" in found["probe"]["advice"]
    assert "mysqladmin flush-hosts" in found["probe"]["advice"]
    assert mariadb.login(local).returncode != 0
    mariadb.admin("flush hosts")
    program.wait_for(r"probe\.recovered")
    assert status_of(program)["state"] == "ready"
    assert mariadb.login(local).stdout == "42\n"
