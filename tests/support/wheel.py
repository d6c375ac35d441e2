"""The wheel that users install, in environments that have what it asks for and no more.

Nothing is fetched: what the wheel depends on is linked from the environment that runs
the tests.
"""

import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PATIENCE = 120


def build(source, target, kind):
    """Build what ``kind`` says from the tree in ``source``; return its path."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    (built,) = target.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return built


def make_environment(wheel, folder, *more):
    """Make an environment in ``folder``; return its ``bin``.

    It has the wheel, the distributions ``more`` by name, and all that these ask for.

    Raises:
        AssertionError: Something that one of them asks for is not there.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    scheme = sysconfig.get_paths("venv", {"base": folder, "platbase": folder})
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)],
        check=True,
        timeout=PATIENCE,
    )
    site = Path(scheme["purelib"])
    (own,) = metadata.distributions(name="ssmtunneld", path=[str(site)])
    for distribution in _asked_for(
        [*_requirements(own, set()), *map(Requirement, more)]
    ):
        _link(distribution, site)
    checked = subprocess.run(
        [*pip, "check"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert checked.returncode == 0, checked.stdout
    return folder / "bin"


def _asked_for(requirements):
    """Yield the distributions that meet ``requirements``, and theirs."""
    seen = {}
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        distribution = metadata.distribution(requirement.name)
        extras = seen.setdefault(distribution.name, set())
        if not extras:
            yield distribution
        new = {"", *requirement.extras} - extras
        extras |= new
        if new:
            waiting += _requirements(distribution, new)


def _requirements(distribution, extras):
    """Return what a distribution asks for on this machine, with ``extras``."""
    found = map(Requirement, distribution.requires or ())
    return [
        requirement
        for requirement in found
        if requirement.marker is None
        or any(requirement.marker.evaluate({"extra": e}) for e in extras or {""})
    ]


def _link(distribution, site):
    """Let a distribution of this environment be found in ``site``, too."""
    for name in {file.parts[0] for file in distribution.files or ()}:
        if name not in ("..", "__pycache__"):
            (site / name).symlink_to(distribution.locate_file(name))
