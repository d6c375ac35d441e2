"""docs/guide.md, typed."""

import contextlib
import json
import os
import re
import socket

import pytest

from ssmtunneld.emulator.settings import Node
from tests.integration.terminal import Screen
from tests.interop.conftest import _need
from tests.interop.names import may_replace_hosts, with_hosts
from tests.support.ports import free_port
from tests.support.tui import need_textual
from tests.typed.conftest import DATABASE
from tests.typed.page import plays
from tests.typed.stage import ME, program_of, read_to_the_end, use_ssh

PAGE = "docs/guide.md"
TARGET = "i-0182d91e85d69cf00"
BEHIND = {
    "nodes": {TARGET: Node(tags={"Role": "bastion"})},
    "host_aliases": {DATABASE: "127.0.0.1"},
}


@pytest.fixture
def first(script, on_stage):
    """Return a context manager for the page's first file, to a server of ours."""

    @contextlib.contextmanager
    def enter(port, **replaced):
        local, own = free_port(), free_port()
        replaced = {
            "listen = 2222": f"listen = {own}",
            "port = 22": f"port = {port}",
            "127.0.0.1:5432": f"127.0.0.1:{local}",
            "port = 5432": f"port = {port}",
            **replaced,
        }
        with on_stage(replaced, **BEHIND) as (emulator, stage):
            stage.profiles("prod")
            stage.write(script.page.block("A file, and a daemon"))
            stage.local, stage.emulator = local, emulator
            yield stage

    return enter


@plays(PAGE, "A file, and a daemon")
def test_a_file_and_a_daemon(script, first, http_server):
    with first(http_server.port, **{" 8080 ": f" {free_port()} "}) as stage:
        done = stage.run(script.next("ssmtunneld check").text)
        for name in ("bastion-ssh", "orders-db"):
            assert name in done.stdout
        with stage.daemon(script.next("ssmtunneld run").text):
            assert stage.is_served(stage.local)
            done = stage.run(script.next("ssmtunneld status").text)
            assert re.search(r"(?m)^orders-db +ready", done.stdout)
            before = (stage.folder / "config.toml").read_text()
            stage.run(script.next("ssmtunneld add web 8080").text)
            after = (stage.folder / "config.toml").read_text()
            assert after.startswith(before)
            stage.await_state("web", "ready")


@plays(PAGE, "ssh to an instance id")
def test_ssh_and_scp_to_an_instance(script, on_stage, sshd, home):
    replaced = {
        # Not into the real home of whoever runs the tests.
        f"ubuntu@{TARGET}:": f"{ME}@{TARGET}:{home}/there",
        "ubuntu@": f"{ME}@",
    }
    with on_stage(replaced) as (_, stage):
        use_ssh(stage, sshd, TARGET)
        stage.run("ssmtunneld ssh-config --write")
        assert "ssmtunneld ssh-config --write" in script.page.text
        done = stage.run(script.next("ssh ").text, data="echo in\n")
        assert done.stdout == "in\n"
        (stage.home / "build.tar.gz").write_text("built")
        (stage.home / "there").mkdir()
        stage.run(script.next("scp ").text)
        assert (stage.home / "there" / "build.tar.gz").read_text() == "built"


