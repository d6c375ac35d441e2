"""psql checks the server's certificate through a tunnel, by the server's own name."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.interop import conftest, servers
from tests.interop.certificates import certify
from tests.interop.programs import Program, aws_environment, environment, free_port, run

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
def config(postgresql, ca_file, tmp_path_factory):
    """Run an emulator that knows the name, and a daemon; return the daemon's file."""
    aws = Program(
        *conftest._command("emulator", "--pace", "none"),
        *("--host-alias", f"{NAME}=127.0.0.1"),
        env=environment(),
    )
    file = tmp_path_factory.mktemp("daemon") / "config.toml"
    daemon = None
    try:
        endpoint = aws.wait_for(r"emulator listening on (http://\S+)")[1]
        local = free_port()
        settings = {"host": NAME, "listen": f"{LOCAL}:{local}", "db_name": "postgres"}
        settings |= {"db_user": postgresql.user, "db_engine": "postgres"}
        file.write_text(conftest.tunnel_table("db", local, postgresql.port, **settings))
        daemon = Program(
            *conftest._command("run", "--config", file),
            env=aws_environment(endpoint),
        )
        daemon.wait_for(r"daemon\.ready")
        yield file
        assert daemon.stop() == 0, daemon.log()
        assert aws.stop() == 0, aws.log()
    finally:
        for program in (daemon, aws):
            if program is not None:
                program.kill()


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


def can_mount():
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"],
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


def test_the_hosts_block_lets_psql_use_nothing_but_the_name(config, ca_file, tmp_path):
    if not can_mount():
        pytest.skip("nobody here may put another file in the place of /etc/hosts")
    file = tmp_path / "hosts"
    file.write_text("127.0.0.1\tlocalhost\n")
    command = [sys.executable, "-m", "ssmtunneld", "hosts", "--write"]
    run(*command, "--file", file, "-c", config)
    # In a mount namespace of its own, so that nobody else sees this file.
    script = 'mount --bind "$1" /etc/hosts; shift; exec "$@"'
    before = ["unshare", "--mount", "sh", "-ec", script, "sh", file]
    found = variables(config)
    named = {"PGHOST": NAME, "PGPORT": found["PGPORT"], "PGUSER": found["PGUSER"]}
    answer = psql("postgres", before=before, **named, **verified(ca_file))
    assert answer.stdout == "t\n", answer.stderr
