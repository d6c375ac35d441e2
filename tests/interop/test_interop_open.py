"""The first five minutes: ``open`` and ``ssh``, with real programs and no file."""

import os
import subprocess
import sys

import pytest

from tests.interop.conftest import TARGET
from tests.interop.content import noise
from tests.interop.programs import (
    Program,
    aws_environment,
    environment,
    run,
)
from tests.interop.servers import find
from tests.support.ports import free_port

PATIENCE = 60
PROGRAM = (sys.executable, "-m", "ssmtunneld")


@pytest.fixture
def environ(emulator, tmp_path):
    """Return the environment of the user's shell, which leads to the emulator."""
    return aws_environment(
        emulator.endpoint,
        HOME=str(tmp_path),
        XDG_STATE_HOME=str(tmp_path / "state"),
        XDG_CONFIG_HOME=os.devnull,
    )


@pytest.fixture
def ssh_words(sshd, tmp_path):
    """Return a maker of ssh's further options: the keys of the test's sshd."""

    def words(name):
        known = tmp_path / "known"
        host_key = (sshd.folder / "host_key.pub").read_text()
        known.write_text(f"[{name}]:{sshd.port} {host_key}")
        return ["-F", "none", *sshd.key_options(known)]

    return words


def call(*arguments, env, timeout=PATIENCE):
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def test_ssh_logs_in_and_its_exit_code_is_ours(environ, emulator, sshd, ssh_words):
    rest = ["--", *ssh_words(TARGET), "echo in; exit 7"]
    result = call("ssh", "-p", sshd.port, TARGET, *rest, env=environ)
    assert (result.returncode, result.stdout, result.stderr) == (7, "in\n", "")
    assert emulator.statuses() == {"Terminated"}


def test_curl_is_served_through_two_tunnels_and_a_proxy(environ, http_server, curl):
    local = free_port()
    program = Program(
        *(*PROGRAM, "open", TARGET, http_server.port, f"localhost:{http_server.port}"),
        *("--listen", f"127.0.0.1:{local}", "--socks", "127.0.0.1:0"),
        *("--allow", "127.0.0.1:*"),
        env=environ,
    )
    try:
        program.wait_for(f"port-{http_server.port}: ready")
        second = program.wait_for(rf"{http_server.port}-2: listening on (127\S+)")[1]
        program.wait_for(f"port-{http_server.port}-2: ready")
        socks = program.wait_for(r"socks: listening on (127\S+)")[1]
        wanted = noise(1024, 1)
        for words in (
            (f"http://127.0.0.1:{local}/1024/1",),
            (f"http://{second}/1024/1",),
            ("--socks5-hostname", socks, f"http://127.0.0.1:{http_server.port}/1024/1"),
        ):
            quiet = {**environment(), "NO_PROXY": ""}
            assert run(curl, "-sf", *words, env=quiet, text=False) == wanted
        assert program.stop() == 0
    finally:
        program.kill()


def test_the_code_of_psql_is_ours(environ, postgresql):
    psql, *options = [find("psql"), *postgresql.connection(0)]
    script = f"""
        test "$SSMTUNNELD_PORT" = "$SSMTUNNELD_PORT_{postgresql.port}_PORT" || exit 90
        exec {psql} {" ".join(options)} -p "$SSMTUNNELD_PORT" -h 127.0.0.1 \\
            -At -v ON_ERROR_STOP=1 -c "$0"
    """
    for question, code, answer in (("select 6 * 7", 0, "42\n"), ("select 1/0", 1, "")):
        words = ("open", TARGET, postgresql.port, "--", "sh", "-c", script, question)
        result = call(*words, env=environ)
        assert (result.returncode, result.stdout) == (code, answer), result.stderr
