"""``packaging/``: the locks fit the project, and what packages are made of works."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ssmtunneld.config import load_config
from ssmtunneld.errors import ConfigError
from ssmtunneld.version import __version__
from tests.packaging.container import ROOT

FOLDER = ROOT / "packaging"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ASKED = {
    "runtime": PROJECT["project"]["dependencies"],
    "build": PROJECT["build-system"]["requires"],
    "lint": PROJECT["dependency-groups"]["lint"],
    "release": PROJECT["dependency-groups"]["release"],
    "site": PROJECT["dependency-groups"]["site"],
}
lock = pytest.mark.parametrize("name", ASKED)
SCRIPTS = sorted(
    path
    for path in FOLDER.rglob("*")
    if path.is_file() and path.read_bytes().startswith(b"#!")
)


def text(name):
    """Return what a lock says."""
    return (FOLDER / "locks" / f"{name}.txt").read_text()


def locked(name):
    """Return the entries of a lock: what is required, and the digests."""
    found = []
    for entry in re.split(r"\n(?=\S)", text(name)):
        if not entry.startswith("#"):
            head, *digests = entry.replace("\\\n", "").split("    --hash=")
            found.append((Requirement(head.strip()), [d.strip() for d in digests]))
    return found


def names(requirement):
    """Return the name of a library as indexes have it."""
    return canonicalize_name(requirement.name)


@lock
def test_a_lock_has_every_library_that_is_asked_for_in_an_allowed_version(name):
    for asked in map(Requirement, ASKED[name]):
        pins = [r.specifier for r, _ in locked(name) if names(r) == names(asked)]
        assert pins, f"{asked} is not locked: run packaging/lock update"
        for (pin,) in pins:
            assert pin.operator == "=="
            assert asked.specifier.contains(pin.version), "run packaging/lock update"


def test_the_tests_have_what_the_extras_ask_for():
    extras = PROJECT["project"]["optional-dependencies"]
    asked = {library for libraries in extras.values() for library in libraries}
    assert asked <= set(PROJECT["dependency-groups"]["dev"])


@lock
def test_every_locked_library_has_digests_and_no_address(name):
    assert "://" not in text(name)
    for requirement, digests in locked(name):
        assert requirement.url is None
        assert digests
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", d) for d in digests)


def test_the_runtime_lock_holds_for_every_python_and_machine_that_is_served():
    environment = default_environment()
    for version in ("3.11", "3.12", "3.13", "3.14"):
        for platform in ("linux", "darwin"):
            environment |= {"python_version": version, "sys_platform": platform}
            environment |= {"python_full_version": f"{version}.0"}
            environment |= {"platform_python_implementation": "CPython"}
            for requirement, _ in locked("runtime"):
                marker = requirement.marker
                assert marker is None or marker.evaluate(environment)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_executable_or_put_where_it_is(path):
    if path.parent == FOLDER:
        assert path.stat().st_mode & 0o111
    shell = path.read_text().splitlines()[0].removeprefix("#!").split()
    assert subprocess.run([*shell, "-n", path], check=False).returncode == 0


def test_the_configuration_of_packages_holds_no_tunnel_and_one_to_uncomment(tmp_path):
    given = (FOLDER / "files" / "config.toml").read_text()
    path = tmp_path / "config.toml"
    path.write_text(given)
    with pytest.raises(ConfigError, match="has no tunnels"):
        load_config(path, {})
    # What is to be uncommented is what follows the first empty line.
    head, _, example = given.replace('"alice"', '"root"').partition("\n\n")
    path.write_text(head + "\n\n" + re.sub(r"(?m)^# ", "", example))
    (tunnel,) = load_config(path, {}).tunnels
    assert tunnel.name == "orders-db"


def test_the_units_of_packages_are_those_of_the_machine_with_the_packages_paths(
    tmp_path,
):
    subprocess.run(
        [sys.executable, FOLDER / "files" / "units.py", tmp_path],
        check=True,
        timeout=60,
    )
    for name in ("ssmtunneld.service", "ssmtunneld@.service"):
        ours = (tmp_path / name).read_text().partition("[Unit]")[2]
        shown = (ROOT / "systemd" / name).read_text().partition("[Unit]")[2]
        assert ours == shown.replace("/usr/local/bin/", "/usr/bin/")


def test_the_single_file_refuses_what_it_does_not_fit():
    start = runpy.run_path(str(FOLDER / "pyz" / "start.py"), run_name="start")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(SystemExit):
        start["check"]({"pythons": ["2.6", "2.7"], "platform": "linux-x86_64"})
    with pytest.raises(SystemExit):
        start["check"]({"pythons": [here], "platform": "plan9-mips"})


def test_the_single_file_unpacks_only_into_a_folder_of_ones_own(tmp_path):
    start = runpy.run_path(str(FOLDER / "pyz" / "start.py"), run_name="start")
    start["own"](str(tmp_path / "made"))
    assert Path(tmp_path / "made").stat().st_mode & 0o777 == 0o700
    (tmp_path / "made").chmod(0o777)
    with pytest.raises(SystemExit):
        start["own"](str(tmp_path / "made"))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(SystemExit):
        start["own"](str(tmp_path / "link"))


def test_the_policy_supports_this_version():
    policy = (ROOT / "SECURITY.md").read_text()
    minor = __version__.rpartition(".")[0]
    assert f"| {minor}.x | yes |" in policy
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
