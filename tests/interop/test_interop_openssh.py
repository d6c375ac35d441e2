"""OpenSSH through the daemon: commands, a terminal, file transfers, its own tunnels."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from contextlib import contextmanager

import pytest

from tests.interop.content import MEBIBYTE, noise, sha256, sha256_of
from tests.interop.http_server import content
from tests.interop.programs import (
    environment,
    run,
)
from tests.interop.servers import find
from tests.support.ports import free_port

SIZE = 64 * MEBIBYTE


@pytest.fixture(scope="module")
def options(sshd, tunnel):
    """The words that lead ssh, scp and sftp through the daemon."""
    return sshd.options(tunnel(sshd.port))


@pytest.fixture(scope="module")
def ssh(sshd, options):
    """The words that begin an ssh command line, up to its destination."""
    return [find("ssh"), *options, sshd.destination]


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "source"
    path.write_bytes(noise(SIZE, seed=1))
    return path


def test_a_command_runs_and_its_output_and_status_come_back(ssh):
    assert run(*ssh, "echo", "hello; exit 0") == "hello\n"
    result = subprocess.run([*ssh, "exit 7"], env=environment(), check=False)
    assert result.returncode == 7


def test_binary_input_comes_back_from_a_command_unchanged(ssh):
    data = noise(3 * MEBIBYTE, seed=2)
    assert sha256(run(*ssh, "cat", data=data, text=False)) == sha256(data)


class _Terminal:
    """A pseudo terminal of a known size, and a program that lives on it."""

    def __init__(self, argv, rows, columns):
        self.screen = b""
        self._ours, theirs = pty.openpty()
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
        self.process = subprocess.Popen(
            argv,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="xterm"),
            start_new_session=True,
        )
        os.close(theirs)

    def type(self, text):
        os.write(self._ours, text.encode())

    def read_until(self, text):
        while text.encode() not in self.screen:
            readable, _, _ = select.select([self._ours], [], [], 30)
            assert readable, f"no {text!r} on the screen: {self.screen!r}"
            try:
                self.screen += os.read(self._ours, 65536)
            except OSError as error:  # how Linux says that the other end has closed
                error.add_note(f"waiting for {text!r}, on the screen: {self.screen!r}")
                raise

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def _terminal(argv, *, rows, columns):
    terminal = _Terminal(argv, rows, columns)
    try:
        yield terminal
    finally:
        terminal.close()


def test_an_interactive_shell_works_under_a_terminal(ssh, sshd):
    argv = [*ssh[:-1], "-tt", ssh[-1]]
    with _terminal(argv, rows=37, columns=101) as terminal:
        # The words that are typed are echoed: only the answer has them put together.
        terminal.type("echo size-$(stty size)-; tty\n")
        terminal.read_until("size-37 101-")
        terminal.read_until("/dev/pts/")
        terminal.type("case $- in *i*) echo inter''active-yes;; esac\n")
        terminal.read_until("interactive-yes")
        terminal.type("sh -c 'echo star''ted; exec sleep 600'\n")
        terminal.read_until("started")
        terminal.type("\x03")
        terminal.type("echo after-$((6 * 7))\n")
        terminal.read_until("after-42")
        terminal.type("exit 5\n")
        assert terminal.process.wait(30) == 5


@pytest.mark.parametrize("program", ["scp", "sftp"])
def test_64_mib_travel_each_way_unchanged(program, sshd, options, large_file, tmp_path):
    remote, back = tmp_path / "remote", tmp_path / "back"
    where = sshd.destination
    if program == "scp":
        run(find("scp"), *options, large_file, f"{where}:{remote}")
        run(find("scp"), *options, f"{where}:{remote}", back)
    else:
        batch = tmp_path / "batch"
        batch.write_text(f"put {large_file} {remote}\nget {remote} {back}\n")
        run(find("sftp"), *options, "-b", batch, where)
    wanted = sha256_of(large_file)
    assert sha256_of(remote) == wanted
    assert sha256_of(back) == wanted


def test_an_upload_survives_a_link_that_is_cut_again_and_again(
    sshd, options, emulator, large_file, tmp_path
):
    arrived = tmp_path / "arrived"
    with emulator.faults("cut-every=1s"):
        run(find("scp"), *options, large_file, f"{sshd.destination}:{arrived}")
    assert sha256_of(arrived) == sha256_of(large_file)
    links = [session["websockets"] for session in emulator.state()["sessions"]]
    assert max(links) > 1, "nothing was cut"


@pytest.fixture
def inner(ssh, http_server):
    """An ssh with a dynamic and a fixed port of its own, inside the tunnel."""
    dynamic, fixed = free_port(), free_port()
    forwards = ["-D", f"127.0.0.1:{dynamic}"]
    forwards += ["-L", f"127.0.0.1:{fixed}:127.0.0.1:{http_server.port}"]
    options = [*ssh[:-1], "-o", "ExitOnForwardFailure=yes", *forwards]
    process = subprocess.Popen(
        [*options, ssh[-1], "echo ready; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    with process:
        # The remote command starts only after all forwards have been set up.
        assert process.stdout.readline() == b"ready\n"
        yield dynamic, fixed
        process.stdin.close()
        assert process.wait(30) == 0


def test_ssh_forwards_ports_inside_the_tunnel(inner, http_server, curl):
    dynamic, fixed = inner
    size = 2 * MEBIBYTE
    common = [curl, "--silent", "--show-error", "--fail", "--noproxy", ""]
    through_socks = run(
        *common,
        *("--socks5-hostname", f"127.0.0.1:{dynamic}"),
        f"http://127.0.0.1:{http_server.port}/{size}/3",
        text=False,
    )
    through_port = run(*common, f"http://127.0.0.1:{fixed}/{size}/4", text=False)
    assert sha256(through_socks) == sha256(content(size, 3))
    assert sha256(through_port) == sha256(content(size, 4))
