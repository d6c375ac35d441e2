"""``ssmtunneld proxy``: its way, its exit codes, its one line of complaint."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from aiohttp import web

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import (
    Household,
    call,
    document,
    serving,
    tunnel_document,
)
from tests.support.keepers import wait_for_keepers

TARGET = "i-0123456789abcdef0"
PATIENCE = 60


def refusing():
    """Return the application of another user's daemon."""

    async def get_status(_):
        return web.json_response({"error": "not yours"}, status=403)

    app = web.Application()
    app.add_routes([web.get("/status", get_status)])
    return app


@pytest.fixture
def emulator(monkeypatch):
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator
        statuses = {session["status"] for session in emulator.state()["sessions"]}
        assert statuses <= {"Terminated", "Failed"}


def start(*arguments):
    """Run it as ssh would, with a pipe for each stream."""
    return subprocess.Popen(
        [sys.executable, "-m", "ssmtunneld", "proxy", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_alone_it_starts_a_session_and_ends_with_0(home, emulator, greeter):
    with start(TARGET, greeter) as process:
        process.stdin.write(b"words")
        process.stdin.flush()
        assert process.stdout.read() == b"hello words"
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""
    assert len(emulator.state()["sessions"]) == 1


def through(port, destination=22, endpoint=""):
    """Return an operator whose connections to ``destination`` end at ``port``."""

    def connect(place):
        if place.endpoint not in {"", endpoint}:
            return None
        if (place.target, place.port) != (TARGET, destination):
            return None
        return socket.create_connection(("127.0.0.1", port))

    operator = Household()
    operator.way = connect
    return operator


def test_beside_a_daemon_it_takes_its_tunnel(home, greeter):
    with serving(through(greeter)), start(TARGET, 22, "--region", "any") as process:
        process.stdin.write(b"words")
        process.stdin.flush()
        assert process.stdout.read() == b"hello words"
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""


@pytest.mark.parametrize("options", [["--no-daemon"], ["--document", "Acme-None"]])
def test_what_a_daemon_cannot_know_is_done_alone(home, emulator, greeter, options):
    with serving(through(greeter)), start(TARGET, 1, *options) as process:
        assert process.wait(PATIENCE) == 255


def test_a_listener_that_resets_is_a_failure(home):
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        serving(through(server.getsockname()[1])),
        start(TARGET, 22) as process,
    ):
        far, _ = server.accept()
        linger = struct.pack("ii", 1, 0)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        far.close()
        assert process.wait(PATIENCE) == 255
        assert process.stderr.read().startswith(b"ssmtunneld: ")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_session(home, emulator, number):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        with start(TARGET, server.getsockname()[1]) as process:
            far, _ = server.accept()
            with far:
                process.send_signal(number)
                # As ssh does: its end of the pipes goes with it.
                process.stdin.close()
                assert process.wait(PATIENCE) == 0
                assert process.stderr.read() == b""


def test_a_signal_ends_it_although_its_input_stays_open(home, emulator):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        with start(TARGET, server.getsockname()[1]) as process:
            far, _ = server.accept()
            with far:
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 255


def test_a_refusal_is_one_line_and_255(home, emulator):
    with start("--document", "Acme-None", TARGET, 22) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (255, b"")
    assert len(err.splitlines()) == 1
    assert b"Acme-None" in err


def test_what_is_no_target_is_one_line_and_255(home, capsys):
    code, _, err = call(capsys, "proxy", "web-1", 22)
    assert code == 255
    assert err.startswith("ssmtunneld: 'web-1' is not a target: write i-...")
    assert len(err.splitlines()) == 1


def test_a_refused_port_is_one_line_and_255(home, emulator):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with start(TARGET, port) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, len(err.splitlines())) == (255, 1)
    assert b"could not connect" in err