@plays(PAGE, "Query and control")
def test_query_and_control(script, first, http_server):
    need_textual()
    with first(http_server.port) as stage, contextlib.ExitStack() as stack:
        stack.enter_context(stage.daemon())
        place = ("127.0.0.1", stage.local)
        client = stack.enter_context(socket.create_connection(place))
        client.sendall(b"GET /1/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4) == b"HTTP"

        for command in ("ssmtunneld status --watch", "ssmtunneld top"):
            with stage.terminal(script.next(command).text, Screen) as shown:
                shown.see(r"orders-db +ready")
                shown.type("\x03")
                shown.close()
        done = stage.run(script.next("ssmtunneld connections").text)
        assert "1 open connection\n" in done.stdout
        found = re.search(r"(?m)^(\S+) +orders-db +(\S+) +(\S+)", done.stdout)
        assert found[2] == ME
        assert re.fullmatch(program_of(os.getpid()), found[3])
        with stage.running(script.next("ssmtunneld logs orders-db -f").text) as logs:
            logs.wait_for("session.ready")
            assert "ssmtunneld kill ID" in script.page.text
            stage.run(f"ssmtunneld kill {found[1]}")
            logs.wait_for("connection.killed")
        with pytest.raises(ConnectionResetError):
            read_to_the_end(client)

        stage.program("migrate", "echo migrated", folder=stage.home)
        done = stage.run(script.next("ssmtunneld wait orders-db && ./migrate").text)
        assert done.stdout == "migrated\n"

        own = f"listen = {free_port()}\nport = {http_server.port}"
        stage.write(f'[tunnels.test]\ntarget = "{TARGET}"\n{own}\n', name="ci.toml")
        fetch = 'curl -sf "http://localhost:$$SSMTUNNELD_TEST_PORT/1000/1" | wc -c'
        (stage.home / "Makefile").write_text(f"test:\n\t@{fetch}\n")
        done = stage.run(script.next("ssmtunneld exec -c ci.toml -- make test").text)
        assert done.stdout.strip() == "1000"

        config = stage.folder / "config.toml"
        text = config.read_text()
        command = script.next("ssmtunneld reload").text
        config.write_text(text + "max_sesions = 3\n")
        done = stage.run(command, code=2)
        assert "did you mean max_sessions?" in done.stderr
        config.write_text(text.replace("max_sessions = 8", "max_sessions = 7"))
        assert "changed: orders-db" in stage.run(command).stdout

        stage.run(script.next("ssmtunneld drain orders-db").text)
        assert stage.status()["orders-db"]["state"] == "paused"
        stage.run("ssmtunneld resume orders-db")
        assert stage.is_served(stage.local)

        command = script.next("source ").text
        done = stage.run(f"{command}\ncomplete -p ssmtunneld", shell="bash")
        assert "ssmtunneld" in done.stdout


@plays(PAGE, "Databases: real names, and no passwords")
def test_databases(script, first, postgresql, authority):
    with first(postgresql.port) as stage:
        stage.environ["PGSSLROOTCERT"] = str(authority.bundle)
        config = stage.folder / "config.toml"
        config.write_text(
            f'{config.read_text()}db_user = "app"\ndb_name = "orders"\n'
            'db_engine = "postgres"\n'
        )
        ask = "select ssl from pg_stat_ssl where pid = pg_backend_pid();"
        with stage.daemon():
            command = script.next("ssmtunneld connect orders-db").text
            assert stage.run(command, data=ask).stdout.split()[2] == "t"
            stage.keep(script.next("eval ").text)
            done = stage.run(script.next("PGSSLMODE=").text, data=ask)
            assert done.stdout.split()[2] == "t"
            show = "\\! printenv PGPASSWORD"
            done = stage.run(script.next("PGPASSWORD=").text, data=show)
            assert done.stdout.startswith(f"{DATABASE}:")
        # On 127.0.0.1 a name would lead to all services of this machine.
        if not may_replace_hosts():
            pytest.skip("nobody here may put another file in the place of /etc/hosts")
        config.write_text(config.read_text().replace("127.0.0.1:", "127.0.1.2:"))
        hosts = stage.home / "hosts"
        hosts.write_text("127.0.0.1\tlocalhost\n")
        command = script.next("ssmtunneld hosts --write").text
        stage.run(command, before=with_hosts(hosts))
        assert f"127.0.1.2\t{DATABASE}" in hosts.read_text()


@plays(PAGE, "A browser, or anything that speaks SOCKS")
def test_a_client_of_socks_names_the_destination(script, on_stage, http_server):
    _need("curl")
    socks = free_port()
    name = "wiki.internal.example.com"
    replaced = {
        "localhost:1080": f"localhost:{socks}",
        "example.com:443": f"example.com:{http_server.port}",
        # A server without TLS, on its own port.
        f"https://{name}": f"http://{name}:{http_server.port}/1000/1",
    }
    settings = {"host_aliases": {name: "127.0.0.1"}}
    with on_stage(replaced, **settings) as (emulator, stage):
        del stage.environ["NO_PROXY"]
        target = f'[defaults]\ntarget = "{TARGET}"\n'
        stage.write(target + script.block())
        with stage.daemon():
            stage.run(
                script.words(f"curl --socks5-hostname localhost:1080 https://{name}")
                + " -o fetched"
            )
        assert (stage.home / "fetched").stat().st_size == 1000
        (found,) = {s["properties"]["host"] for s in emulator.sessions()}
        assert found == name


@plays(PAGE, "Health, metrics and a status page")
def test_the_status_page(script, on_stage, http_server):
    local, web = free_port(), free_port()
    replaced = {"127.0.0.1:9300": f"127.0.0.1:{web}"}
    replaced["localhost:9300"] = f"localhost:{web}"
    with on_stage(replaced) as (_, stage):
        own = f'target = "{TARGET}"\nlisten = {local}\nport = {http_server.port}\n'
        stage.write(f"{script.block()}\n[tunnels.web]\n{own}")
        with stage.daemon():
            url = script.words("http://localhost:9300/")
            assert "<html" in stage.run(f"curl -sf {url}").stdout
            for path in ("readyz", "livez", "startupz", "metrics"):
                assert f"`/{path}`" in script.page.text
                stage.run(f"curl -sf {url}{path}")
            found = stage.run(f"curl -sf {url}status.json", code=None).stdout
            assert not found or json.loads(found)
