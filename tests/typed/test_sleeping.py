"""docs/tasks/sleeping.md, typed."""

import json

from ssmtunneld.emulator.settings import Node
from tests.support.keepers import wait_for_keepers
from tests.support.ports import free_port
from tests.typed.conftest import DATABASE
from tests.typed.page import plays
from tests.typed.stage import ME, Stage, use_ssh

PAGE = "docs/tasks/sleeping.md"
BASTION = "i-0123456789abcdef0"
ASLEEP = {
    "nodes": {BASTION: Node(name="bastion")},
    "stopped": frozenset({BASTION}),
    "boot_time": 0.2,
    "host_aliases": {DATABASE: "127.0.0.1"},
}


def ours(emulator):
    """Return the tags by which somebody says that it is needed."""
    tags = emulator.instance(BASTION)["tags"]
    return {k: v for k, v in tags.items() if k.startswith("ssmtunneld:")}


@plays(PAGE)
def test_a_connection_starts_the_bastion(script, on_stage, postgresql):
    local = free_port()
    replaced = {
        "listen = 5432": f"listen = {local}",
        "port=5432": f"port={local}",
        "port = 5432": f"port = {postgresql.port}",
    }
    with on_stage(replaced, **ASLEEP) as (emulator, stage):
        stage.environ["PGUSER"] = "app"  # instead of the name of whoever runs the tests
        stage.write(script.block())
        with stage.daemon():
            stage.await_state("orders-db", "asleep")
            # It says whether both are allowed, and does neither.
            done = stage.run(script.words("ssmtunneld doctor orders-db"), code=None)
            assert "start" in done.stdout
            assert emulator.instance(BASTION)["starts"] == 0
            done = stage.run(script.next("psql ").text, data="select 6 * 7;")
            assert "42" in done.stdout
            bastion = emulator.instance(BASTION)
            assert (bastion["state"], bastion["starts"]) == ("running", 1)
            (mark,) = ours(emulator).values()
            for key in ("by=", "claim=", "was=", "launch=", "until="):
                assert f" {key}" in f" {mark}"
        # The end of a daemon is the end of what only it needs; its tag stays.
        assert emulator.instance(BASTION)["stops"] == 1
        (mark,) = ours(emulator).values()
        assert " stopping=" in mark
        assert " until=" not in mark


@plays(PAGE, "States")
def test_a_person_starts_it_and_ssh_does_without_a_daemon(script, on_stage, sshd):
    local = free_port()
    replaced = {
        "listen = 5432": f"listen = {local}",
        '"30m"': '"1s"',  # for which the test would have to wait
        "ec2-user": ME,
    }
    # Long enough to be seen in every state that the page shows.
    settings = {**ASLEEP, "boot_time": 3.0}
    with on_stage(replaced, **settings) as (emulator, stage):
        stage.write(script.page.block(""))
        with stage.daemon():
            stage.run(script.next("ssmtunneld wait").text)
            state = stage.status()["orders-db"]["bastion"]
            assert (state["phase"], state["started_by_us"]) == ("awake", True)
            for key in ("phase", "instance", "state", "starts", "stops"):
                assert key in state
                assert f"`{key}`" in script.page.text
        assert emulator.instance(BASTION)["stops"] == 1
        emulator.advance(settings["boot_time"])
        assert emulator.instance(BASTION)["state"] == "stopped"

        use_ssh(stage, sshd, "name-bastion")
        command = script.next("ssmtunneld ssh")
        try:
            done = stage.run(command.text, data="echo in\n")
        finally:
            wait_for_keepers(stage.home)  # AWS's side must be there until they end
        assert done.stdout == "in\n"
        said = [line for line in done.stderr.splitlines() if "ssmtunneld:" in line]
        assert said == command.shown.splitlines(), done.stderr
        assert emulator.instance(BASTION)["stops"] == 2
        assert not ours(emulator)


@plays(PAGE, "Trying it")
def test_the_emulator_has_an_instance_that_is_stopped(script, home):
    port, local = free_port(), free_port()
    replaced = {
        "127.0.0.1:4566": f"127.0.0.1:{port}",
        "--boot-time 30s": "--boot-time 1s",
        "listen = 5432": f"listen = {local}",
        '"name:bastion"': f'"{BASTION}"',
    }
    url = f"http://127.0.0.1:{port}"
    stage = Stage(home, script.page, replaced, url)
    stage.write(script.page.block(""))
    with stage.running(script.next("ssmtunneld emulator").text) as program:
        program.wait_for(f"emulator listening on {url}")
        with stage.daemon():
            stage.await_state("orders-db", "asleep")
            stage.run("ssmtunneld wait orders-db")
            state = json.loads(stage.run(f"curl -sf {url}/_emulator/state").stdout)
            assert state["instances"][BASTION]["state"] == "running"
