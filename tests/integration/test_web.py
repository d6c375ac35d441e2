"""A real daemon's HTTP listener: health, metrics and the document, as it lives."""

import asyncio
import json
import signal
from contextlib import asynccontextmanager

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.observe.status_schema import status_schema
from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import await_line, await_port, launch, running
from tests.integration.world import (
    TARGET,
    configuration,
    connection,
    destination,
    echoes,
    tunnel,
)
from tests.serve.test_status_page import ask
from tests.support.promtool import check_metrics

JSON = ("--log-format", "json")
OFFLINE = "i-0aaaaaaaaaaaaaaaa"
PATIENCE = 90.0
CHANGED = '[tunnels.db]\nping_interval = "19s"'


@pytest.fixture
def service():
    """An emulator on a loop of its own."""
    with EmulatorThread() as emulator:
        yield emulator


@asynccontextmanager
async def serving(service, path, *tunnels, **settings):
    """Run a daemon process; yield it and where its HTTP listener is."""
    text = configuration(
        service.endpoint_url, *tunnels, **{"http_listen": "127.0.0.1:0", **settings}
    )
    with running(path / "config.toml", text, *JSON, **service.environment) as program:
        line = await asyncio.to_thread(await_line, program, "http.bound")
        yield program, line["address"]


async def until(bound, path, wanted):
    """Ask until ``wanted`` is true of the status and the body of an answer."""
    found = None
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                status, _, body = await ask(bound, path)
                found = status, body
                if wanted(status, body):
                    return body
    except TimeoutError:
        raise AssertionError(f"{path} never was so, but {found}") from None


async def scrape(bound):
    """Return every sample by name and labels."""
    _, _, body = await ask(bound, "/metrics")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


async def scrape_until(bound, name, value):
    """Scrape until a sample has a value: others may have asked within the second."""
    async with asyncio.timeout(PATIENCE):
        while of(found := await scrape(bound), name) != value:
            pass
    return found


def of(samples, name, **labels):
    labels = {"tunnel": "db", **labels}
    return samples[(f"ssmtunneld_{name}", *sorted(labels.items()))]


async def test_readiness_follows_a_tunnel_down_and_up(service, tmp_path):
    async with (
        destination() as port,
        serving(service, tmp_path, tunnel("db", port=port)) as (_, bound),
    ):
        await until(bound, "/readyz", lambda status, _: status == 200)
        # Its agent goes away, and with it the session.
        service.set_faults(f"offline={TARGET}")
        for session in service.sessions():
            service.close_session(session["id"])
        down = await until(bound, "/readyz", lambda status, _: status == 503)
        assert "[-]db failed: " in down
        body = await until(bound, "/readyz", lambda _, b: "TargetNotConnected" in b)
        assert body.endswith("readyz check failed\n")
        # The daemon itself is well, and listens.
        assert (await ask(bound, "/livez"))[0] == 200
        assert (await ask(bound, "/startupz"))[0] == 200
        service.clear_faults()
        await until(bound, "/readyz", lambda status, _: status == 200)
        assert of(await scrape(bound), "tunnel_up") == 1


async def test_a_lost_websocket_does_not_make_readiness_flap(service, tmp_path):
    async with (
        destination() as port,
        serving(service, tmp_path, tunnel("db", port=port)) as (program, bound),
    ):
        await until(bound, "/readyz", lambda status, _: status == 200)
        resumed = asyncio.Event()
        answers = set()

        async def watch():
            while not resumed.is_set():
                answers.add((await ask(bound, "/readyz"))[0])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch())
            service.cut_websockets()
            await asyncio.to_thread(await_line, program, "session.resumed")
            resumed.set()
        assert answers == {200}
        assert of(await scrape(bound), "reconnects_total", kind="resume") == 1


async def test_a_draining_daemon_is_not_ready_and_lives(service, tmp_path):
    async with (
        destination() as port,
        serving(service, tmp_path, tunnel("db", port=port), drain_timeout="60s") as (
            program,
            bound,
        ),
        connection(await_port(program, "db")) as (reader, writer),
    ):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        program.process.send_signal(signal.SIGTERM)
        body = await until(bound, "/readyz", lambda status, _: status == 503)
        assert "draining" in body
        assert (await ask(bound, "/livez"))[0] == 200
        writer.transport.abort()
        assert await asyncio.to_thread(program.process.wait, PATIENCE) == 0


