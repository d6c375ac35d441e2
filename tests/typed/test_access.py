"""docs/tasks/access.md, typed."""

import json
import re
import socket

import pytest

from tests.integration.test_node_access_commands import ASKING
from tests.support.ports import free_port
from tests.typed.conftest import DATABASE
from tests.typed.page import looks_like, plays
from tests.typed.stage import Stage, read_to_the_end

PAGE = "docs/tasks/access.md"
TARGET = "i-0182d91e85d69cf00"


@plays(PAGE)
def test_a_person_asks_and_waits(script, on_stage, http_server):
    local = free_port()
    replaced = {"listen = 5432": f"listen = {local}"}
    replaced["port = 5432"] = f"port = {http_server.port}"
    settings = {"approval": "manual", "policies": {"": ASKING}}
    aliases = {DATABASE: "127.0.0.1"}
    with on_stage(replaced, host_aliases=aliases, **settings) as (emulator, stage):
        stage.write(f'{script.block()}\n[daemon]\ndrain_timeout = "100ms"\n')
        with stage.daemon():
            assert stage.status()["orders-db"]["state"] == "needs_access"
            command = script.next("ssmtunneld request orders-db --reason")
            with stage.running(command.text) as asking:
                asking.wait_for("access request oi-")
                state = stage.status()["orders-db"]["state"]
                assert state == "awaiting_approval"
                (request,) = emulator.access_requests()
                assert request["reason"] == "INC-4711: slow queries"
                emulator.approve()
                assert asking.wait_for_end() == 0
            # It may have seen the tunnel start, in between.
            said = re.sub(r"ssmtunneld: .*\(starting\)\n", "", asking.log())
            assert looks_like(said, command.shown), asking.log()
            assert stage.status()["orders-db"]["state"] == "ready"
            assert stage.is_served(local)
            with socket.create_connection(("127.0.0.1", local)) as connection:
                connection.sendall(b"GET /1/1 HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(4) == b"HTTP"
                drain = script.words("ssmtunneld drain orders-db")
                done = stage.run(drain, code=1)
                assert "1 connection had to be reset" in done.stdout
                with pytest.raises(ConnectionResetError):
                    read_to_the_end(connection)
            assert stage.status()["orders-db"]["state"] == "paused"
        assert {s["properties"]["host"] for s in emulator.sessions()} == {DATABASE}


@plays(PAGE, "Without a file")
def test_open_asks_without_a_file(script, on_stage, http_server):
    replaced = {" 5432 ": f" {http_server.port} "}
    with on_stage(replaced, policies={"": ASKING}) as (emulator, stage):
        with stage.running(script.next("ssmtunneld open").text) as opened:
            local = opened.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1]
            opened.wait_for(r": ready")
            assert stage.is_served(local)
        stage.program(
            "migrate",
            'curl -sf "http://$SSMTUNNELD_HOST:$SSMTUNNELD_PORT/1000/1" | wc -c',
            folder=stage.home,
        )
        done = stage.run(script.next("ssmtunneld open").text)
        assert done.stdout.strip() == "1000"
        reasons = [request["reason"] for request in emulator.access_requests()]
        assert reasons == ["INC-4711", "INC-4711"]
        assert {s["status"] for s in emulator.sessions()} == {"Terminated"}


@plays(PAGE, "Trying it")
def test_the_emulator_approves_by_the_clock_or_as_it_is_told(
    script, home, http_server, tmp_path
):
    port = free_port()
    replaced = {"127.0.0.1:4566": f"127.0.0.1:{port}", "--approval 20": "--approval 1"}
    url = f"http://127.0.0.1:{port}"
    stage = Stage(home, script.page, replaced, url)
    asking = f"ssmtunneld open {TARGET} {http_server.port} --request --reason x -- true"
    emulator = script.next("ssmtunneld emulator").text
    with stage.running(emulator) as program:
        program.wait_for(f"emulator listening on {url}")
        stage.run(asking)  # has waited for an approval
    emulators = {
        word: emulator.replace("--approval 20", f"--approval {word}")
        for word in ("manual", "reject")
    }
    with stage.running(emulators["manual"]) as program:
        program.wait_for(f"emulator listening on {url}")
        decide = script.words(
            "curl -X POST http://127.0.0.1:4566/_emulator/access/oi-0123456789ab/approve"
        )
        with stage.running(asking) as asked:
            request = asked.wait_for(r"access request (oi-\w+)")[1]
            decide = decide.replace("oi-0123456789ab", request)
            answer = json.loads(stage.run(decide).stdout)
            assert (answer["id"], answer["status"]) == (request, "Approved")
            assert asked.wait_for_end() == 0
        for decision in ("reject", "revoke", "expire"):
            assert f"`{decision}`" in script.page.text
            answer = json.loads(stage.run(decide.replace("approve", decision)).stdout)
            assert re.match(decision, answer["status"].lower())
    with stage.running(emulators["reject"]) as program:
        program.wait_for(f"emulator listening on {url}")
        assert "was rejected" in stage.run(asking, code=4).stderr
