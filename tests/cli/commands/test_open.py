"""``ssmtunneld open`` at an emulator, in this process and in terminals."""

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from ssmtunneld.cli.announcer import Announcer
from ssmtunneld.cli.commands import open as open_command
from ssmtunneld.emulator.settings import EmulatorSettings, Node
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import call
from tests.integration.terminal import OWN_TERMINAL, Terminal
from tests.integration.world import PATIENCE, use_loopback_aws
from tests.interop.programs import Program, environment

TARGET = "i-0123456789abcdef0"
OPEN = ("-m", "ssmtunneld", "open")
ANYWHERE = ("--listen", "127.0.0.1:0")
"""Any free local port: another run of these tests can listen on the destination's."""


@pytest.fixture
def service(home, monkeypatch, tmp_path):
    """An emulator to which this process's credentials lead."""
    use_loopback_aws(monkeypatch, tmp_path)
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator


@pytest.fixture
def port():
    """A port on which a server says hello."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def statuses(service):
    return {session["status"] for session in service.sessions()}


def test_a_command_finds_the_tunnels_and_its_code_is_ours(service, port, capfd):
    script = (
        f"test $SSMTUNNELD_PORT = $SSMTUNNELD_PORT_{port}_PORT &&"
        " test $SSMTUNNELD_HOST = 127.0.0.1 && echo $SSMTUNNELD_TWO_1_HOST; exit 6"
    )
    words = ("open", TARGET, port, "two.example:1", *ANYWHERE, *ANYWHERE)
    code, out, err = call(capfd, *words, "--", "sh", "-c", script)
    assert code == 6
    assert "127.0.0.1" in out.splitlines()  # among what the emulator says
    assert "two-1: ready" in err
    assert statuses(service) == {"Terminated"}


@pytest.mark.parametrize("target", ["name:web-1", "tag:Role=bastion", "ip:10.0.0.5"])
def test_what_stands_for_a_target_is_looked_up_at_the_emulator(
    home, monkeypatch, tmp_path, port, target, capfd
):
    use_loopback_aws(monkeypatch, tmp_path)
    node = Node(name="web-1", address="10.0.0.5", tags={"Role": "bastion"})
    with EmulatorThread(EmulatorSettings(nodes={TARGET: node})) as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        code, _, err = call(capfd, "open", target, port, "--", "true")
        assert (code, err.count(": ready\n")) == (0, 1), err
        assert {session["target"] for session in service.sessions()} == {TARGET}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("name:nobody", "instance with tag Name=nobody: none found"),
        ("asg:fleet", "InvalidAction"),
        ("ecs:prod/api", "UnknownOperationException"),
    ],
)
def test_what_the_emulator_does_not_have_ends_it(service, target, reason, capfd):
    code, _, err = call(capfd, "open", target, "1", *ANYWHERE, "--", "true")
    assert (code, reason in err) == (4, True), err


CLIENT = """
import os, socket
host, port = os.environ["SSMTUNNELD_HOST"], os.environ["SSMTUNNELD_PORT"]
try:
    with socket.create_connection((host, int(port)), 30) as client:
        print("got", client.recv(1))
except ConnectionResetError:
    print("reset")
"""


@pytest.mark.parametrize("named", ["variable", "option"])
def test_a_port_at_which_nothing_listens_does_not_lead_back_to_the_tunnel(
    service, monkeypatch, named, capfd
):
    options = ()
    if named == "option":
        monkeypatch.delenv("AWS_ENDPOINT_URL_SSM")
        options = ("--endpoint-url", service.endpoint_url)
    with socket.socket() as held:
        # So nobody else gets it, but whoever asks for it by name could.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        free = held.getsockname()[1]
        words = ("open", TARGET, free, *options, "--", sys.executable, "-c", CLIENT)
        code, out, err = call(capfd, *words)
    assert code == 0, err
    assert "got b''" in out or "reset" in out
    assert f"listening on 127.0.0.1:{free} " not in err


REFUSED = (
    ": 1 connection to localhost:{} refused: the target could not connect to it; "
    "check that the destination is up and reachable from the target"
)


@pytest.fixture
def closed_port():
    """A port on which nobody listens, and which nobody else gets."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_command_whose_connection_is_refused_is_told_why(service, closed_port, capfd):
    words = ("open", TARGET, closed_port, "--", sys.executable, "-c", CLIENT)
    code, _, err = call(capfd, *words)
    assert code == 0
    assert err.count(REFUSED.format(closed_port)) == 1


