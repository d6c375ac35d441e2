"""A tunnel for the life of a ``with`` block: where it is, how it fails, what stays."""

import asyncio
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
from copy import copy
from pathlib import Path

import pytest

import ssmtunneld
from ssmtunneld import api
from ssmtunneld.api import LocalTunnel, open_tunnel
from ssmtunneld.base.foreign import clean
from ssmtunneld.config import TcpAddress, UnixAddress
from ssmtunneld.emulator.settings import EmulatorSettings, Node, Pace
from ssmtunneld.errors import (
    AccessDenied,
    AddressForbidden,
    AddressInUse,
    NoSessionReady,
    RequestRejected,
    ServiceUnavailable,
    TargetNotConnected,
    TargetNotFound,
    TargetOffline,
    TunnelError,
)
from ssmtunneld.testing import EmulatorThread
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
from tests.support.threads import no_thread


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


class Skipped(BaseException):
    """A kind of what pytest.skip raises."""


async def test_what_no_program_should_catch_comes_out_as_it_was_raised(events):
    async with emulator() as service:
        error = Skipped()
        with pytest.raises(Skipped) as caught:
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
    "error",
    [
        AddressForbidden("127.0.0.1:80", "Permission denied", "choose another"),
        AccessDenied("StartSession", clean("Code"), clean("words"), "allow it"),
    ],
)
def test_an_error_that_ends_with_its_advice_is_otherwise_what_it_was(error):
    explained = api._explained(error)
    again = pickle.loads(pickle.dumps(explained))  # as from a pool of processes
    for told in (explained, again, copy(explained)):
        assert str(told) == f"{error}; {error.advice}"
        assert isinstance(told, type(error))
        assert (told.args, vars(told)) == (error.args, vars(error))
        assert getattr(told, "errno", None) == getattr(error, "errno", None)


@pytest.mark.parametrize(
    ("kind", "lasts", "hopeless"),
    [
        (TargetNotConnected, False, False),
        (TargetNotConnected, True, True),
        (TargetNotFound, False, True),
        (TargetOffline, False, False),
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


async def test_a_name_that_nothing_has_is_told_at_once(events):
    nodes = {TARGET: Node(name="bastion")}
    async with emulator(nodes=nodes) as service:
        with pytest.raises(TargetNotFound) as caught:
            async with open_tunnel(
                "name:bastoin", 1, endpoint_url=service.endpoint_url, ready_timeout=3600
            ):
                pytest.fail("a tunnel without a session")
        assert str(caught.value).endswith("; did you mean name:bastion?")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"target": "bastion"}, "target: 'bastion' is not a target: write "),
        ({"target": "i-0aaaa"}, "target: 'i-0aaaa' is not a target: "),
        ({"port": None}, "port: is required by AWS-StartPortForwardingSession"),
        ({"port": 0}, "port: should be greater than or equal to 1"),
        ({"listen": "nowhere"}, "listen: 'nowhere' is not an address with a port: "),
        ({"listen": "0.0.0.0:1"}, "listen: other machines can reach this address: "),
        ({"max_sessions": 0}, "max_sessions: should be greater than or equal to 1"),
        ({"port": 0, "host": "a b"}, "port: .*; host: 'a b' is not a host: "),
        ({"port": True}, "port: should be a whole number"),
        ({"listen": None}, "listen: None is not an address with a port: "),
        ({"listen": Path("/run/x")}, "listen: .* is not an address with a port: "),
        ({"profile": b"prod"}, "profile: should be text"),
        *(
            ({"document": "Ours", "parameters": {"x": value}}, "parameters.x: should ")
            for value in (1, True, None, b"x", {"a", "b"}, {"a": "b"}, [1], range(2))
        ),
        *(
            ({"document": "Ours", "parameters": value}, "parameters: should ")
            for value in ("x", b"x", 1, True, [("x", "y")], {1: "x"})
        ),
        *(
            ({"ready_timeout": value}, "ready_timeout: .* is no number of seconds")
            for value in (0, -1, float("nan"), "30", b"3", True, None, [])
        ),
    ],
)
def test_an_argument_that_makes_no_sense_is_named_in_one_line(wrong, words):
    arguments = {"target": TARGET, "port": 1, **wrong}
    with pytest.raises(ValueError, match=words) as caught:
        open_tunnel(**arguments)
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)


def test_a_word_that_could_be_a_name_is_told_what_it_probably_means():
    with pytest.raises(ValueError, match=r"; did you mean name:bastion\?$"):
        open_tunnel("bastion", 1)


