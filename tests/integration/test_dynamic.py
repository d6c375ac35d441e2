"""Tunnels whose clients name the destination: a daemon, an emulator, and real curl."""

import asyncio
import shutil
import subprocess
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.base.sentences import with_advice
from ssmtunneld.observe.status import TunnelState
from tests.integration.world import (
    PATIENCE,
    TARGET,
    ask,
    configuration,
    connection,
    destination,
    echo,
    echoes,
    emulator,
    port_of,
    running,
    tunnel,
)
from tests.support.turns import until

NAMES = dict.fromkeys(("one.corp.test", "two.corp.test", "outside.test"), "127.0.0.1")
SUCCESS = b"\x05\x00\x00\x01" + bytes(6)


@asynccontextmanager
async def dynamic(mode="socks5", faults=(), **settings):
    """Run a daemon with one dynamic tunnel; yields the emulator, daemon and port."""
    settings = {"destinations": ["*.corp.test:*"], "mode": mode, **settings}
    async with emulator(host_aliases=NAMES, faults=faults) as service:
        text = configuration(service.endpoint_url, tunnel("web", **settings))
        async with running(text) as daemon:
            yield service, daemon, port_of(daemon, "web")


def status_of(daemon):
    """Return the status of the only tunnel."""
    return daemon.snapshot().tunnels[0]


def request(host, port):
    """Return what a SOCKS 5 client says, all at once."""
    name = host.encode()
    address = bytes([3, len(name)]) + name
    return b"\x05\x01\x00\x05\x01\x00" + address + port.to_bytes(2)


async def answer_to(port, said):
    """Return all that a proxy answers to ``said`` until it ends the connection."""
    async with connection(port) as (reader, writer), asyncio.timeout(PATIENCE):
        writer.write(said)
        return await reader.read()


@asynccontextmanager
async def connected(port, host, its_port):
    """Connect through a SOCKS 5 proxy."""
    async with connection(port) as (reader, writer), asyncio.timeout(PATIENCE):
        writer.write(request(host, its_port))
        assert await reader.readexactly(2) == b"\x05\x00"
        assert await reader.readexactly(10) == SUCCESS
        yield reader, writer