def test_a_refused_connection_is_told_while_the_tunnels_are_open(service, closed_port):
    program = Program(
        *(sys.executable, *OPEN, TARGET, str(closed_port)), env={**os.environ}
    )
    try:
        host, port = program.wait_for(r"listening on ([0-9.]+):(\d+) ").groups()
        program.wait_for(": ready")
        with (
            socket.create_connection((host, int(port)), PATIENCE) as client,
            suppress(ConnectionResetError),
        ):
            assert client.recv(1) == b""
        program.wait_for(re.escape(REFUSED.format(closed_port)))
        assert program.stop() == 0
    finally:
        program.kill()


def test_words_of_a_command_can_name_the_first_tunnels_host_and_port(
    service, port, capfd
):
    words = ("open", TARGET, port, "two.example:1", *ANYWHERE, *ANYWHERE, "-q", "--")
    script = 'test "$1" = "at $SSMTUNNELD_HOST:$SSMTUNNELD_PORT" && echo "$2"'
    given = ("sh", "-c", script, "sh", "at {host}:{port}", "{other}")
    code, out, err = call(capfd, *words, *given)
    assert (code, "{other}" in out.splitlines()) == (0, True), err


def test_a_unix_socket_has_no_port_for_a_command(service, tmp_path, capfd):
    words = ("open", TARGET, "1", "--listen", f"unix:{tmp_path}/s", "--", "echo")
    code, _, err = call(capfd, *words, "-p{port}")
    assert code == 2
    assert "{port}: the first tunnel listens on a Unix socket" in err
    assert service.sessions() == []


def test_quietly_only_what_goes_wrong_is_said(service, closed_port, capfd):
    words = ("open", TARGET, closed_port, "-q", "--", sys.executable, "-c", CLIENT)
    code, _, err = call(capfd, *words)
    assert code == 0
    ours = [line for line in err.splitlines() if line.startswith("port-")]
    assert ours == [f"port-{closed_port}{REFUSED.format(closed_port)}"]


def test_why_a_tunnel_is_on_another_port_is_said(home, monkeypatch, port, capfd):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # Not an emulator's; without credentials nobody asks it.
    words = ("open", TARGET, port, "--endpoint-url", "https://192.0.2.1:9")
    code, _, err = call(capfd, *words, "--region", "eu-west-1", "--", "true")
    assert code == 4
    said = f"port-{port}: any port, because {port} is "
    assert re.search(rf"{said}(held by .+|taken); --listen chooses\n", err)


def test_a_descriptor_gets_the_addresses_when_all_are_ready(service, port):
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, *OPEN, TARGET, str(port), "--ready-fd", str(writer)],
        pass_fds=[writer],
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    with os.fdopen(reader) as ready:
        address = ready.read().strip()
    host, _, local = address.rpartition(":")
    socket.create_connection((host, int(local)), PATIENCE).close()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.splitlines() == [
        f"port-{port}: listening on {address} -> {TARGET} -> localhost:{port}",
        f"port-{port}: any port, because an emulator's destination is this machine's "
        "own port; --listen chooses",
        f"port-{port}: ready",
    ]
    assert statuses(service) == {"Terminated"}