class Ssh:
    """The part of ssh with ProxyUseFdpass: receive a socket, then wait for the end."""

    def __init__(self, *arguments):
        self._ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ssmtunneld", "proxy", "--fdpass"]
                + [str(argument) for argument in arguments],
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.PIPE,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ours.close()
        self.process.wait(PATIENCE)
        self.process.stderr.close()

    def leave(self):
        """Go before there is a connection."""
        self._ours.close()

    def receive(self):
        """Return the connection once the command has ended."""
        self._ours.settimeout(PATIENCE)
        byte, passed, _, _ = socket.recv_fds(self._ours, 2, 2)
        assert (len(byte), len(passed)) == (1, 1)
        assert self.process.wait(PATIENCE) == 0
        sock = socket.socket(fileno=passed[0])
        sock.settimeout(PATIENCE)
        return sock


def test_beside_a_daemon_ssh_gets_the_connection_and_nothing_stays(home, greeter):
    with serving(through(greeter)), Ssh(TARGET, 22) as ssh, ssh.receive() as sock:
        # Nobody holds the command's standard error any more.
        assert ssh.process.stderr.read() == b""
        sock.sendall(b"words")
        assert sock.recv(100) == b"hello words"


def test_alone_ssh_gets_the_connection_of_a_process_that_stays(home, emulator, greeter):
    with Ssh(TARGET, greeter) as ssh:
        with ssh.receive() as sock:
            sock.sendall(b"words")
            assert sock.recv(100) == b"hello words"
        # It has ended once nobody holds that.
        assert ssh.process.stderr.read() == b""
    assert len(emulator.state()["sessions"]) == 1


def test_an_ssh_that_goes_first_leaves_nothing(home, emulator):
    emulator.set_faults("handshake-stall")
    with Ssh(TARGET, 22) as ssh:
        deadline = time.perf_counter() + PATIENCE
        while not emulator.state()["sessions"]:
            assert time.perf_counter() < deadline
        ssh.leave()
        assert ssh.process.wait(PATIENCE) == 255
        assert ssh.process.stderr.read() == b""


def test_a_refusal_is_told_on_standard_error_and_to_ssh(home, emulator):
    with Ssh("--document", "Acme-None", TARGET, 22) as ssh, ssh.receive() as sock:
        sock.sendall(b"SSH-2.0-test\r\n")
        told = b""
        while more := sock.recv(4096):
            told += more
        said = ssh.process.stderr.read()
    assert told.startswith(b"SSH-2.0-ssmtunneld_")
    assert b"Acme-None" in told
    assert len(said.splitlines()) == 1
    assert b"Acme-None" in said


def test_a_program_that_gives_a_pipe_is_served_by_it(home, greeter):
    with serving(through(greeter)), start("--fdpass", TARGET, 22) as process:
        process.stdin.write(b"words")
        process.stdin.flush()
        assert process.stdout.read() == b"hello words"
        assert process.wait(PATIENCE) == 0


def test_a_key_for_one_login_cannot_be_handed_over(home, capsys):
    code, _, err = call(capsys, "proxy", "--fdpass", *KEY, TARGET, 22)
    assert code == 2
    assert "--fdpass does not go with --instance-connect" in err


def accepted(emulator, user):
    """Return the keys that an sshd would be given."""
    url = f"{emulator.endpoint_url}/_emulator/keys/{TARGET}/{user}"
    with urllib.request.urlopen(url) as answer:
        return answer.read()


KEY = ["--instance-connect", "--user", "me"]


def wait_until_there_is_no_key(home):
    """Return once every key is deleted, which may be after the end of the process."""
    (folder,) = home.rglob("ssh")
    deadline = time.perf_counter() + PATIENCE
    while any(folder.iterdir()):
        assert time.perf_counter() < deadline