def test_a_password_in_a_url_is_not_repeated():
    with pytest.raises(ValueError, match="is not an endpoint") as caught:
        open_tunnel(TARGET, 1, endpoint_url="https://user:hunter22@host")
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("seconds", [math.inf, 1e30])
async def test_one_can_wait_for_as_long_as_it_takes(events, seconds):
    async with (
        destination() as port,
        emulator() as service,
        open_tunnel(
            TARGET, port, endpoint_url=service.endpoint_url, ready_timeout=seconds
        ) as tunnel,
    ):
        assert await echoes(tunnel.port)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        (5432, TcpAddress("localhost", 5432)),
        ("unix:~/db.sock", UnixAddress(Path("/home/ann/db.sock"))),
    ],
)
def test_an_address_is_read_as_in_a_file(monkeypatch, listen, address):
    monkeypatch.setenv("HOME", "/home/ann")
    assert open_tunnel(TARGET, 1, listen=listen)._settings.listen == (address,)


# Without a loop of the caller's.


@pytest.fixture
def service():
    settings = EmulatorSettings(pace=Pace.NONE, drain_time=0.2)
    with EmulatorThread(settings) as running:
        yield running


@pytest.fixture
def echo_port():
    """Serve on loopback what sends a line back, in a thread; yield the port."""

    def serve(server):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return  # closed
            with connection:
                connection.sendall(connection.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def opened(service, target=TARGET, port=1, **settings):
    return ssmtunneld.open_tunnel(
        target, port, endpoint_url=service.endpoint_url, **settings
    )


def ask_plainly(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"hello")
        return connection.recv(100)


def has_thread():
    """Say whether a tunnel's thread lives; those of calls to AWS end by themselves."""
    return "ssmtunneld tunnel" in {thread.name for thread in threading.enumerate()}


def ended(service):
    return {session["status"] for session in service.sessions()} == {"Terminated"}


def test_a_plain_block_has_a_tunnel_until_it_ends(service, echo_port):
    with opened(service, port=echo_port) as tunnel:
        assert has_thread()
        assert tunnel.address == f"127.0.0.1:{tunnel.port}"
        assert ask_plainly(tunnel.port) == b"hello"
    assert ended(service)
    assert not has_thread()
    with pytest.raises(ConnectionRefusedError):
        ask_plainly(tunnel.port)


async def test_a_plain_block_can_be_where_a_loop_runs(service, echo_port):
    # As in a notebook, whose cells run on a loop.
    with opened(service, port=echo_port) as tunnel:
        assert await asyncio.to_thread(ask_plainly, tunnel.port) == b"hello"
    assert ended(service)


def test_what_a_plain_block_raises_comes_out_as_it_was_raised(service):
    error = KeyError("the script's own")
    with pytest.raises(KeyError) as caught, opened(service):
        raise error
    assert caught.value is error
    assert ended(service)


def test_a_plain_block_without_a_session_says_why(service):
    service.set_faults("start-error=AccessDeniedException")
    with pytest.raises(AccessDenied) as caught, opened(service):
        pytest.fail("a tunnel without a session")
    assert str(caught.value).endswith(caught.value.advice)
    # Where it was raised on the tunnel's own loop is nobody's business.
    assert {Path(frame.filename).name for frame in frames_of(caught.value)} == {
        "api.py",
        "test_api.py",
    }
    assert not has_thread()


def frames_of(error):
    return traceback.extract_tb(error.__traceback__)


def test_a_plain_block_is_told_of_a_taken_address(service):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with (
            pytest.raises(AddressInUse, match=f"127.0.0.1:{port}"),
            opened(service, listen=str(port)),
        ):
            pytest.fail("two listeners on one address")
    assert service.sessions() == []


def test_an_interrupt_while_a_session_is_being_started_ends_that_session():
    def interrupt(*_):
        raise KeyboardInterrupt

    stub = Stub()
    stub.answer("StartSession", GRANT)
    stub.answer("TerminateSession", {})
    stub.held = {"StartSession"}
    before = signal.signal(signal.SIGUSR1, interrupt)
    waiting = threading.get_ident()

    def strike():
        assert stub.arrived.acquire(timeout=30)
        signal.pthread_kill(waiting, signal.SIGUSR1)
        stub.release.set()

    striking = threading.Thread(target=strike)
    striking.start()
    try:
        with (
            pytest.raises(KeyboardInterrupt),
            open_tunnel(TARGET, 1, endpoint_url=stub.url),
        ):
            pytest.fail("interrupted too late")
        striking.join()
        assert stub.calls("TerminateSession") == [{"SessionId": GRANT["SessionId"]}]
        assert not has_thread()
    finally:
        signal.signal(signal.SIGUSR1, before)
        stub.close()


def test_a_system_that_allows_no_thread_is_told(service):
    with (
        no_thread(),
        pytest.raises(NoSessionReady, match="no session: no further thread"),
        opened(service),
    ):
        pytest.fail("a tunnel without a thread")


def test_a_tunnel_is_opened_once(service):
    block = opened(service)
    with block:
        pass
    with pytest.raises(RuntimeError, match="call open_tunnel again"), block:
        pytest.fail("a tunnel that was over")


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