async def website(reader, writer):
    """Answer one HTTP request with the name that it was sent to."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    host = next(h for h in head.split("\r\n") if h.lower().startswith("host:"))
    body = f"this is {host[5:].strip().partition(':')[0]}"
    fields = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(f"HTTP/1.1 200 OK\r\n{fields}{body}".encode())
    writer.close()


async def curl(*arguments):
    """Run curl; return its exit code and output."""
    program = shutil.which("curl") or pytest.skip("not installed: curl")
    process = await asyncio.create_subprocess_exec(
        program,
        *("--silent", "--show-error", "--noproxy", "", "--max-time", "60"),
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_curl_reaches_names_that_only_the_target_knows_through_socks5():
    async with destination(website) as site, dynamic() as (service, daemon, port):
        for name in ("one", "two"):
            code, output = await curl(
                *("--socks5-hostname", f"127.0.0.1:{port}"),
                f"http://{name}.corp.test:{site}/",
            )
            assert (code, output) == (0, f"this is {name}.corp.test")
        hosts = {s.request.properties["host"] for s in service.sessions}
        assert hosts == {"one.corp.test", "two.corp.test"}
        status = status_of(daemon)
        assert status.mode == "socks5"
        assert status.state is TunnelState.READY
        assert [(d.name, d.accepted, d.sessions > 0) for d in status.destinations] == [
            (f"one.corp.test:{site}", 1, True),
            (f"two.corp.test:{site}", 1, True),
        ]


async def test_curl_reaches_a_site_through_http_connect():
    async with (
        destination(website) as site,
        dynamic("http-connect") as (_, _, port),
    ):
        code, output = await curl(
            *("--proxytunnel", "--proxy", f"http://127.0.0.1:{port}"),
            f"http://one.corp.test:{site}/",
        )
        assert (code, output) == (0, "this is one.corp.test")


async def test_a_destination_outside_of_the_patterns_is_refused(events):
    async with destination(website) as site, dynamic() as (service, daemon, port):
        answer = await answer_to(port, request("outside.test", site))
        assert answer == b"\x05\x00\x05\x02" + SUCCESS[2:]
        code, output = await curl(
            *("--socks5-hostname", f"127.0.0.1:{port}"), f"http://outside.test:{site}/"
        )
        assert code == 97, output  # CURLE_PROXY
        line = await events.wait_for("connection.refused", tunnel="web")
        assert f"outside.test:{site} is not one of" in line["reason"]
        assert line["destination"] == f"outside.test:{site}"
        assert not list(service.sessions)
        await until(lambda: status_of(daemon).failures == {"forbidden": 2})
        status = status_of(daemon)
        assert status.destinations == ()
        assert status.state is TunnelState.IDLE


async def test_http_connect_refuses_what_is_outside_and_what_is_not_connect(events):
    async with dynamic("http-connect") as (service, daemon, port):
        for said, status in (
            (b"CONNECT outside.test:1 HTTP/1.1\r\n\r\n", 403),
            (b"GET http://one.corp.test/ HTTP/1.1\r\nHost: one.corp.test\r\n\r\n", 405),
            (b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(50000), 405),
            (b"\x05\x01\x00\r\n", 400),
        ):
            answer = await answer_to(port, said)
            assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert not list(service.sessions)
        expected = {"forbidden": 1, "handshake": 3}
        await until(lambda: status_of(daemon).failures == expected)
        (line,) = events.find("connection.refused")  # the others are left out
        assert "outside.test:1" in line["reason"]


async def test_what_is_sent_before_the_answer_reaches_the_destination():
    async with (
        destination() as target,
        dynamic("http-connect") as (_, _, port),
        connection(port) as (reader, writer),
        asyncio.timeout(PATIENCE),
    ):
        head = f"CONNECT one.corp.test:{target} HTTP/1.1\r\n\r\n".encode()
        writer.write(head + b"early")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(5) == b"early"
        assert await ask(reader, writer, b"late") == b"late"


async def test_the_target_itself_is_reached_with_the_plain_document():
    async with (
        destination() as target,
        dynamic(destinations=["127.0.0.0/8:*", "localhost:*"]) as (service, _, port),
    ):
        for host in ("localhost", "127.0.0.1"):
            async with connected(port, host, target) as (reader, writer):
                assert await ask(reader, writer, b"hello") == b"hello"
        found = {(s.request.document, *s.request.properties) for s in service.sessions}
        assert {document for document, *_ in found} == {
            "AWS-StartPortForwardingSession"
        }
        assert not any("host" in properties for _, *properties in found)


async def test_a_destination_that_refuses_is_a_reset_after_success():
    async with destination() as target:
        pass  # nobody listens there any more
    async with dynamic() as (_, daemon, port):
        async with connected(port, "one.corp.test", target) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        await until(lambda: status_of(daemon).failures == {"refused": 1})


async def test_when_all_destinations_are_in_use_another_one_is_refused():
    async with (
        destination() as target,
        dynamic(max_destinations=1) as (service, daemon, port),
    ):
        async with connected(port, "one.corp.test", target) as (reader, writer):
            answer = await answer_to(port, request("two.corp.test", target))
            assert answer == b"\x05\x00\x05\x01" + SUCCESS[2:]
            await until(lambda: status_of(daemon).failures == {"crowded": 1})
            assert await ask(reader, writer, b"still here") == b"still here"
        await until(lambda: not status_of(daemon).connections)
        # The one without connections makes room.
        async with connected(port, "two.corp.test", target) as (reader, writer):
            assert await ask(reader, writer, b"hello") == b"hello"
            names = [d.name for d in status_of(daemon).destinations]
            assert names == [f"two.corp.test:{target}"]
        await until(lambda: [s.over for s in service.sessions].count(True) >= 1)


async def test_the_least_recently_used_destination_leaves_first():
    async with (
        destination() as target,
        dynamic(max_destinations=2, destinations=["*.corp.test:*", "127.0.0.1:*"]) as (
            _,
            daemon,
            port,
        ),
    ):
        for host in ("one.corp.test", "two.corp.test", "one.corp.test", "127.0.0.1"):
            async with connected(port, host, target) as (reader, writer):
                assert await ask(reader, writer, b"hello") == b"hello"
            await until(lambda: not status_of(daemon).connections)
        names = [d.name for d in status_of(daemon).destinations]
        assert names == [f"one.corp.test:{target}", f"127.0.0.1:{target}"]


async def test_a_destination_leaves_when_it_has_been_idle(events):
    async with (
        destination() as target,
        dynamic(idle_close="200ms") as (service, daemon, port),
    ):
        async with connected(port, "one.corp.test", target) as (reader, writer):
            assert await ask(reader, writer, b"hello") == b"hello"
        await events.wait_for("destination.left", destination=f"one.corp.test:{target}")
        await until(lambda: all(s.over for s in service.sessions))
        assert status_of(daemon).destinations == ()
        assert status_of(daemon).state is TunnelState.IDLE
        # And comes back when it is wanted again.
        async with connected(port, "one.corp.test", target) as (reader, writer):
            assert await ask(reader, writer, b"again") == b"again"


async def test_patterns_change_while_the_daemon_runs(tmp_path):
    source = tmp_path / "config.toml"
    async with emulator(host_aliases=NAMES) as service, destination() as target:

        def write(**settings):
            listen = settings.pop("listen")
            settings = {"mode": "socks5", "listen": listen, **settings}
            text = configuration(service.endpoint_url, tunnel("web", **settings))
            source.write_text(text)
            return text

        text = write(listen="127.0.0.1:0", destinations=["one.corp.test:*"])
        async with running(text, source=source) as daemon:
            port = port_of(daemon, "web")
            async with connected(port, "one.corp.test", target) as (reader, writer):
                write(listen="127.0.0.1:0", destinations=["two.corp.test:*"])
                assert (await daemon.reload())["changed"] == ["web"]
                port = port_of(daemon, "web")
                answer = await answer_to(port, request("one.corp.test", target))
                assert answer[3] == 2
                assert await ask(reader, writer, b"goes on") == b"goes on"
                async with connected(port, "two.corp.test", target) as (two, its):
                    # Other sessions, then: those of before end with their connections.
                    write(
                        listen="127.0.0.1:0",
                        destinations=["two.corp.test:*"],
                        ping_interval="7s",
                    )
                    await daemon.reload()
                    assert await ask(two, its, b"goes on") == b"goes on"
                    async with connected(port, "two.corp.test", target) as (new, to_it):
                        assert await ask(new, to_it, b"new") == b"new"
            write(
                listen="127.0.0.1:0",
                mode="http-connect",
                destinations=["two.corp.test:*"],
            )
            await daemon.reload()
            answer = await answer_to(port_of(daemon, "web"), b"GET / HTTP/1.1\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 405 ")


async def test_a_tunnel_may_become_dynamic_and_plain_again(tmp_path, events):
    source = tmp_path / "config.toml"
    async with emulator(host_aliases=NAMES) as service, destination(echo) as target:

        def text(**settings):
            return configuration(service.endpoint_url, tunnel("web", **settings))

        plain = text(port=target)
        dynamic = text(mode="socks5", destinations=["*.corp.test:*"])
        async with running(plain, source=source) as daemon:
            async with connection(port_of(daemon, "web")) as (reader, writer):
                assert await ask(reader, writer, b"plain") == b"plain"
                source.write_text(dynamic)
                assert (await daemon.reload())["changed"] == ["web"]
                # The connection of before has `drain_timeout` to end.
                assert await ask(reader, writer, b"goes on") == b"goes on"
                port = port_of(daemon, "web")
                async with connected(port, "one.corp.test", target) as (new, to_it):
                    assert await ask(new, to_it, b"dynamic") == b"dynamic"
            await events.wait_for("tunnel.removed", tunnel="web")
            source.write_text(plain)
            await daemon.reload()
            assert await echoes(port_of(daemon, "web"))


async def test_a_dynamic_tunnel_is_paused_drained_and_resumed():
    async with destination() as target, dynamic() as (service, daemon, port):
        async with connected(port, "one.corp.test", target) as (reader, writer):
            assert await ask(reader, writer, b"hello") == b"hello"
            draining = asyncio.TaskGroup()
            async with draining as tasks, asyncio.timeout(PATIENCE):
                drained = tasks.create_task(daemon.drain("web"))
                await until(lambda: status_of(daemon).state is TunnelState.PAUSED)
                assert await ask(reader, writer, b"goes on") == b"goes on"
                writer.close()
            assert drained.result() == {"cut": 0}
        assert all(session.over for session in service.sessions)
        await daemon.resume("web")
        async with connected(port_of(daemon, "web"), "one.corp.test", target) as (
            reader,
            writer,
        ):
            assert await ask(reader, writer, b"again") == b"again"


async def test_a_client_that_leaves_before_it_has_asked_is_no_failure():
    async with dynamic() as (service, daemon, port):
        async with connection(port) as (_, writer):
            writer.write(b"\x05\x01")
            writer.write_eof()
            await until(lambda: status_of(daemon).endings == {"local_reset": 1})
        assert status_of(daemon).refused == 0
        assert not list(service.sessions)


async def test_a_session_that_cannot_be_had_is_told_with_its_reason():
    offline = f"offline={TARGET}"
    async with dynamic(faults=(offline,), connect_timeout="500ms") as (_, daemon, port):
        answer = await answer_to(port, request("one.corp.test", 1))
        assert answer == b"\x05\x00\x05\x04" + SUCCESS[2:]
        await until(lambda: status_of(daemon).failures == {"no_session": 1})
        # AWS may take longer to say so than the client waits.
        await until(lambda: status_of(daemon).reason)
        status = status_of(daemon)
        (found,) = status.destinations
        assert found.name == "one.corp.test:1"
        assert found.reason == with_advice(status.reason, status.advice)