def test_the_instance_knows_the_key_before_the_first_byte(home, emulator):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        port = server.getsockname()[1]
        with start(*KEY, "--log-level", "debug", TARGET, port) as process:
            process.stdin.write(b"words")
            process.stdin.flush()
            far, _ = server.accept()
            far.settimeout(PATIENCE)
            with far:
                assert far.recv(100) == b"words"
                (key,) = home.rglob("key")
                public = key.with_suffix(".pub").read_bytes()
                assert accepted(emulator, "me").split() == public.split()[:2]
                secret = key.read_bytes().split(b"-----")[2].split()
            assert process.wait(PATIENCE) == 0
            said = process.stderr.read()
    assert not any(line in said for line in secret)
    wait_until_there_is_no_key(home)


def test_a_daemon_at_another_endpoint_is_not_taken(home, emulator, greeter):
    elsewhere = through(1, greeter, endpoint="http://127.0.0.1:9")
    with serving(elsewhere), start(TARGET, greeter) as process:
        process.stdin.write(b"words")
        process.stdin.flush()
        assert process.stdout.read() == b"hello words"
        assert process.wait(PATIENCE) == 0
    assert len(emulator.state()["sessions"]) == 1


def test_the_environments_endpoint_goes_before_a_files(home, emulator, greeter):
    file = home / "own.toml"
    file.write_text('[defaults]\nendpoint_url = "http://127.0.0.1:9"\n')
    daemon = through(1, endpoint="http://127.0.0.1:9")
    with serving(daemon, file), start("-c", file, TARGET, greeter) as process:
        process.stdin.write(b"words")
        process.stdin.flush()
        assert process.stdout.read() == b"hello words"
        assert process.wait(PATIENCE) == 0
    assert len(emulator.state()["sessions"]) == 1


def test_a_file_that_cannot_be_used_is_told_where_an_endpoint_is_named(home, emulator):
    file = home / "own.toml"
    file.write_text("[defaults\n")
    with serving(through(1)), start("-c", file, TARGET, 22) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, len(err.splitlines())) == (255, 1)
    assert b"own.toml" in err


def test_beside_a_daemon_the_key_is_pushed_as_well(home, emulator, greeter):
    with (
        serving(through(greeter, endpoint=emulator.endpoint_url)),
        start(*KEY, TARGET, 22) as process,
    ):
        process.stdin.write(b"words")
        process.stdin.flush()
        assert process.stdout.read() == b"hello words"
        assert process.wait(PATIENCE) == 0
    assert accepted(emulator, "me").startswith(b"ssh-ed25519 ")
    assert emulator.sessions() == []
    wait_until_there_is_no_key(home)


def test_a_name_does_not_say_which_instance_a_daemon_would_take(home, emulator):
    there = Household()
    asked = []
    there.way = asked.append
    # Alone, it looks for the instance, where nobody answers.
    closed = {**os.environ, "AWS_ENDPOINT_URL_EC2": "http://127.0.0.1:9"}
    argv = [sys.executable, "-m", "ssmtunneld", "proxy", *KEY, "name:web", "22"]
    with serving(there):
        result = subprocess.run(
            argv, env=closed, capture_output=True, check=False, timeout=PATIENCE
        )
    assert (result.returncode, asked) == (255, [])
    assert b"DescribeInstances" in result.stderr


def test_a_refused_key_is_one_line_and_255(home, emulator, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT", "http://127.0.0.1:9")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        start(*KEY, TARGET, server.getsockname()[1]) as process,
    ):
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, len(err.splitlines())) == (255, 1)
    assert b"SendSSHPublicKey failed: EndpointConnectionError" in err
    wait_until_there_is_no_key(home)


def test_only_instances_take_keys_this_way(home, capsys):
    code, _, err = call(capsys, "proxy", *KEY, "mi-0123456789abcdef0", 22)
    assert code == 255
    assert "is not an EC2 instance, and only those accept keys this way" in err


def test_a_user_without_a_key_is_a_misunderstanding(home, capsys):
    code, _, err = call(capsys, "proxy", "--user", "me", TARGET, 22)
    assert code == 2
    assert "--user has no effect without --instance-connect" in err


