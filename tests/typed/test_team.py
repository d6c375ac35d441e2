"""docs/tasks/team.md, typed."""

import tomllib

from ssmtunneld.emulator.settings import Node
from tests.support.ports import free_port
from tests.typed.conftest import DATABASE
from tests.typed.page import plays

PAGE = "docs/tasks/team.md"
ALIASES = {DATABASE: "127.0.0.1", "search.internal.example.com": "127.0.0.1"}


@plays(PAGE)
def test_a_file_in_a_repository_is_good_for_everybody(script, on_stage, http_server):
    local, search = free_port(), free_port()
    replaced = {
        "listen = 5432": f"listen = {local}",
        "listen = 9200": f"listen = {search}",
        "port = 5432": f"port = {http_server.port}",
        "port = 9200": f"port = {http_server.port}",
    }
    nodes = {"i-0182d91e85d69cf00": Node(tags={"Role": "bastion"})}
    with on_stage(replaced, nodes=nodes, host_aliases=ALIASES) as (_, stage):
        stage.profiles("prod")
        stage.write(script.block(), "tunnels.toml")
        checked = stage.run(script.words("ssmtunneld check -c tunnels.toml"))
        for name in ("orders-db", "search"):
            assert name in checked.stdout
        with stage.daemon("ssmtunneld run -c tunnels.toml"):
            assert stage.is_served(local)
            assert stage.is_served(search)
            listed = stage.run(script.words("ssmtunneld sessions --all-owners"))
            assert "orders-db" in listed.stdout


@plays(PAGE, "Files of several teams")
def test_files_of_teams_stand_next_to_your_own(script, on_stage, http_server):
    local, own = free_port(), free_port()
    replaced = {
        "listen = 5432": f"listen = {local}",
        "listen = 2222": f"listen = {own}",
        "port = 5432": f"port = {http_server.port}",
        "port = 22": f"port = {http_server.port}",
    }
    nodes = {
        "i-0182d91e85d69cf00": Node(tags={"Role": "orders-bastion"}),
        "i-0123456789abcdef0": Node(name="my-box"),
    }
    with on_stage(replaced, nodes=nodes, host_aliases=ALIASES) as (_, stage):
        stage.profiles("orders-prod")
        theirs = stage.write(
            script.block(), "~/.config/ssmtunneld/teams/orders/tunnels.toml"
        )
        mine = stage.write(script.block(number=1))
        assert tomllib.loads(mine.read_text())["include"] == ["teams/*/tunnels.toml"]
        checked = stage.run(script.next("ssmtunneld check").text)
        for name in ("orders-db", "orders-old", "scratch"):
            assert name in checked.stdout
        assert str(theirs.relative_to(stage.folder)) in checked.stdout

        with stage.daemon(script.next("ssmtunneld run --group orders").text):
            assert set(stage.status()) == {"orders-db", "orders-old"}
            assert stage.is_served(local)

        fetch = f'curl -sf "http://$$SSMTUNNELD_ORDERS_DB_HOST:{local}/1000/1" | wc -c'
        makefile = stage.home / "Makefile"
        makefile.write_text(f"integration-tests:\n\t@{fetch}\n")
        done = stage.run(script.next("ssmtunneld exec --group orders").text)
        assert done.stdout.strip() == "1000"

        with stage.daemon():
            assert stage.is_served(own)
            stage.run(script.next("ssmtunneld pause --group orders").text)
            states = {name: each["state"] for name, each in stage.status().items()}
            assert states == {
                "orders-db": "paused",
                "orders-old": "disabled",
                "scratch": "ready",
            }
            assert stage.is_served(own)
