"""``connect`` with real clients: the real name, TLS, a token, and the client's end."""

import http.server
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading

import pytest

from tests.interop import conftest, servers
from tests.interop.certificates import certify
from tests.interop.conftest import TARGET, tunnel_table
from tests.interop.programs import (
    Program,
    aws_environment,
    environment,
    run,
)
from tests.support.ports import free_port

NAME = "server.example.internal"
LOCAL = "127.0.77.3"
PROGRAM = (sys.executable, "-m", "ssmtunneld")
PATIENCE = 60


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Of a server that is called ``NAME``."""
    return certify(NAME, tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """The file of an authority that has signed for nobody here."""
    return certify(NAME, tmp_path_factory.mktemp("strangers")).ca


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """An emulator that knows the name, and what a shell has to find it."""
    program = Program(
        *conftest._command("emulator", "--pace", "none"),
        *("--host-alias", f"{NAME}=127.0.0.1"),
        env=environment(),
    )
    home = tmp_path_factory.mktemp("home")
    try:
        endpoint = program.wait_for(r"emulator listening on (http://\S+)")[1]
        yield aws_environment(
            endpoint,
            HOME=str(home),
            XDG_STATE_HOME=str(home / "state"),
            XDG_CONFIG_HOME=os.devnull,
        )
        assert program.stop() == 0, program.log()
    finally:
        program.kill()


@pytest.fixture(scope="module")
def connect(aws, tmp_path_factory):
    """Return a function that runs ``connect`` with a daemon of its own."""
    folder = tmp_path_factory.mktemp("configurations")

    def start(port, *words, data=None, environ=None, **settings):
        file = folder / f"{free_port()}.toml"
        settings = {"listen": f"{LOCAL}:0", "host": NAME, **settings}
        settings = {key: value for key, value in settings.items() if value is not None}
        file.write_text(tunnel_table("only", 0, port, **settings))
        return subprocess.run(
            [*PROGRAM, "connect", "-c", str(file), "only", *map(str, words)],
            env={**aws, **(environ or {})},
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    return start


@pytest.fixture(scope="module")
def postgres(postgresql, certificates):
    """The settings of a tunnel to a PostgreSQL with TLS."""
    postgresql.use_tls(certificates)
    login = {"db_user": postgresql.user, "db_name": "postgres"}
    return {"db_engine": "postgres", "db_ca": str(certificates.ca), **login}


ASK = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"


def test_psql_checks_the_real_name_and_its_code_is_ours(
    connect, postgresql, postgres, strangers
):
    words = ("-v", "--", "-X", "-At", "-c", ASK)
    result = connect(postgresql.port, *words, **postgres)
    assert (result.returncode, result.stdout) == (0, "t\n"), result.stderr
    assert f"PGHOST={NAME} PGHOSTADDR={LOCAL} " in result.stderr
    assert "PGSSLMODE=verify-full" in result.stderr
    words = ("--", "-X", "-v", "ON_ERROR_STOP=1")
    result = connect(postgresql.port, *words, data="select 1/0;", **postgres)
    assert (result.returncode, result.stdout) == (3, "")
    trust = {**postgres, "db_ca": str(strangers)}
    result = connect(postgresql.port, "--", "-X", "-c", ASK, **trust)
    assert result.returncode == 2
    assert "certificate verify failed" in result.stderr


def test_psql_gets_a_token_that_is_in_no_argument(connect, postgresql, postgres):
    show = r"\! printenv PGPASSWORD; tr '\0' '\n' </proc/$PPID/cmdline"
    result = connect(postgresql.port, "--token", "--", "-X", "-c", show, **postgres)
    assert result.returncode == 0, result.stderr
    token, *argv = result.stdout.splitlines()
    start = f"{NAME}:{postgresql.port}/?Action=connect&DBUser=postgres&"
    assert token.startswith(start)
    assert argv[1:] == ["-X", "-c", show]


def test_pg_dump_is_on_libpq_too(connect, postgresql, postgres):
    words = ("--client", "pg_dump", "--", "--schema-only")
    result = connect(postgresql.port, *words, **postgres)
    assert result.returncode == 0, result.stderr
    assert "PostgreSQL database dump complete" in result.stdout


def test_psql_reads_what_is_to_be_pasted(aws, postgresql, postgres, tmp_path):
    file, service = tmp_path / "config.toml", tmp_path / "pg_service.conf"
    local = free_port()
    settings = {"listen": f"{LOCAL}:{local}", "host": NAME, **postgres}
    file.write_text(tunnel_table("only", local, postgresql.port, **settings))
    words = [*PROGRAM, "env", "-c", file, "only", "--format"]
    service.write_text(run(*words, "pgservice", env=aws))
    environ = {**aws, "PGSERVICEFILE": str(service)}
    daemon = Program(*PROGRAM, "run", "--config", file, env=aws)
    try:
        daemon.wait_for(r"daemon\.ready")
        for connection in ("service=only", run(*words, "uri", env=aws).strip()):
            psql = [servers.find("psql"), "-X", "-At", "-c", ASK, connection]
            assert run(*psql, env=environ) == "t\n"
        assert daemon.stop() == 0, daemon.log()
    finally:
        daemon.kill()


@pytest.fixture(scope="module")
def maria_port(certificates):
    """The port of a MariaDB with TLS."""
    conftest._need("mariadbd", "mariadb", "mariadb-install-db")
    with servers.mariadb(certificates) as server:
        yield server.port


CIPHER = ("-NBe", "show status like 'ssl_cipher'")


def test_mariadb_checks_who_has_signed(connect, maria_port, certificates, strangers):
    environ = {"MYSQL_PWD": "secret"}
    settings = {"db_engine": "mysql", "db_user": "app", "environ": environ}
    trust = {"db_ca": str(certificates.ca)}
    result = connect(maria_port, "--", *CIPHER, **settings, **trust)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Ssl_cipher\tTLS_")
    trust = {"db_ca": str(strangers)}
    result = connect(maria_port, "--", *CIPHER, **settings, **trust)
    assert (result.returncode, result.stdout) == (1, "")
    assert "certificate" in result.stderr


def test_redis_cli_checks_who_has_signed(
    connect, certificates, strangers, tmp_path_factory
):
    conftest._need("redis-server", "redis-cli")
    with servers.redis(tmp_path_factory.mktemp("redis"), certificates) as port:
        settings = {"db_engine": "redis", "db_name": "3"}
        trust = {"db_ca": str(certificates.ca)}
        result = connect(port, "--", "client", "list", **settings, **trust)
        assert result.returncode == 0, result.stderr
        assert " db=3 " in result.stdout
        trust = {"db_ca": str(strangers)}
        result = connect(port, "--", "ping", **settings, **trust)
        assert result.returncode == 1
        assert "certificate verify failed" in result.stderr


def test_ssh_knows_the_target_by_its_name(connect, sshd, tmp_path):
    known = tmp_path / "known"
    host_key = (sshd.folder / "host_key.pub").read_text()
    known.write_text(f"[{TARGET}]:{sshd.port} {host_key}")
    words = ["-F", "none", *sshd.key_options(known), "echo in; exit 7"]
    settings = {"probe": "banner:SSH-", "host": None}
    result = connect(sshd.port, "--", *words, **settings)
    assert (result.returncode, result.stdout) == (7, "in\n")
    # A slow machine is told what is waited for; ssh has nothing to say.
    assert re.fullmatch("(ssmtunneld: waiting .*\n)*", result.stderr), result.stderr


class _Cluster(http.server.BaseHTTPRequestHandler):
    """As much of a cluster as ``kubectl version`` asks for."""

    def do_GET(self):
        body = json.dumps(
            {"major": "1", "minor": "32", "gitVersion": "v1.32.7-emulated"}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def cluster(certificates):
    """The port of a cluster whose certificate has only the real name."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Cluster)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.own, certificates.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_kubectl_checks_the_clusters_name(connect, cluster, certificates, tmp_path):
    conftest._need("kubectl")
    entry = {"server": f"https://{NAME}:{cluster}"}
    entry["certificate-authority"] = str(certificates.ca)
    context = {"cluster": "prod", "user": "me"}
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "prod", "cluster": entry}],
        "contexts": [{"name": "prod", "context": context}],
        "users": [{"name": "me", "user": {"token": "t"}}],
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(configuration))
    words = ("--client", "kubectl", "-v")
    result = connect(cluster, *words, environ={"KUBECONFIG": str(file)})
    assert result.returncode == 0, result.stderr
    assert "v1.32.7-emulated" in result.stdout
    assert f"--context=prod --tls-server-name={NAME} version" in result.stderr


