"""psql checks the server's certificate through a tunnel, by the server's own name."""

import json
import subprocess
import sys

import pytest

from tests.interop import servers
from tests.interop.certificates import certify
from tests.interop.conftest import tunnel_table
from tests.interop.names import may_replace_hosts, run_way, with_hosts
from tests.interop.programs import (
    environment,
    run,
)
from tests.support.ports import free_port

NAME = "db.example.internal"
ASK = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
LOCAL = "127.0.77.2"


@pytest.fixture(scope="module")
def ca_file(postgresql, tmp_path_factory):
    """Give the server a certificate of a private CA, and return the CA's own."""
    files = certify(NAME, tmp_path_factory.mktemp("ca"))
    postgresql.use_tls(files)
    return files.ca


@pytest.fixture(scope="module")
def way(postgresql, ca_file, tmp_path_factory):
    """A daemon with one tunnel to the server, by its name."""
    local = free_port()
    settings = {"host": NAME, "listen": f"{LOCAL}:{local}", "db_name": "postgres"}
    settings |= {"db_user": postgresql.user, "db_engine": "postgres"}
    table = tunnel_table("db", local, postgresql.port, **settings)
    with run_way(table, {NAME: "127.0.0.1"}, tmp_path_factory.mktemp("daemon")) as way:
        yield way


@pytest.fixture(scope="module")
def config(way):
    """The daemon's file."""
    return way.file


def variables(config):
    command = [sys.executable, "-m", "ssmtunneld", "env", "db", "--format", "json"]
    return json.loads(run(*command, "-c", config))


def psql(*arguments, before=(), **extra):
    """Ask whether the connection is encrypted, in an environment; what it answers."""
    command = [*before, servers.find("psql"), "-X", "-At", "-c", ASK, *arguments]
    return subprocess.run(
        command,
        env=environment(**extra),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def verified(ca_file, mode="verify-full"):
    return {"PGSSLMODE": mode, "PGSSLROOTCERT": str(ca_file)}


def test_the_environment_lets_psql_verify_the_servers_name(config, ca_file):
    found = variables(config)
    assert (found["PGHOST"], found["PGHOSTADDR"]) == (NAME, LOCAL)
    answer = psql(**found, **verified(ca_file))
    assert answer.stdout == "t\n", answer.stderr


def test_the_url_does_so_too(config, ca_file):
    url = variables(config)["DATABASE_URL"]
    answer = psql(url, **verified(ca_file))
    assert answer.stdout == "t\n", answer.stderr


def test_without_the_real_name_the_certificate_does_not_fit(config, ca_file):
    found = {**variables(config), "PGHOST": LOCAL}
    answer = psql(**found, **verified(ca_file))
    assert answer.returncode != 0
    assert f'does not match host name "{LOCAL}"' in answer.stderr
    answer = psql(**found, **verified(ca_file, "verify-ca"))
    assert answer.stdout == "t\n", answer.stderr


def test_the_hosts_block_lets_psql_use_nothing_but_the_name(way, ca_file):
    if not may_replace_hosts():
        pytest.skip("nobody here may put another file in the place of /etc/hosts")
    found = variables(way.file)
    named = {"PGHOST": NAME, "PGPORT": found["PGPORT"], "PGUSER": found["PGUSER"]}
    before = with_hosts(way.hosts_file())
    answer = psql("postgres", before=before, **named, **verified(ca_file))
    assert answer.stdout == "t\n", answer.stderr
