"""The wheel that users install, built from the sdist, with the source out of reach."""

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import zipfile

import pytest

from ssmtunneld.cli.manual import pages
from ssmtunneld.version import __version__
from tests.packaging.container import ROOT, copied
from tests.support.wheel import PATIENCE, build, make_environment

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the ``bin`` of an environment with the wheel and what it asks for."""
    return make_environment(wheel, tmp_path_factory.mktemp("environment"))


@pytest.fixture
def command(installed, tmp_path):
    """Return what runs ``ssmtunneld`` far from the source tree."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV"))}
    environ = {**kept, "HOME": str(tmp_path), "PATH": f"{installed}:/usr/bin:/bin"}

    def run(*arguments):
        result = subprocess.run(
            ["ssmtunneld", *arguments],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    run.environ = environ
    return run


def readme_command():
    """Return the README's command for those without AWS."""
    text = (ROOT / "README.md").read_text("utf-8")
    (command,) = re.findall(r"^python3 -m venv .*demo$", text, re.MULTILINE)
    return command


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_from_the_readme_to_a_page_through_open_it_is_three_commands(
    installed, command, tmp_path
):
    made, installing, first = readme_command().split(" && ")
    # What the first two parts do, the fixtures have done without a network.
    assert (made, installing) == ("python3 -m venv .venv", ".venv/bin/pip install .")
    (tmp_path / ".venv").symlink_to(installed.parent)
    leads_away = re.compile(r"(?i)AWS_|\w+_PROXY$")
    clean = {k: v for k, v in command.environ.items() if not leads_away.match(k)}
    run = {"cwd": tmp_path, "env": clean, "text": True}
    demo = subprocess.Popen(
        ["sh", "-c", f"exec {first}"], stdout=subprocess.PIPE, **run
    )
    try:
        said = ""
        for line in demo.stdout:
            said += line
            if "Ctrl-C ends it" in line:
                break
        second, third = re.findall(
            r"^  (export .*|\S*ssmtunneld open .* curl .*)$", said, re.MULTILINE
        )
        assert second.startswith("export ")
        shown = subprocess.run(
            ["sh", "-ec", f"{second}\n{third}"],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            **run,
        )
        assert (shown.returncode, "<h1>It works</h1>" in shown.stdout) == (0, True), (
            shown.stderr
        )
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=PATIENCE)
        assert demo.returncode == 0
    finally:
        demo.kill()
        demo.wait()


def names(wheel):
    """Return the names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_holds_every_file_of_the_package(wheel):
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ssmtunneld").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected - names(wheel) == set()
    assert "ssmtunneld/py.typed" in expected
    assert any(name.startswith("ssmtunneld/serve/page/") for name in expected)


def test_the_wheel_brings_the_manual_and_nothing_that_is_not_for_users(wheel):
    found = names(wheel)
    data = f"ssmtunneld-{__version__}.data/data/share/man/man1/"
    assert {name for name in found if name.startswith(data)} == {
        f"{data}{name}" for name in pages()
    }
    tops = {name.split("/")[0] for name in found}
    assert {re.sub(r"-.*\.", ".", top) for top in tops} == {
        "ssmtunneld",
        "ssmtunneld.dist-info",
        "ssmtunneld.data",
    }


def test_the_sdist_can_be_tested_and_packaged(sdist):
    with tarfile.open(sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("tests/run", "systemd/ssmtunneld.service", "Dockerfile", "LICENSE"):
        assert name in found


def test_the_image_gets_all_that_the_wheel_is_built_from(wheel, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name, target in copied():
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / target)
        else:
            shutil.copy(path, source / target)
    assert names(build(source, tmp_path / "out", "wheel")) == {
        name for name in names(wheel) if "__pycache__" not in name
    }


def test_the_installed_command_is_the_wheels_own(command, installed, tmp_path):
    assert command("--version") == f"ssmtunneld, version {__version__}\n"
    where = subprocess.run(
        [installed / "python", "-c", "import ssmtunneld; print(ssmtunneld.__file__)"],
        cwd=tmp_path,
        env=command.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(installed.parent))


def test_what_the_commands_read_is_inside(command):
    assert "tunnels" in json.loads(command("schema"))["properties"]
    text = command("service", "install", "--print", "--config", "/etc/my.toml")
    assert "run --config /etc/my.toml" in text or "<string>/etc/my.toml" in text


def test_the_demo_runs_from_the_wheel(command, tmp_path):
    process = subprocess.Popen(
        ["ssmtunneld", "demo"],
        cwd=tmp_path,
        env=command.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) in {0, 130}, "".join(said)
    assert any("curl http://127.0.0.1:" in line for line in said), "".join(said)
