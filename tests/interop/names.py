"""Names that lead into tunnels, and a hosts file that one process sees."""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop.conftest import TARGET, Emulator, _command, run_emulator
from tests.interop.programs import Program, aws_environment, run


@dataclass(frozen=True)
class Way:
    """A running daemon and the file that it reads, beside its AWS."""

    file: Path
    emulator: Emulator

    def hosts(self):
        """Return the names of hosts that sessions were started to."""
        sessions = self.emulator.state()["sessions"]
        return {session["properties"]["host"] for session in sessions}

    def hosts_file(self):
        """Return a hosts file with the block that ``ssmtunneld hosts`` writes."""
        file = self.file.with_name("hosts")
        file.write_text("127.0.0.1\tlocalhost\n")
        run(*_command("hosts", "--write", "--file", file, "-c", self.file))
        return file


@contextmanager
def run_way(text, addresses, folder):
    """Run a daemon with this configuration; its agents find ``addresses`` by name."""
    with run_emulator(addresses) as emulator:
        file = folder / "config.toml"
        file.write_text(text)
        daemon = Program(
            *_command("run", "--config", file),
            env=aws_environment(emulator.endpoint),
        )
        try:
            daemon.wait_for(r"daemon\.ready")
            yield Way(file, emulator)
            assert daemon.stop() == 0, daemon.log()
        finally:
            daemon.kill()


def socks_table(local, *destinations):
    """Return the configuration of a SOCKS tunnel to these destinations."""
    return f"""
        [tunnels.socks]
        listen = "127.0.0.1:{local}"
        target = "{TARGET}"
        mode = "socks5"
        destinations = {json.dumps(destinations)}
        """


def may_replace_hosts():
    """Tell whether this user may give a process another hosts file."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"],
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


def with_hosts(file):
    """Return what stands before a command to let it see ``file`` as its hosts file.

    It is in a mount namespace of its own, so that nobody else sees the file.
    """
    script = 'mount --bind "$1" /etc/hosts; shift; exec "$@"'
    return ["unshare", "--mount", "sh", "-ec", script, "sh", file]