def test_nothing_heavy_is_imported_beside_a_daemon(home):
    code = (
        "import sys, ssmtunneld.cli.commands.proxy\n"
        "import ssmtunneld.ssh.daemon_route, ssmtunneld.ssh.fd_passing\n"
        "print({'asyncio', 'pydantic', 'botocore', 'structlog'} & set(sys.modules))"
    )
    environ = {**os.environ}
    output = subprocess.check_output([sys.executable, "-c", code], env=environ)
    assert output == b"set()\n"


@pytest.fixture
def sleeping(monkeypatch, home):
    """An emulator whose target is stopped, and a file that lets it be started."""
    file = home / "sleeping.toml"
    file.write_text("[defaults]\nstart_target = true\n")
    monkeypatch.setenv("SSMTUNNELD_CONFIG", str(file))
    settings = EmulatorSettings(
        pace=Pace.NONE, stopped=frozenset({TARGET}), boot_time=0.2
    )
    with EmulatorThread(settings) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator
        wait_for_keepers(home)


def test_alone_it_starts_a_target_that_sleeps_and_tells_a_person(sleeping, greeter):
    with start(TARGET, greeter) as process:
        process.stdin.write(b"words")
        process.stdin.flush()
        assert process.stdout.read() == b"hello words"
        assert process.wait(PATIENCE) == 0
        lines = process.stderr.read().decode().splitlines()
    assert lines[0] == f"ssmtunneld: starting bastion {TARGET}: stopped"
    assert lines[-1] == f"ssmtunneld: bastion {TARGET} is ready"
    assert sleeping.instance(TARGET)["starts"] == 1


def test_a_target_that_may_not_be_started_is_one_line(sleeping):
    sleeping.deny("ec2:StartInstances")
    with start(TARGET, 22) as process:
        assert process.wait(PATIENCE) == 255
        errors = process.stderr.read().decode().splitlines()
    assert "ec2:StartInstances" in errors[-1]


ASLEEP = tunnel_document("x", state="asleep", bastion={"phase": "asleep"})


def test_a_daemon_starts_its_target_and_then_has_a_connection(home, greeter):
    operator = through(greeter)
    way, ready = operator.way, tunnel_document("x")
    operator.way = lambda place: way(place) if operator.asked else None
    operator.waking = "x"
    waking = {**ASLEEP, "state": "waking"}
    operator.documents = [document(waking), document(waking), document(ready)]
    with serving(operator), start(TARGET, 22) as process:
        process.stdin.write(b"words")
        process.stdin.flush()
        assert process.stdout.read() == b"hello words"
        assert process.wait(PATIENCE) == 0
    assert operator.asked == [f"wake for {TARGET}"]


class Waking(Household):
    """A daemon whose target never gets ready; ``awaited`` is set once it is asked."""

    def __init__(self):
        super().__init__(document({**ASLEEP, "state": "waking"}))
        self.waking = "x"
        self.awaited = threading.Event()

    def status(self):
        self.awaited.set()
        return super().status()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_a_target_of_a_daemon(home, number):
    operator = Waking()
    with serving(operator), start(*KEY, TARGET, 22) as process:
        assert operator.awaited.wait(PATIENCE)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 255
        assert b"Traceback" not in process.stderr.read()
        # Whoever reads this was told nothing.
        assert process.stdout.read() == b""
    wait_until_there_is_no_key(home)


def test_a_daemon_that_cannot_start_its_target_says_why(home):
    operator = Household()
    operator.waking = "x"
    refused = {
        **ASLEEP,
        "state": "waiting",
        "usable": False,
        "lasting": True,
        "reason": "StartInstances is denied",
        "advice": "allow ec2:StartInstances",
    }
    operator.documents = [document(refused)]
    with serving(operator), start(TARGET, 22) as process:
        assert process.wait(PATIENCE) == 255
        error = process.stderr.read().decode()
    assert "StartInstances is denied; allow ec2:StartInstances" in error
