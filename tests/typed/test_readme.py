"""README.md, typed."""

from ssmtunneld.emulator.settings import Node
from tests.support.ports import free_port
from tests.typed.conftest import DATABASE
from tests.typed.page import plays
from tests.typed.stage import ME, Stage, use_ssh

PAGE = "README.md"
TARGET = "i-0182d91e85d69cf00"


@plays(PAGE)
def test_one_tunnel_and_then_all_of_them(
    script, on_stage, http_server, sshd, postgresql, authority
):
    replaced = {" 8000 ": f" {http_server.port} ", "ubuntu@": f"{ME}@"}
    settings = {
        "nodes": {TARGET: Node(name="bastion")},
        "host_aliases": {DATABASE: "127.0.0.1"},
    }
    with on_stage(replaced, **settings) as (_, stage):
        with stage.running(script.next("ssmtunneld open").text) as opened:
            local = opened.wait_for(r"listening on \S*:(\d+)")[1]
            opened.wait_for(": ready")
            assert stage.is_served(local)
        use_ssh(stage, sshd, TARGET)
        done = stage.run(script.next("ssmtunneld ssh").text, data="echo in\n")
        assert done.stdout == "in\n"

        with stage.terminal(script.next("ssmtunneld init").text) as terminal:
            for question, answer in (
                ("Region\\?", "\r"),
                ("Target\\?", "\r"),
                ("Destinations\\?", f"orders-db={DATABASE}:{postgresql.port}\r"),
                ("Local port of orders-db\\?", f"{free_port()}\r"),
                ("Install it as a service", "n"),
            ):
                terminal.wait_for(question)
                terminal.type(answer)
            assert terminal.close() == 0, terminal.raw
        config = stage.folder / "config.toml"
        assert "#" in config.read_text()
        # That it is PostgreSQL is plain from the port, which is another one here.
        login = 'db_engine = "postgres"\ndb_user = "app"\ndb_name = "orders"'
        bundle = f'db_ca = "{authority.bundle}"\ndb_auth = "iam"'
        config.write_text(f"{config.read_text()}\n{login}\n{bundle}\n")
        with stage.daemon(script.next("ssmtunneld run").text):
            show = "\\! printenv PGSSLMODE PGPASSWORD\n"
            ask = "select ssl from pg_stat_ssl where pid = pg_backend_pid();"
            connect = script.next("ssmtunneld connect orders-db").text
            done = stage.run(connect, data=show + ask)
            mode, token, *answer = done.stdout.split()
            assert mode == "verify-full"
            assert token.startswith(f"{DATABASE}:{postgresql.port}/")
            assert "t" in answer


@plays(PAGE, "Without AWS: the emulator")
def test_without_aws(script, home):
    server, local, emulator = free_port(), free_port(), free_port()
    replaced = {
        "127.0.0.1:9999": f"127.0.0.1:{emulator}",
        " 8000 ": f" {server} ",
        "--listen 18000": f"--listen {local}",
    }
    stage = Stage(home, script.page, replaced, f"http://127.0.0.1:{emulator}")
    for name in [n for n in stage.environ if n.startswith("AWS_")]:
        del stage.environ[name]
    (home / "hello").write_text("hello\n")
    with stage.running(script.next("ssmtunneld emulator").text) as playing:
        playing.wait_for("emulator listening on")
        with stage.running(script.next("python3 -m http.server").text):
            stage.keep(script.next("export AWS_ACCESS_KEY_ID").text)
            stage.keep(script.next("export AWS_ENDPOINT_URL_SSM").text)
            with stage.running(script.next("ssmtunneld open").text) as opened:
                opened.wait_for(": ready")
                fetch = "curl -sf --retry 50 --retry-connrefused --retry-all-errors"
                done = stage.run(f"{fetch} http://127.0.0.1:{local}/hello")
                assert done.stdout == "hello\n"
