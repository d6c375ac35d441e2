"""The status of a running daemon: the document, the control socket, the command."""

import asyncio
import http.client
import json
import socket
import stat
from pathlib import Path

import pytest

from ssmtunneld.cli.main import main
from ssmtunneld.daemon.instance_lock import control_socket, instance_name
from ssmtunneld.emulator.settings import DEFAULT_AGENT_VERSION
from ssmtunneld.observe import logs
from tests.integration.world import (
    configuration,
    destination,
    emulator,
    running,
    tunnel,
)
from tests.support.turns import look_again

OFFLINE = "i-0aaaaaaaaaaaaaaaa"


def ask(path, method="GET", url="/status", body=None):
    """Send one request to the control socket; return status and text."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    try:
        connection.request(method, url, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


async def command(capsys, *arguments):
    """Run the command line in a thread; return exit code, output and errors."""

    def run():
        with pytest.raises(SystemExit) as caught:
            main(["status", *arguments])
        return caught.value.code

    code = await asyncio.to_thread(run)
    return code, *capsys.readouterr()


async def states(daemon, **wanted):
    """Wait until the tunnels are in these states; return the document by name."""
    async with asyncio.timeout(30):
        while True:
            found = {m["name"]: m for m in daemon.status()["tunnels"]}
            seen = {name: found.get(name, {}).get("state") for name in wanted}
            if seen == wanted:
                return found
            await look_again()


async def test_each_tunnel_says_how_it_is_why_and_what_to_do():
    async with destination() as port, emulator(faults=(f"offline={OFFLINE}",)) as aws:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            text = configuration(
                aws.endpoint_url,
                tunnel("good", port=port),
                tunnel("lazy", port=port, warm=0),
                tunnel("dead", port=port, target=OFFLINE),
                tunnel("cut", port=port, ssmmessages_endpoint="127.0.0.1:9"),
                tunnel("wrong", document="Nobody-Wrote-This", port=port),
                tunnel("taken", port=port, listen=taken.getsockname()[1]),
            )
            async with running(text, ready=False) as daemon:
                found = await states(
                    daemon,
                    good="ready",
                    lazy="idle",
                    dead="waiting",
                    wrong="failed",
                    taken="unbound",
                )
    good, dead = found["good"], found["dead"]
    assert (good["reason"], good["advice"], len(good["sessions"])) == ("", "", 1)
    assert good["destination"] == f"localhost:{port}"
    session = good["sessions"][0]
    assert (session["phase"], session["mode"], session["agent"]) == (
        "ready",
        "mux",
        DEFAULT_AGENT_VERSION,
    )
    assert OFFLINE in dead["reason"]
    assert "agent is online" in dead["advice"]
    assert found["cut"]["state"] in {"starting", "retrying"}
    assert "Nobody-Wrote-This" in found["wrong"]["reason"]


async def test_an_endpoint_that_cannot_be_reached_is_named_with_what_to_check():
    async with emulator() as aws:
        text = configuration(
            aws.endpoint_url, tunnel("cut", port=1, ssmmessages_endpoint="127.0.0.1:9")
        )
        async with running(text, ready=False) as daemon:
            found = await states(daemon, cut="retrying")
    assert "cannot reach 127.0.0.1:9" in found["cut"]["reason"]
    assert "ssmmessages endpoint" in found["cut"]["advice"]


async def test_bytes_and_connections_are_counted(events):
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=port))
        async with running(text) as daemon:
            local = daemon.status()["tunnels"][0]["listen"][0].rpartition(":")[2]
            reader, writer = await asyncio.open_connection("127.0.0.1", int(local))
            writer.write(b"12345")
            assert await reader.readexactly(5) == b"12345"
            shown = daemon.status()["tunnels"][0]
            writer.close()
            await writer.wait_closed()
    wanted = {"connections": 1, "accepted": 1, "sent": 5, "received": 5, "waiting": 0}
    assert wanted.items() <= shown.items()


async def test_the_control_socket_is_only_for_its_user_and_goes_with_the_daemon(events):
    name = instance_name(Path("test.toml"))
    path = control_socket(name)
    path.parent.mkdir(parents=True)
    path.touch()  # left behind by a daemon that was killed
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=port))
        async with running(text, instance=name):
            await events.wait_for("control.bound")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            code, body = await asyncio.to_thread(ask, path)
            assert (code, json.loads(body)["version"]) == (200, 1)
    assert not path.exists()


async def test_the_log_level_can_be_changed_meanwhile(events):
    name = instance_name(Path("test.toml"))
    path = control_socket(name)
    path.parent.mkdir(parents=True)
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=port))
        async with running(text, instance=name):
            await events.wait_for("control.bound")

            def change(document):
                body = json.dumps(document)
                return ask(path, "PUT", "/log-level", body)

            try:
                answer = await asyncio.to_thread(change, {"level": "debug"})
                assert answer == (200, '{"level": "debug"}')
                for wrong in ({"level": "loud"}, {}, ["debug"]):
                    code, words = await asyncio.to_thread(change, wrong)
                    assert code == 400
                    assert "log level" in json.loads(words)["error"]
            finally:
                logs.set_level("info")


async def test_a_socket_that_cannot_be_made_costs_only_the_status(events):
    name = instance_name(Path("test.toml"))
    path = control_socket(name)
    path.mkdir(parents=True)
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=port))
        async with running(text, instance=name):
            line = await events.wait_for("control.failed")
    assert line["level"] == "warning"


async def test_the_command_shows_a_line_for_each_tunnel(events, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    name = instance_name(Path("test.toml"))
    control_socket(name).parent.mkdir(parents=True)
    async with destination() as port, emulator(faults=(f"offline={OFFLINE}",)) as aws:
        text = configuration(
            aws.endpoint_url,
            tunnel("good", port=port),
            tunnel("dead", port=port, target=OFFLINE, required=False),
        )
        async with running(text, instance=name) as daemon:
            await events.wait_for("control.bound")
            await states(daemon, good="ready", dead="waiting")
            code, out, err = await command(capsys)
            assert (code, err) == (0, "")
            head, _, good, dead, why, cure = out.splitlines()
            assert "1 of 2 tunnels usable" in head
            assert good.split()[:2] == ["good", "ready"]
            assert dead.split()[:2] == ["dead", "waiting"]
            assert "TargetNotConnected" in why
            assert cure.strip().startswith("-> check that")
            code, out, _ = await command(capsys, "--json", "--config", "test.toml")
            assert (code, json.loads(out)["version"]) == (0, 1)


async def test_without_a_daemon_the_command_says_so_and_exits_with_3(capsys):
    path = control_socket("0" * 12)
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    code, out, err = await command(capsys)
    assert (code, out) == (3, "")
    assert "no daemon runs" in err
    assert (await command(capsys, "--config", "another.toml"))[0] == 3


async def test_of_several_daemons_one_must_be_named(events, capsys):
    first, second = (control_socket(name * 12) for name in "ab")
    first.parent.mkdir(parents=True)
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=port))
        async with running(text, instance="a" * 12), running(text, instance="b" * 12):
            await events.wait_for("control.bound", path=str(first))
            await events.wait_for("control.bound", path=str(second))
            code, _, err = await command(capsys)
    assert code == 2
    assert "several daemons run" in err