async def test_metrics_are_fine_with_promtool_and_counters_only_grow(service, tmp_path):
    service.set_faults(f"offline={OFFLINE}")
    async with destination() as port:
        tunnels = (
            tunnel("db", port=port, max_sessions=1),
            tunnel("dead", port=port, target=OFFLINE),
        )
        async with serving(service, tmp_path, *tunnels) as (program, bound):
            local = await asyncio.to_thread(await_port, program, "db")
            await until(bound, "/readyz/db", lambda status, _: status == 200)
            assert await echoes(local, b"12345")
            before = await scrape(bound)
            assert of(before, "transmit_bytes_total") == 5
            assert of(before, "receive_bytes_total") == 5
            assert of(before, "sessions_started_total") == 1
            assert of(before, "session_start_seconds_count") == 1
            assert of(before, "stream_open_seconds_count") == 1
            assert of(before, "tunnel_state", state="ready") == 1
            assert of(before, "tunnel_up", tunnel="dead") == 0
            failures = "session_start_failures_total"
            assert of(before, failures, tunnel="dead", reason="target") >= 1
            # Another session takes the place of this one; counters stay.
            (live,) = [s for s in service.sessions() if s["status"] == "Connected"]
            service.close_session(live["id"], "for a test")
            await asyncio.to_thread(await_line, program, "session.ready", count=2)
            # And so do they when the file changes what sessions are made of.
            path = tmp_path / "config.toml"
            changed = path.read_text().replace("[tunnels.db]", CHANGED)
            path.write_text(changed)
            program.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(await_line, program, "session.ready", count=3)
            after = await scrape_until(bound, "sessions_started_total", 3)
            _, _, text = await ask(bound, "/metrics")
    assert of(after, "reconnects_total", kind="restart") == 1
    assert of(after, "sessions_ended_total", reason="closed") == 1
    counters = [n for n in before if n[0].endswith(("_total", "_count", "_bucket"))]
    shrunk = {n: (before[n], after[n]) for n in counters if after[n] < before[n]}
    assert shrunk == {}
    check_metrics(text)


async def test_a_tunnel_that_idled_out_is_ready_before_anybody_connects(tmp_path):
    settings = EmulatorSettings(pace=Pace.NONE, idle_timeout=6.0)
    with EmulatorThread(settings) as service:
        async with destination() as port:
            table = tunnel("db", port=port, keep_alive=False)
            async with serving(service, tmp_path, table) as (program, bound):
                local = await asyncio.to_thread(await_port, program, "db")
                await until(bound, "/readyz", lambda status, _: status == 200)
                # A quiet connection is open while its session idles out.
                async with connection(("127.0.0.1", local)) as (reader, writer):
                    writer.write(b"a word")
                    assert await reader.readexactly(6) == b"a word"
                    await asyncio.to_thread(await_line, program, "session.idled_out")
                    status, _, _ = await ask(bound, "/readyz")
                    assert status == 200
                    _, _, body = await ask(bound, "/status.json")
                    (found,) = json.loads(body)["tunnels"]
                    assert (found["state"], found["usable"]) == ("idle", True)
                    command = launch(
                        *("wait", "db", "-c", tmp_path / "config.toml"),
                        *("--timeout", "5s"),
                        **service.environment,
                    )
                    try:
                        ended = await asyncio.to_thread(command.process.wait, PATIENCE)
                        assert ended == 0, command.log()
                    finally:
                        command.kill()
                assert await echoes(("127.0.0.1", local))


async def test_status_keeps_its_schema(service, tmp_path):
    service.set_faults(f"offline={OFFLINE}")
    async with destination() as port:
        tunnels = (
            tunnel("db", port=port),
            tunnel("lazy", port=port, warm=0),
            tunnel("dead", port=port, target=OFFLINE),
        )
        async with serving(service, tmp_path, *tunnels) as (program, bound):
            await until(bound, "/readyz/db", lambda status, _: status == 200)
            await until(bound, "/readyz/dead", lambda _, body: "waiting" in body)
            await asyncio.to_thread(await_line, program, "control.bound")
            command = launch("status", "--json", **service.environment)
            assert await asyncio.to_thread(command.process.wait, PATIENCE) == 0
            document = json.loads(command.log())
            command.kill()
            _, _, body = await ask(bound, "/status.json")
    schema = status_schema()
    check = Draft202012Validator(schema).validate
    check(document)
    check(json.loads(body))
    states = {m["name"]: m["state"] for m in document["tunnels"]}
    assert states == {"db": "ready", "lazy": "idle", "dead": "waiting"}
    # Nothing that the schema does not describe.
    assert document.keys() == schema["properties"].keys()
    described = schema["$defs"]["TunnelStatus"]["properties"].keys()
    assert all(m.keys() == described for m in document["tunnels"])
    assert {e["event"] for e in json.loads(body)["events"]} >= {
        "daemon.started",
        "session.ready",
        "session.ended",
    }


async def test_a_taken_address_costs_only_the_listener(service, tmp_path):
    async with destination() as port:
        text = configuration(
            service.endpoint_url,
            tunnel("db", port=port),
            http_listen=f"127.0.0.1:{port}",
        )
        path = tmp_path / "config.toml"
        with running(path, text, *JSON, **service.environment) as program:
            line = await asyncio.to_thread(await_line, program, "http.failed")
            local = await asyncio.to_thread(await_port, program, "db")
            assert await echoes(local)
    assert str(port) in line["reason"]
    assert line["level"] == "warning"


async def test_a_reload_moves_the_listener(service, tmp_path):
    async with (
        destination() as port,
        serving(service, tmp_path, tunnel("db", port=port)) as (program, bound),
    ):
        path = tmp_path / "config.toml"
        path.write_text(path.read_text().replace("127.0.0.1:0", "[::1]:0", 1))
        program.process.send_signal(signal.SIGHUP)
        line = await asyncio.to_thread(await_line, program, "http.bound", count=2)
        assert (await ask(line["address"], "/livez"))[0] == 200
        with pytest.raises(ConnectionRefusedError):
            await ask(bound, "/livez")
