"""Where a page's commands are typed: a home, a folder, a shell, and an AWS on loopback.

::

    sh -c COMMAND -> ssmtunneld -> an emulator in this process -> a test's own servers

Nothing of a command is changed but what a reader would have to change, too: the stage
has a table for that, all of which must be on the page.
"""

import contextlib
import json
import os
import pwd
import re
import signal
import subprocess
import sys
from pathlib import Path

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.testing import ACCESS_KEY, REGION, SECRET_KEY, EmulatorThread
from tests.integration.terminal import Screen, Terminal
from tests.interop.content import noise
from tests.interop.programs import Program, aws_environment
from tests.interop.servers import find

PATIENCE = 60
ME = pwd.getpwuid(os.getuid()).pw_name
"""Whoever runs the tests, as the kernel has it."""
PROFILE = f"""\
[{{}}]
aws_access_key_id = {ACCESS_KEY}
aws_secret_access_key = {SECRET_KEY}
region = {REGION}
"""
_OF_THE_USER = (
    *("XDG_", "PG", "KUBECONFIG", "STATE_DIRECTORY", "COLUMNS", "LINES"),
    *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
)
"""Variables that lead elsewhere than to the home, or beginnings of their names."""
_SHELL = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"


class Stage:
    """A shell in a home of its own.

    Args:
        home: The home, and the folder in which commands are typed.
        page: Where they stand.
        replaced: What a reader would have to replace, and what stands here instead.
        endpoint: Where the emulator listens.
    """

    def __init__(self, home, page, replaced, endpoint):
        self.home = home
        self.page = page
        self.replaced = {old: str(new) for old, new in replaced.items()}
        self._before = ""
        for old in self.replaced:
            assert old in page.text, f"{page.path} has no {old}"
        self.bin = home / "bin"
        self.bin.mkdir()
        if not (Path(sys.executable).parent / "ssmtunneld").exists():
            self.program("ssmtunneld", f'exec {sys.executable} -m ssmtunneld "$@"')
        places = self.bin, Path(sys.executable).parent, os.environ["PATH"]
        self.environ = {
            **aws_environment(endpoint),
            "AWS_ENDPOINT_URL": endpoint,  # so that nothing is asked of the real one
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "HOME": str(home),
            "NO_PROXY": "*",
            "PATH": os.pathsep.join(map(str, places)),
        }
        for name in [n for n in self.environ if n.startswith(_OF_THE_USER)]:
            del self.environ[name]

    @property
    def folder(self):
        """The folder of the configuration, as the pages have it."""
        return self.home / ".config" / "ssmtunneld"

    def here(self, text):
        """Return ``text`` as it is here, with what a reader would have replaced."""
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        return text

    def write(self, text, name="~/.config/ssmtunneld/config.toml"):
        """Write a file of the page, as it is here; return its path."""
        path = self.home / name.removeprefix("~/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(text))
        return path

    def program(self, name, text, folder=None):
        """Write a shell script that can be typed by its name."""
        path = (folder or self.bin) / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)

    def profiles(self, *names):
        """Write ``~/.aws/config`` with these profiles."""
        path = self.home / ".aws" / "config"
        path.parent.mkdir()
        path.write_text("".join(PROFILE.format(f"profile {name}") for name in names))

    def keep(self, text):
        """Let the shell of all that follows have typed this before."""
        self._before += f"{self.here(text)}\n"

    def _words(self, text, shell):
        return [shell, "-c", self._before + self.here(text)]

    def run(self, text, *, code=0, data="", shell="sh", before=()):
        """Type a command, and ``data`` to it; return what became of it.

        Args:
            text: As it stands on the page.
            code: The exit code that it must end with; None is any.
            data: Its standard input.
            shell: Which one.
            before: Words in front of the shell.
        """
        done = subprocess.run(
            [*map(str, before), *self._words(text, shell)],
            cwd=self.home,
            env=self.environ,
            input=data,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert code in {None, done.returncode}, (
            f"{text} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
        return done

    @contextlib.contextmanager
    def running(self, text, *, code=0):
        """Type a command that goes on until a SIGTERM at the end of a ``with`` block.

        What is yielded has ``log()`` and ``wait_for()``.
        """
        program = Program(*self._words(text, "sh"), env=self.environ, cwd=self.home)
        try:
            yield program
            with contextlib.suppress(ProcessLookupError):
                # Also to whatever the shell has started.
                os.killpg(program.pid, signal.SIGTERM)
            ended = program.wait_for_end()
            assert ended in {code, -signal.SIGTERM}, program.log()
        finally:
            program.kill()

    @contextlib.contextmanager
    def daemon(self, text="ssmtunneld run"):
        """Run a daemon that is ready."""
        with self.running(text) as program:
            program.wait_for(r"daemon\.ready")
            yield program

    @contextlib.contextmanager
    def terminal(self, text, kind=Terminal, columns=160):
        """Type a command that wants a terminal; it has ended when the block has."""
        shown = kind(
            *("-c", _SHELL, *self._words(text, "sh")),
            columns=columns,
            rows=40,
            env=self.environ,
            cwd=self.home,
        )
        try:
            yield shown
        finally:
            if shown.process.returncode is None:
                shown.process.kill()
                shown.close()

    def status(self):
        """Return the tunnels of the daemon by their names."""
        document = json.loads(self.run("ssmtunneld status --json").stdout)
        return {tunnel["name"]: tunnel for tunnel in document["tunnels"]}

    def await_state(self, name, state):
        """Wait until a tunnel of the daemon is in a state."""
        with self.terminal("ssmtunneld status --watch", Screen) as shown:
            shown.see(rf"{name} +{state}")
            shown.type("\x03")
            shown.close()

    def is_served(self, port):
        """Say whether a `HttpServer` is behind a local port."""
        text = f"curl -sf http://127.0.0.1:{port}/1000/1 -o fetched"
        self.run(text)
        return (self.home / "fetched").read_bytes() == noise(1000, 1)


def program_of(process):
    """Return the pattern of a process's name for itself, as a table shows it."""
    comm = Path(f"/proc/{process}/comm").read_text().strip()
    return rf"{re.escape(comm)}\[{process}\]"


def read_to_the_end(connection):
    """Read all that comes; raises what the socket raises."""
    while connection.recv(65536):
        pass


@contextlib.contextmanager
def staged(home, page, replaced, **settings):
    """Run an emulator that does what it can at once; yield it and a stage."""
    settings = EmulatorSettings(pace=Pace.NONE, **settings)
    with EmulatorThread(settings) as emulator:
        yield emulator, Stage(home, page, replaced, emulator.endpoint_url)


def use_ssh(stage, sshd, *names):
    """Let ssh and scp find their settings in the stage's home.

    OpenSSH takes the user's real home, whatever HOME says, so they are told the file.

    Args:
        stage: Where they are typed.
        sshd: The server on every target; its port is written into the file.
        names: What the targets are called there.
    """
    folder = stage.home / ".ssh"
    folder.mkdir(mode=0o700)
    known = folder / "known"
    host_key = (sshd.folder / "host_key.pub").read_text().strip()
    known.write_text("".join(f"[{name}]:{sshd.port} {host_key}\n" for name in names))
    options = sshd.key_options(known)[1::2]
    lines = [f"  {option.replace('=', ' ', 1)}" for option in options]
    config = folder / "config"
    config.write_text("\n".join(["Host *", f"  Port {sshd.port}", *lines, ""]))
    for name in ("ssh", "scp"):
        stage.program(name, f'exec {find(name)} -F {config} "$@"')
