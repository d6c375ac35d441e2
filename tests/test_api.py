"""A tunnel for the life of a ``with`` block: where it is, how it fails, what stays."""

import asyncio
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import ssmtunneld
from ssmtunneld import api
from ssmtunneld.api import LocalTunnel, open_tunnel
from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import (
    AccessDenied,
    AddressInUse,
    NoSessionReady,
    RequestRejected,
    ServiceUnavailable,
    TargetNotConnected,
    TargetNotFound,
    TunnelError,
)
from tests.aws.stub import GRANT, Stub
from tests.integration import world
from tests.integration.world import (
    TARGET,
    ask,
    connection,
    destination,
    echoes,
    emulator,
    has_ipv6,
    statuses,
)


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
async def events():
    async with world.logging() as caught:
        yield caught


async def test_a_tunnel_is_where_it_says_until_the_block_ends(events):
    tasks = asyncio.all_tasks()
    async with destination() as port, emulator() as service:
        async with ssmtunneld.open_tunnel(
            TARGET, port, endpoint_url=service.endpoint_url, region="eu-west-1"
        ) as tunnel:
            assert tunnel.address == f"127.0.0.1:{tunnel.port}"
            assert await echoes((tunnel.host, tunnel.port), b"x" * 100_000)
            assert "Connected" in statuses(service)
        assert set(statuses(service)) == {"Terminated"}
        with pytest.raises(ConnectionRefusedError):
            await echoes(tunnel.port)
    assert asyncio.all_tasks() == tasks


async def test_a_tunnel_can_be_a_unix_socket(events, tmp_path):
    path = tmp_path / "db.sock"
    async with destination() as port, emulator() as service:
        async with open_tunnel(
            TARGET, port, listen=f"unix:{path}", endpoint_url=service.endpoint_url
        ) as tunnel:
            assert tunnel == LocalTunnel("", 0, str(path))
            assert tunnel.address == f"unix:{path}"
            assert await echoes(path)
        assert not path.exists()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_a_tunnel_can_listen_on_ipv6(events):
    async with (
        destination() as port,
        emulator() as service,
        open_tunnel(
            TARGET, port, listen="[::1]:0", endpoint_url=service.endpoint_url
        ) as tunnel,
    ):
        assert tunnel.host == "::1"
        assert tunnel.address == f"[::1]:{tunnel.port}"
        assert await echoes(("::1", tunnel.port))


async def test_document_parameters_and_host_reach_the_service(events):
    content = {
        "sessionType": "Port",
        "parameters": {"where": {"type": "String"}, "host": {"type": "String"}},
        "properties": {
            "type": "LocalPortForwarding",
            "portNumber": "{{ where }}",
            "host": "{{ host }}",
        },
    }
    settings = {"documents": {"Ours": content}, "host_aliases": {"db.int": "127.0.0.1"}}
    async with destination() as port, emulator(**settings) as service:
        for where in (str(port), [str(port)]):
            async with open_tunnel(
                TARGET,
                document="Ours",
                parameters={"where": where, "host": "db.int"},
                endpoint_url=service.endpoint_url,
            ) as tunnel:
                assert await echoes(tunnel.port)
        assert {s.request.properties["host"] for s in service.sessions} == {"db.int"}


async def test_what_the_block_raises_comes_out_as_it_was_raised(events):
    async with emulator() as service:
        error = KeyError("the script's own")
        with pytest.raises(KeyError) as caught:
            async with open_tunnel(TARGET, 1, endpoint_url=service.endpoint_url):
                raise error
        assert caught.value is error
        assert statuses(service) == ["Terminated"]


async def test_what_can_never_work_is_told_at_once(events):
    async with emulator(faults=("start-error=InvalidDocument",)) as service:
        with pytest.raises(RequestRejected):
            async with open_tunnel(
                TARGET, 1, endpoint_url=service.endpoint_url, ready_timeout=3600
            ):
                pytest.fail("a tunnel without a session")
        assert len(events.find("session.ended")) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "advice"),
    [
        ("start-error=AccessDeniedException", AccessDenied, "allow ssm:StartSession"),
        (f"offline={TARGET}", TargetNotConnected, f"check that {TARGET} is right"),
        ("start-error=InvalidDocument", RequestRejected, "check that document AWS-"),
        ("start-error=503", ServiceUnavailable, ""),
    ],
)
async def test_a_session_that_cannot_be_had_says_why(events, fault, kind, advice):
    async with emulator(faults=(fault,)) as service:
        with pytest.raises(kind) as caught:
            async with open_tunnel(
                TARGET, 1, endpoint_url=service.endpoint_url, ready_timeout=3
            ):
                pytest.fail("a tunnel without a session")
        assert caught.value.advice.startswith(advice)
        assert str(caught.value).endswith(caught.value.advice)
        assert set(statuses(service)) <= {"Terminated"}