def test_a_path_that_is_no_utf_8_is_told_as_it_is(service, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff"
    reader, writer = os.pipe()
    options = (b"--listen", b"unix:" + path, "--ready-fd", str(writer))
    process = subprocess.Popen(
        [sys.executable, *OPEN, TARGET, "1", *options],
        pass_fds=[writer],
        stdout=subprocess.PIPE,
        # As locales have it that are no C.
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as ready:
        assert ready.read() == b"unix:" + path + b"\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.startswith(b"port-1: listening on unix:" + path + b" -> ")


def test_standard_output_stays_open_when_the_addresses_have_gone_there(service, port):
    command = ("--ready-fd", "1", "--", "echo", "from the command")
    done = subprocess.run(
        [sys.executable, *OPEN, TARGET, str(port), *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    address, *rest = done.stdout.splitlines()
    assert re.fullmatch(r"127\.0\.0\.1:\d+", address)
    assert rest == ["from the command"]


def test_on_a_terminal_the_throughput_is_shown_until_ctrl_c(service, port):
    terminal = Terminal(*OPEN, TARGET, port, columns=100)
    terminal.wait_for(r": ready\r\n.*up 0 B/s  down 0 B/s  0 connections")
    terminal.type("\x03")
    assert terminal.close() == 0
    assert "Traceback" not in terminal.raw
    # A machine may be too slow to end the sessions within a second.
    said = terminal.raw.removesuffix(
        "ending sessions at AWS; after another Ctrl-C for 2.5 s at most\r\n"
    )
    assert said.endswith("\r\x1b[K")
    assert statuses(service) == {"Terminated"}


def test_a_second_ctrl_c_does_not_wait_for_aws(home, monkeypatch, tmp_path, port):
    use_loopback_aws(monkeypatch, tmp_path)
    emulator = Program(
        *(sys.executable, "-m", "ssmtunneld", "emulator"),
        *("--listen", "127.0.0.1:0", "--pace", "none"),
        env=environment(),
    )
    try:
        url = emulator.wait_for(r"emulator listening on (http://\S+)")[1]
        words = (TARGET, port, "--endpoint-url", url)
        terminal = Terminal(*OPEN, *words, columns=100)
        terminal.wait_for(f"port-{port}: ready")
        emulator.process.send_signal(signal.SIGSTOP)
        terminal.type("\x03")
        terminal.wait_for("ending sessions at AWS; after another Ctrl-C for 2.5 s")
        terminal.type("\x03")
        assert terminal.close() == 130
    finally:
        emulator.kill()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_words_that_nobody_can_take_do_not_change_what_a_command_ends_with(
    service, port
):
    def code(*options):
        words = (TARGET, str(port), *options, "--", "sh", "-c", "exit 7")
        with Path("/dev/full").open("wb") as full:
            return subprocess.call([sys.executable, *OPEN, *words], stderr=full)

    assert code() == 7
    assert code("--document", "Nobody-Wrote-This") == 4


def test_a_terminal_that_is_closed_ends_it_in_order(service, port):
    controller, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, *OPEN, TARGET, str(port)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    said = b""
    while b": ready" not in said:
        said += os.read(controller, 65536)
    os.close(controller)
    # Of hang-up and error it may hear either first: nobody sees its exit code.
    process.wait(PATIENCE)
    assert statuses(service) == {"Terminated"}


def test_without_a_target_one_is_picked_from_those_online(service, port, monkeypatch):
    offline = "i-0aaaaaaaaaaaaaaaa"
    service.add_faults(f"offline={offline}")
    # An emulator lists what it has heard of.
    for target in (TARGET, "i-0bbbbbbbbbbbbbbbb"):
        subprocess.run(
            [sys.executable, *OPEN, target, str(port), "--", "true"],
            check=True,
            capture_output=True,
        )
    terminal = Terminal(*OPEN, port, columns=100)
    terminal.wait_for("Which target")
    assert offline not in terminal.raw
    terminal.wait_for("i-0bbbbbbbbbbbbbbbb")
    terminal.type("bbb\r")
    terminal.wait_for(rf"listening on \S+ -> i-0bbbbbbbbbbbbbbbb -> localhost:{port}")
    terminal.type("\x03")
    assert terminal.close() == 0


def test_nothing_to_pick_is_said(service, port):
    terminal = Terminal(*OPEN, port, columns=200)
    terminal.wait_for("no target is online in eu-west-1")
    assert terminal.close() == 4
    assert "ssmtunneld targets --all" in terminal.raw


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "which target?"),
        (("5432",), "which target?"),
        ((TARGET,), "where to?"),
        ((TARGET, "nonsense"), "'nonsense' is not a destination"),
        ((TARGET, "-L", "1:2"), "'1:2' is not a forward"),
        ((TARGET, "--socks"), "--socks needs --allow"),
        ((TARGET, "1", "--allow", "*:*"), "--allow has no effect without --socks"),
        ((TARGET, "1", "--listen", "1", "--listen", "2"), "--listen 2 has no dest"),
        ((TARGET, "1", "--ready-fd", "999"), "--ready-fd 999: no such descriptor"),
        ((TARGET, "1", "--ready-fd", "9" * 20), "99: no such descriptor"),
        ((TARGET, "1", "--listen", ""), "--listen is empty: write a port, or leave"),
        ((TARGET, "--socks=", "--allow", "a:1"), "--socks is empty: write a port, or"),
        (
            ("web-1", "1"),
            "target: 'web-1' is not a target: write i-..., mi-..., name:web-1, tag:",
        ),
        (("jump", "1"), "; did you mean name:jump?"),
        ((TARGET, "127.1:18080"), "the target itself: write only the port, 18080"),
        ((TARGET, "1", "--listen", "127.1:2"), "'127.1:2' is read as another address"),
        ((TARGET, "1", "--listen", "127.1:2"), 'write "127.0.0.1:2"'),
        ((TARGET, "-L", "127.1:2:x:1"), 'write "127.0.0.1:2"'),
        ((TARGET, "--socks", "224.0.0.1:1", "--allow", "*:1"), "is a multicast"),
        ((TARGET, "1", "--listen", "0.0.0.0:1"), "--allow-from: is required, because"),
        ((TARGET, "1", "--listen", "0.0.0.0:1"), "may connect, such as 10.0.0.0/8"),
        ((TARGET, "1", "--allow", "10.0.0.0/8"), "--allow-from is for who may connect"),
        ((TARGET, "1", "--listen", ":1"), 'ambiguous: write "1" for this machine al'),
        (("i-0aaaa", "1"), "'i-0aaaa' is not a target: an instance id has 8 or 17 he"),
        ((TARGET, "1", "--region", "x"), "region: 'x' is not a region"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_happens(
    service, words, expected, capfd
):
    code, _, err = call(capfd, "open", *words)
    assert (code, expected in err) == (2, True), err
    assert service.sessions() == []


def test_a_taken_address_is_an_error_and_costs_no_session(service, port, capfd):
    words = ("open", TARGET, "1", "--listen", port, "--", "echo", "never")
    code, out, err = call(capfd, *words)
    assert code == 1
    assert "never" not in out.splitlines()
    assert re.search(rf"ssmtunneld: .*127\.0\.0\.1:{port}", err)
    assert service.sessions() == []


def test_a_request_that_can_never_work_ends_it(service, capfd):
    words = ("open", TARGET, "1", *ANYWHERE, "--document", "Nobody-Wrote-This")
    code, _, err = call(capfd, *words, "--", "true")
    assert code == 4
    assert "Nobody-Wrote-This" in err


@pytest.mark.parametrize("code", ["NobodyKnowsThis", "LimitExceededException"])
def test_what_is_not_tried_again_is_not_called_retrying(service, code, capfd):
    service.add_faults(f"start-error={code}")
    words = ("open", TARGET, "1", *ANYWHERE, "--", "true")
    status, out, err = call(capfd, *words)
    assert status == 4
    assert re.search(f"ssmtunneld: port-1: giving up: .*{code}.*; ", err)
    assert not re.search("retr(y|ies)|try again", out + err)


def test_what_is_called_retrying_is_tried_again_and_each_recovery_is_told(
    service, port
):
    service.add_faults("start-error=InternalServerError")
    words = (TARGET, port, "--endpoint-url", service.endpoint_url)
    program = Program(sys.executable, *OPEN, *words, env={**os.environ})
    trouble = f"port-{port}: retrying: .*InternalServerError"
    try:
        expected = rf"(?s){trouble}"
        program.wait_for(expected)
        service.clear_faults()
        expected += rf".*port-{port}: ready\n"
        program.wait_for(expected)
        for _ in range(2):
            service.add_faults("start-error=InternalServerError")
            (live,) = (s for s in service.sessions() if s["status"] == "Connected")
            service.close_session(live["id"])
            expected += rf".*{trouble}"
            program.wait_for(expected)
            service.clear_faults()
            expected += rf".*port-{port}: ready\n"
            program.wait_for(expected)
        assert program.stop() == 0
    finally:
        program.kill()


def test_a_host_that_agents_refuse_ends_it_with_the_cure(service, capfd):
    # Agents refuse after the handshake: a command could have been run by then.
    code, _, err = call(capfd, "open", TARGET, "169.254.169.254:80", *ANYWHERE)
    assert (code, "is forbidden; name another host" in err) == (4, True), err


def test_without_credentials_it_ends_at_once_with_what_to_do(service, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run(
        [sys.executable, *OPEN, TARGET, "1", *ANYWHERE],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert re.fullmatch(r"port-1: listening on .*\n", done.stdout)
    assert re.fullmatch(
        r"ssmtunneld: port-1: giving up: .*NoCredentialsError: .*; log in .*\n",
        done.stderr,
    )


def test_a_command_is_not_run_if_the_tunnels_are_too_late(service, capfd):
    service.add_faults(f"offline={TARGET}")
    words = ("open", TARGET, "1", *ANYWHERE, "--timeout", "50ms")
    code, out, err = call(capfd, *words, "--", "echo", "never")
    assert (code, "never" in out.splitlines()) == (1, False)
    assert re.search(
        "giving up: not ready within 0.05 s: port-1; (see above, or )?give it more",
        err,
    )


@pytest.mark.parametrize("target", [TARGET, "name:web-1"])
def test_an_offline_target_is_awaited_whatever_it_is_called(
    home, monkeypatch, tmp_path, target, capfd
):
    use_loopback_aws(monkeypatch, tmp_path)
    monkeypatch.setattr(open_command, "POLL_INTERVAL", 0.01)
    told = threading.Event()
    # Its time is over once the reason has been told.
    monkeypatch.setattr(open_command, "_clock", lambda: 60.0 if told.is_set() else 0.0)
    monkeypatch.setattr(
        Announcer,
        "_say",
        lambda self, words, say=Announcer._say: (
            say(self, words),
            ": waiting: " in words and told.set(),
        ),
    )
    settings = EmulatorSettings(nodes={TARGET: Node(name="web-1")})
    with EmulatorThread(settings) as service:
        service.add_faults(f"offline={TARGET}")
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        code, _, err = call(capfd, "open", target, "1", *ANYWHERE, "--", "true")
    assert code == 1
    assert "giving up: not ready within 60 s: port-1; see above, or give it" in err


@pytest.mark.parametrize(
    ("options", "limit"), [([], "3600"), (["--timeout", "20m"], "1200")]
)
def test_people_have_an_hour_to_approve_unless_somebody_says_otherwise(
    home, monkeypatch, tmp_path, capfd, options, limit
):
    use_loopback_aws(monkeypatch, tmp_path)
    monkeypatch.setattr(open_command, "POLL_INTERVAL", 0.001)
    clock = itertools.count(0, 300)
    monkeypatch.setattr(open_command, "_clock", lambda: next(clock))
    with EmulatorThread(EmulatorSettings(approval="manual")) as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        words = ("open", TARGET, "1", *ANYWHERE, "--request", "--reason", "why")
        code, _, err = call(capfd, *words, *options, "--", "true")
    assert code == 1
    assert f"giving up: not ready within {limit} s: port-1" in err


def test_the_log_is_heard_only_on_demand(service, port, capfd):
    words = ("open", TARGET, port, "--log-level", "info", "--", "true")
    assert "daemon.started" in call(capfd, *words)[2]
