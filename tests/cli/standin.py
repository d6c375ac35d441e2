"""Stand-ins for ``systemctl``, ``loginctl`` and ``launchctl``: they take notes."""

import json
import os
import sys
from pathlib import Path

from click.testing import CliRunner

from ssmtunneld.cli.commands.service import service
from ssmtunneld.cli.service.manager import ServicePaths

_PROGRAM = """\
#!{python} -IS
import json, pathlib, sys
folder = pathlib.Path({folder!r})
said = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
with (folder / "notes").open("a") as notes:
    notes.write(json.dumps(said) + "\\n")
answers = json.loads((folder / "answers").read_text())
line = " ".join(said)
code, out, err = next((a for key, a in answers.items() if key in line), (0, "", ""))
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""

CONFIG = """\
[tunnels.db]
listen = 5432
target = "i-0123456789abcdef0"
region = "eu-west-1"
port = 5432
"""


class Machine:
    """A home directory, and a service manager that answers as it is told.

    Args:
        folder: An empty folder for all of it.
        platform: As ``sys.platform`` would say it.
        commands: The stand-ins that there are.
    """

    def __init__(self, folder, platform, commands):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.system = folder / "system"
        self.config = folder / "etc" / "config.toml"
        for path in (self.home, self.bin, self.system, self.config.parent):
            path.mkdir()
        self.config.write_text(CONFIG)
        for name in commands:
            program = self.bin / name
            # The interpreter itself: what leads to it may be a shell script.
            python = Path(sys.executable).resolve()
            program.write_text(_PROGRAM.format(python=python, folder=str(folder)))
            program.chmod(0o755)
        self.answer()
        self.place = ServicePaths(
            platform=platform,
            home=self.home,
            uid=1234,
            environ={"HOME": str(self.home)},
            program=("/opt/bin/ssmtunneld",),
            software=(Path("/opt/ssmtunneld"),),
            system_folder=self.system,
            booted=self.folder,
            hidden=(Path("/home"), Path("/root")),
        )

    def answer(self, **answers):
        """Answer commands that contain a key, and all others with success.

        Values are (exit code, standard output, standard error); underscores in keys
        are blanks.
        """
        spaced = {key.replace("_", " "): value for key, value in answers.items()}
        (self.folder / "answers").write_text(json.dumps(spaced))

    def notes(self):
        """Return the commands so far that change something, and forget them."""
        notes = self.folder / "notes"
        lines = notes.read_text().splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        said = [" ".join(json.loads(line)) for line in lines]
        return [s for s in said if not {"show", "show-user", "print"} & {*s.split()}]

    def service(self, *arguments, place=None):
        """Run ``ssmtunneld service`` here; return what came of it."""
        return CliRunner(env={"PATH": str(self.bin)}).invoke(
            service, list(arguments), obj=place or self.place
        )

    def install(self, *arguments):
        """Run ``ssmtunneld service install`` with a configuration that works."""
        return self.service("install", "-c", str(self.config), *arguments)

    def environ(self):
        """Return the environment of a real process in this place."""
        kept = {k: v for k, v in os.environ.items() if k.startswith(("COV", "PYTHON"))}
        return {**kept, "HOME": str(self.home), "PATH": str(self.bin)}