@pytest.mark.parametrize(
    ("kind", "lasts", "hopeless"),
    [
        (TargetNotConnected, False, False),
        (TargetNotConnected, True, True),
        (TargetNotFound, False, False),
        (AccessDenied, False, True),
        (ServiceUnavailable, True, False),
    ],
)
def test_a_script_waits_for_a_target_unless_aws_says_that_it_is_in_vain(
    kind, lasts, hopeless
):
    error = kind("StartSession", clean("Code"), clean("words"), "advice")
    if lasts:  # as a row of the table of causes says
        error.passes = False
    assert api._is_hopeless(error) is hopeless


@pytest.mark.parametrize("code", ["InvalidDocument", "AccessDeniedException"])
async def test_what_time_does_not_heal_is_told_at_once(events, code):
    async with emulator(faults=(f"start-error={code}",)) as service:
        with pytest.raises(TunnelError) as caught:
            async with open_tunnel(
                TARGET, 1, endpoint_url=service.endpoint_url, ready_timeout=3600
            ):
                pytest.fail("a tunnel without a session")
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        assert pool_frames(caught.value) == []
        assert len(events.find("session.ended")) == 1


def pool_frames(error):
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if "sessions" in frame.filename]


SCRIPT = """
import asyncio, ssmtunneld

async def main():
    async with ssmtunneld.open_tunnel(
        "i-0123456789abcdef0", 1, region="eu-west-1", endpoint_url="http://127.0.0.1:9"
    ):
        raise SystemExit("a tunnel without a session")

asyncio.run(main())
"""


def run_script(tmp_path, before=""):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    kept |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    kept |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return subprocess.run(
        [sys.executable, "-c", before + SCRIPT],
        env=kept,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_script_without_credentials_is_told_in_one_line_what_to_do(tmp_path):
    ended = run_script(tmp_path)
    assert ended.returncode == 1
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("ssmtunneld.errors.CredentialsUnusable: ")
    assert "aws" in lines[-1]
    assert ended.stderr.count("Traceback") == 1
    assert "session.ended" not in ended.stderr


def test_a_script_that_wants_a_log_has_one(tmp_path):
    before = "import logging; logging.basicConfig(level='INFO')"
    ended = run_script(tmp_path, before)
    assert ended.stdout == ""
    assert "WARNING:ssmtunneld:session.ended tunnel='tunnel'" in ended.stderr


async def test_a_session_that_takes_too_long_is_given_up_and_ended(events):
    async with emulator(faults=("handshake-stall",)) as service:
        with pytest.raises(NoSessionReady, match="no session within 2 s"):
            async with open_tunnel(
                TARGET, 1, endpoint_url=service.endpoint_url, ready_timeout=2
            ):
                pytest.fail("a tunnel without a session")
        assert set(statuses(service)) == {"Terminated"}


async def test_a_taken_address_is_told_before_a_session_is_asked_for(events):
    async with emulator() as service:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
            with pytest.raises(AddressInUse, match=f"127.0.0.1:{port}"):
                async with open_tunnel(
                    TARGET, 1, listen=str(port), endpoint_url=service.endpoint_url
                ):
                    pytest.fail("two listeners on one address")
        assert statuses(service) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": "bastion"},
        {"port": None},
        {"port": 0},
        {"listen": "nowhere"},
        {"max_sessions": 0},
    ],
)
async def test_an_argument_that_makes_no_sense_is_a_value_error(wrong):
    arguments = {"target": TARGET, "port": 1, **wrong}
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the configuration's
        async with open_tunnel(**arguments):
            pytest.fail("a tunnel that makes no sense")


async def test_cancelling_resets_connections_and_leaves_nothing(events):
    tasks = asyncio.all_tasks()
    async with destination() as port, emulator() as service:
        before = asyncio.all_tasks()
        opened = asyncio.get_running_loop().create_future()

        async def script():
            async with open_tunnel(
                TARGET, port, endpoint_url=service.endpoint_url
            ) as tunnel:
                opened.set_result(tunnel.port)
                await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            running = group.create_task(script(), name="script")
            local = await opened
            async with connection(local) as (reader, writer):
                assert await ask(reader, writer, b"hello") == b"hello"
                running.cancel()
                with pytest.raises(ConnectionResetError):
                    await reader.read()
        assert running.cancelled()
        assert set(statuses(service)) == {"Terminated"}
        with pytest.raises(ConnectionRefusedError):
            await echoes(local)
        # What the emulator still does for its own connections is not the tunnel's.
        left = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not [name for name in left if "tunnel" in name or "session" in name]
    assert asyncio.all_tasks() == tasks


async def test_cancelling_while_a_session_is_being_started_ends_that_session(events):
    stub = Stub()
    stub.answer("StartSession", GRANT)
    stub.answer("TerminateSession", {})
    stub.held = {"StartSession"}

    async def script():
        async with open_tunnel(TARGET, 1, endpoint_url=stub.url):
            pytest.fail("cancelled too late")

    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(script(), name="script")
            assert await asyncio.to_thread(stub.arrived.acquire, timeout=30)
            running.cancel()
            stub.release.set()
        assert running.cancelled()
        assert stub.calls("TerminateSession") == [{"SessionId": GRANT["SessionId"]}]
    finally:
        stub.close()
