"""A probe through a whole tunnel, against real servers and broken ones."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from ssmtunneld.config import parse_config
from tests.integration.world import (
    PATIENCE,
    configuration,
    destination,
    echoes,
    emulator,
    port_of,
    running,
    tunnel,
)
from tests.interop import servers
from tests.interop.http_server import HttpServer
from tests.support.turns import look_again


def need(*programs):
    """Skip a test whose programs are not installed; fail in CI."""
    missing = [program for program in programs if servers.find(program) is None]
    if missing and os.environ.get("SSMTUNNELD_REQUIRE_INTEROP"):
        pytest.fail(f"not installed: {missing}")
    if missing:
        pytest.skip(f"not installed: {missing}")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    need("sshd", "ssh-keygen")
    with servers.sshd(tmp_path_factory.mktemp("ssh")) as server:
        yield server.port


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    need("redis-server")
    with servers.redis(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture(scope="module")
def postgres():
    need("initdb", "postgres")
    with servers.postgresql() as server:
        yield server.port


@pytest.fixture(scope="module")
def http():
    with HttpServer() as server:
        yield server.port


@pytest.fixture
def nothing():
    """A port that refuses, and that nobody else takes meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextlib.asynccontextmanager
async def probing(port, probe, *, ready=True, **settings):
    """Run a daemon that probes; yield it."""
    settings = {"probe_interval": "1s", **settings}
    async with emulator() as aws:
        text = configuration(
            aws.endpoint_url, tunnel("db", port=port, probe=probe, **settings)
        )
        async with running(text, ready=ready) as daemon:
            yield daemon


def status_of(daemon):
    return daemon.status()["tunnels"][0]


async def status_until(daemon, fact):
    """Return the first status of the only tunnel for which ``fact`` holds."""
    async with asyncio.timeout(PATIENCE):
        while not fact(status := status_of(daemon)):
            await look_again()
    return status


@pytest.mark.parametrize(
    ("server", "probe"),
    [
        ("sshd", "banner:SSH-2.0-"),
        ("sshd", "tcp"),
        ("postgres", "postgres"),
        ("postgres", "tcp"),
        ("redis", "redis"),
        ("redis", "tcp"),
        ("http", "http:/17/1"),
        ("http", "tcp"),
    ],
)
async def test_a_living_server_passes(server, probe, request, events):
    async with probing(request.getfixturevalue(server), probe) as daemon:
        status = status_of(daemon)
        assert (status["state"], status["usable"], status["reason"]) == (
            "ready",
            True,
            "",
        )
        found = status["probe"]
        assert (found["ok"], found["kind"]) == (True, probe.partition(":")[0])
        assert status["connections"] == status["accepted"] == 0
        assert status["sessions"][0]["streams"] == 0
    assert events.find("probe.failed") == []


@pytest.mark.parametrize(
    ("server", "probe", "words"),
    [
        ("redis", "banner:SSH-", "no answer within 300ms"),
        ("sshd", "banner:220 ", "its first bytes are not '220 '"),
        ("sshd", "postgres", "does not speak PostgreSQL's protocol"),
        ("sshd", "redis", "does not speak Redis's protocol"),
        ("sshd", "http:/", "does not speak HTTP"),
        ("http", "redis", "does not speak Redis's protocol"),
        ("nothing", "tcp", "could not connect"),
        ("nothing", "redis", "could not connect"),
        ("nothing", "http:/", "could not connect"),
    ],
)
async def test_another_server_or_none_fails_with_the_reason(
    server, probe, words, request, events
):
    port = request.getfixturevalue(server)
    settings = {"probe_timeout": "300ms"} if "no answer" in words else {}
    words = words.replace("300ms", "0.3 s")
    async with probing(port, probe, ready=False, **settings) as daemon:
        line = await events.wait_for("probe.failed", tunnel="db")
        assert words in line["reason"]
        status = await status_until(daemon, lambda s: s["probe"]["failures"] >= 2)
        assert (status["state"], status["usable"]) == ("unhealthy", False)
        assert words in status["reason"]
        assert status["advice"] == line["advice"] != ""
        assert not daemon.ready.is_set()
    assert len(events.find("probe.failed")) == 1


async def test_readiness_follows_the_destination(events):
    answers = [b"-LOADING Redis is loading the dataset in memory\r\n"]

    async def serve(reader, writer):
        await reader.read(100)
        writer.write(answers[-1])
        writer.close()

    async with (
        destination(serve) as port,
        probing(port, "redis", ready=False) as daemon,
    ):
        await events.wait_for("probe.failed")
        assert not daemon.ready.is_set()
        answers.append(b"+PONG\r\n")
        await asyncio.wait_for(daemon.ready.wait(), PATIENCE)
        line = await events.wait_for("probe.recovered")
        assert line["failures"] >= 1
        status = await status_until(daemon, lambda s: s["usable"])
        assert (status["reason"], status["advice"]) == ("", "")
        answers.append(b"-LOADING\r\n")
        status = await status_until(daemon, lambda s: not s["usable"])
        assert "loading its data" in status["reason"]


async def test_connections_are_taken_whatever_the_probe_says(events):
    async with (
        destination() as port,
        probing(port, "banner:SSH-", ready=False, probe_timeout="100ms") as daemon,
    ):
        await events.wait_for("probe.failed")
        assert await echoes(port_of(daemon, "db"))
        assert status_of(daemon)["accepted"] == 1


async def test_a_tunnel_without_sessions_is_not_probed_and_is_usable(events):
    async with (
        destination() as port,
        probing(port, "banner:SSH-", warm=0, probe_timeout="100ms") as daemon,
    ):
        status = status_of(daemon)
        assert (status["state"], status["usable"]) == ("idle", True)
        assert (status["probe"]["ok"], status["probe"]["pending"]) == (None, False)
        # Now there is a session, and so there is a verdict.
        assert await echoes(port_of(daemon, "db"))
        await events.wait_for("probe.failed")
        assert not status_of(daemon)["usable"]


async def test_a_reload_switches_a_probe_on_changes_it_and_switches_it_off(events):
    async with destination() as port, emulator() as aws:

        def config(**settings):
            table = tunnel("db", port=port, **settings)
            return configuration(aws.endpoint_url, table)

        async with running(config()) as daemon:

            async def apply(**settings):
                text = config(**settings)
                await daemon._apply(parse_config(text, Path("test.toml"), {}))

            assert status_of(daemon)["probe"] is None
            await apply(probe="http:/")  # which an echo does not speak
            await events.wait_for("probe.failed")
            status = await status_until(daemon, lambda s: not s["usable"])
            assert status["state"] == "unhealthy"
            await apply(probe="tcp")
            await events.wait_for("probe.recovered")
            status = await status_until(daemon, lambda s: s["usable"])
            assert (status["state"], status["probe"]["kind"]) == ("ready", "tcp")
            await apply()
            assert status_of(daemon)["probe"] is None


async def test_another_destination_is_asked_anew(events):
    async with destination() as port, emulator() as aws:

        def config(number):
            table = tunnel("db", port=number, probe="tcp", probe_interval="1h")
            return configuration(aws.endpoint_url, table)

        async with running(config(port)) as daemon:
            assert status_of(daemon)["probe"]["ok"]
            text = config(servers.free_port())
            await daemon._apply(parse_config(text, Path("test.toml"), {}))
            await events.wait_for("probe.failed")
            assert not status_of(daemon)["usable"]
