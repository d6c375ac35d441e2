"""The story of the README: an instance id, one Host block, and ``ssh i-...``.

Real ssh and scp run the real ``ssmtunneld proxy``: by itself, and beside a daemon that
has a tunnel to the same place.
"""

import getpass
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.interop.conftest import TARGET, run_emulator, tunnel_table
from tests.interop.content import MEBIBYTE, noise, sha256, sha256_of
from tests.interop.programs import (
    aws_environment,
    run,
)
from tests.interop.servers import find
from tests.support.keepers import wait_for_keepers
from tests.support.ports import free_port

SIZE = 10 * MEBIBYTE
PATIENCE = 60
PROGRAM = (sys.executable, "-m", "ssmtunneld")


@pytest.fixture(scope="module")
def environ(emulator):
    """Return the environment of the user's shell, which leads to the emulator."""
    return aws_environment(
        emulator.endpoint,
        # Neither a configuration of this user's nor a daemon of theirs.
        XDG_CONFIG_HOME=os.devnull,
    )


@pytest.fixture(scope="module")
def written(environ, tmp_path_factory):
    """Let ``ssh-config`` write its file; return a function that does so again."""

    def write(*options):
        home = tmp_path_factory.mktemp("home")
        env = {**environ, "HOME": str(home), "XDG_STATE_HOME": f"{home}/state"}
        run(*PROGRAM, "ssh-config", "--write", *options, env=env)
        config = home / ".ssh" / "config"
        assert config.read_text() == "Include ssmtunneld.conf\n"
        return home / ".ssh" / "ssmtunneld.conf"

    return write


@pytest.fixture(scope="module")
def host_block(written):
    """The file with the one Host block."""
    return written()


@pytest.fixture(scope="module")
def words(sshd, tmp_path_factory):
    """Return a maker of options that the Host block lacks: the keys of our own sshd."""

    def options(config, *names):
        host_key = (sshd.folder / "host_key.pub").read_text()
        known = tmp_path_factory.mktemp("known") / "hosts"
        known.write_text("".join(f"{name} {host_key}" for name in names))
        return ["-F", str(config), *sshd.key_options(known)]

    return options


@pytest.fixture(scope="module")
def by_id(sshd, words, host_block):
    """The options for ``i-...``; sshd has another port than 22 here."""
    options = words(host_block, f"[{TARGET}]:{sshd.port}")
    return [*options, "-o", f"Port={sshd.port}"]


def our_sessions(emulator):
    """Return the sessions that a proxy has started by itself."""
    sessions = emulator.state()["sessions"]
    return [s for s in sessions if s["reason"].endswith(" tunnel proxy")]


def wait_until_over(emulator):
    """Return once no proxy has a session left: ssh does not wait for its proxy."""
    deadline = time.perf_counter() + PATIENCE
    while {s["status"] for s in our_sessions(emulator)} - {"Terminated"}:
        assert time.perf_counter() < deadline, our_sessions(emulator)


def there_and_back(options, environ, source, tmp_path, host=TARGET):
    """Copy a file to the host and back; say how it arrived."""
    remote, back = tmp_path / "remote", tmp_path / "back"
    where = f"{getpass.getuser()}@{host}"
    run(find("scp"), *options, source, f"{where}:{remote}", env=environ)
    run(find("scp"), *options, f"{where}:{remote}", back, env=environ)
    assert sha256_of(remote) == sha256_of(source)
    assert sha256_of(back) == sha256_of(source)


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "source"
    path.write_bytes(noise(SIZE, seed=11))
    return path


def terminations(emulator):
    """Return how often TerminateSession was called."""
    return emulator.program.log().count("operation=TerminateSession")