class _Page(_Cluster):
    def do_GET(self):
        body = f"<p>this is {self.headers['Host']}{self.path}</p>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def page():
    """The port of a page that tells by which name it was asked for."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_chromium_asks_by_the_real_name(connect, page):
    if servers.find("chromium") is None:
        pytest.skip("not installed: chromium")
    settings = {"probe": "http:/"}
    words = ("--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "/x")
    result = connect(page, "--", *words, **settings)
    assert result.returncode == 0, result.stderr
    assert f"this is {NAME}:{page}/x" in result.stdout


def test_what_a_browser_shows_needs_the_tunnel_after_it(aws, page, tmp_path):
    opener = tmp_path / "bin" / "xdg-open"
    opener.parent.mkdir()
    opener.write_text('#!/bin/sh\necho "shown: $1"\n')
    opener.chmod(0o700)
    file = tmp_path / "config.toml"
    file.write_text(tunnel_table("only", 0, page, probe="http:/"))
    program = Program(
        *(*PROGRAM, "connect", "-c", file, "only", "--", "/login"),
        env={**aws, "PATH": f"{opener.parent}:{aws['PATH']}"},
    )
    try:
        url = program.wait_for(r"shown: (http://127\.0\.0\.1:\d+/login)\n")[1]
        program.wait_for("the tunnel is open until Ctrl-C")
        assert f"{page}/login" not in url
        assert "this is" in run(servers.find("curl"), "-sf", url, env=environment())
        assert program.stop(signal.SIGINT) == 0, program.log()
    finally:
        program.kill()