def test_a_command_runs_by_instance_id_and_nothing_is_left(by_id, environ, emulator):
    before, called = len(our_sessions(emulator)), terminations(emulator)
    argv = [find("ssh"), *by_id, f"{getpass.getuser()}@{TARGET}"]
    assert run(*argv, "echo", "hello", env=environ) == "hello\n"
    result = subprocess.run(
        [*argv, "cat >&2; exit 7"],
        env=environ,
        input=b"words",
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (result.returncode, result.stderr) == (7, b"words")
    data = noise(MEBIBYTE, seed=12)
    assert sha256(run(*argv, "cat", data=data, text=False, env=environ)) == sha256(data)
    wait_until_over(emulator)
    assert len(our_sessions(emulator)) == before + 3
    # The agent was told by a flag in the session itself.
    assert terminations(emulator) == called


def test_10_mib_travel_each_way_by_instance_id(
    by_id, environ, emulator, large_file, tmp_path
):
    there_and_back(by_id, environ, large_file, tmp_path)
    wait_until_over(emulator)


def test_the_document_for_ssh_serves_as_well(
    sshd, by_id, environ, emulator, large_file, tmp_path
):
    command = f"{shlex.join(PROGRAM)} proxy --document AWS-StartSSHSession %h %p"
    options = [*by_id, "-o", f"ProxyCommand={command}", "-o", "ProxyUseFdpass=no"]
    called = terminations(emulator)
    there_and_back(options, environ, large_file, tmp_path)
    wait_until_over(emulator)
    assert terminations(emulator) == called
    assert our_sessions(emulator)[-1]["document"] == "AWS-StartSSHSession"


def test_a_refused_port_is_told_in_one_line(words, host_block, environ, emulator):
    options = words(host_block)
    result = subprocess.run(
        [find("ssh"), *options, "-p", str(free_port()), TARGET, "true"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert result.returncode == 255
    # ssh has the connection by then, and may say first that it was closed.
    told = [line for line in result.stderr.splitlines() if "ssmtunneld" in line]
    (line,) = told
    assert line.startswith(
        "ssmtunneld: the target could not connect to it; check that the destination"
    )
    wait_until_over(emulator)


def test_an_ssh_that_is_killed_leaves_no_session(by_id, environ, emulator):
    argv = [find("ssh"), *by_id, f"{getpass.getuser()}@{TARGET}", "echo ready; cat"]
    with subprocess.Popen(
        argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as ssh:
        assert ssh.stdout.readline() == b"ready\n"
        ssh.send_signal(signal.SIGKILL)
    wait_until_over(emulator)


def test_a_connection_survives_a_link_that_is_cut(
    by_id, environ, emulator, large_file, tmp_path
):
    with emulator.faults("cut-every=1s"):
        there_and_back(by_id, environ, large_file, tmp_path)
    wait_until_over(emulator)


@pytest.fixture(scope="module")
def beside_daemon(sshd, daemon, environ, tmp_path_factory):
    """Start a daemon with a tunnel to sshd; return its configuration."""
    settings = tunnel_table("bastion", free_port(), sshd.port, probe="banner:SSH-")
    program = daemon(settings)
    # It may be ready a moment before it can be asked.
    run(*PROGRAM, "wait", "--config", program.argv[-1], env=environ)
    source = tmp_path_factory.mktemp("settings") / "config.toml"
    source.write_text(settings)
    return source


def test_a_running_daemon_carries_it_through_its_warm_sessions(
    by_id, beside_daemon, environ, emulator, large_file, tmp_path
):
    before = len(our_sessions(emulator))
    there_and_back(by_id, environ, large_file, tmp_path)
    assert len(our_sessions(emulator)) == before


def proxies():
    """Return the lines of ps about proxies."""
    found = subprocess.run(
        ["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True
    )
    lines = found.stdout.splitlines()
    return [
        line.split()[0]
        for line in lines
        if f"ssmtunneld proxy --fdpass {TARGET}" in line
    ]


def test_beside_a_daemon_no_process_stays_for_a_login(by_id, beside_daemon, environ):
    argv = [find("ssh"), *by_id, f"{getpass.getuser()}@{TARGET}", "echo ready; cat"]
    with subprocess.Popen(
        argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as ssh:
        assert ssh.stdout.readline() == b"ready\n"
        assert proxies() == []
        ssh.communicate(timeout=PATIENCE)
    assert ssh.returncode == 0


@pytest.mark.parametrize("beside", ["alone", "beside_daemon"])
def test_24_logins_at_once_all_work_within_sshs_own_limit(
    by_id, environ, emulator, request, beside
):
    if beside != "alone":
        request.getfixturevalue(beside)
    options = [*by_id, "-o", "ConnectTimeout=5"]
    argv = [find("ssh"), *options, f"{getpass.getuser()}@{TARGET}", "echo here"]
    # ssh's own words go to this test's output: mixed with stdout, whatever the login
    # shell's start-up files complain of would count as the command's answer.
    logins = [
        subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE) for _ in range(24)
    ]
    said = [login.communicate(timeout=2 * PATIENCE)[0] for login in logins]
    assert said == [b"here\n"] * 24
    wait_until_over(emulator)


def test_a_tunnel_is_reached_by_its_name_with_the_host_key_of_its_target(
    sshd, words, written, beside_daemon, environ
):
    options = words(written("--config", beside_daemon), f"[{TARGET}]:{sshd.port}")
    argv = [find("ssh"), *options, f"{getpass.getuser()}@bastion", "echo by name"]
    assert run(*argv, env=environ) == "by name\n"


def test_ssh_prints_the_reason_also_where_it_drops_our_standard_error(
    words, host_block, environ, emulator, tmp_path
):
    master = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60s"]
    master += ["-o", f"ControlPath={tmp_path}/m"]
    with emulator.faults("start-error=AccessDeniedException"):
        result = subprocess.run(
            [find("ssh"), *words(host_block), *master, TARGET, "true"],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    assert result.returncode == 255
    (line,) = [t for t in result.stderr.splitlines() if "Received disconnect" in t]
    assert "StartSession failed: AccessDeniedException" in line


def test_a_host_name_may_name_the_region(sshd, words, host_block, environ, emulator):
    options = [*words(host_block, f"{TARGET}.eu-west-1"), "-p", str(sshd.port)]
    host = f"{getpass.getuser()}@{TARGET}.eu-west-1"
    assert run(find("ssh"), *options, host, "echo here", env=environ) == "here\n"
    wait_until_over(emulator)


def test_a_target_that_sleeps_is_started_for_ssh_and_stopped_some_time_after_it(
    sshd, words, environ, tmp_path
):
    config = tmp_path / "config.toml"
    config.write_text('[defaults]\nstart_target = true\nstop_target_after = "1s"\n')
    ours = {"SSMTUNNELD_CONFIG": str(config), "XDG_STATE_HOME": str(tmp_path)}
    command = f"{shlex.join(PROGRAM)} proxy --fdpass %h %p"
    stopped = ("--stopped", TARGET, "--boot-time", "500ms")
    with run_emulator(None, *stopped) as sleeping:
        options = [
            *words(os.devnull, f"[{TARGET}]:{sshd.port}"),
            *("-o", f"Port={sshd.port}", "-o", f"ProxyCommand={command}"),
            *("-o", "ProxyUseFdpass=yes", f"{getpass.getuser()}@{TARGET}"),
        ]
        result = subprocess.run(
            [find("ssh"), *options, "echo", "hello"],
            env={**environ, "AWS_ENDPOINT_URL_SSM": sleeping.endpoint, **ours},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert (result.returncode, result.stdout) == (0, "hello\n"), result.stderr
        # ssh does not wait for whoever stops it, who holds nothing of ssh's open.
        assert f"ssmtunneld: bastion {TARGET} is ready\n" in result.stderr
        deadline = time.perf_counter() + PATIENCE
        while (instance := sleeping.state()["instances"][TARGET])["tags"]:
            assert time.perf_counter() < deadline, instance
        assert (instance["state"], instance["stops"]) == ("stopped", 1)
        wait_for_keepers(tmp_path)
