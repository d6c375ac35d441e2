"""docs/testing.md: its three examples run as printed, in an empty directory.

Installed are the wheel, pytest, and what these ask for: nothing else of this project.
"""

import re
import subprocess
import textwrap

import pytest

from tests.interop.programs import environment
from tests.packaging.container import ROOT
from tests.support.wheel import make_environment

pytestmark = pytest.mark.integration

TEXT = (ROOT / "docs/testing.md").read_text()

PROVIDER = """
import boto3
ssm = boto3.client("ssm")
grant = ssm.start_session(
    Target="i-0000000000000aaa1", DocumentName="AWS-StartSSHSession"
)
ssm.terminate_session(SessionId=grant["SessionId"])
"""


def write_example(heading, folder):
    """Write the files of a section of the page; return their names."""
    section = TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    names = []
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", block)[1]
        (folder / name).write_text(block)
        names.append(name)
    return names


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the ``bin`` of an environment with the wheel and pytest."""
    return make_environment(wheel, tmp_path_factory.mktemp("environment"), "pytest")


def environ(home, **extra):
    """Return an environment in which neither Python nor pytest is told anything."""
    told = ("PYTHON", "PYTEST")
    kept = {k: v for k, v in environment().items() if not k.startswith(told)}
    return {**kept, "HOME": str(home), "XDG_STATE_HOME": str(home), **extra}


def test_nothing_else_is_installed(installed, tmp_path):
    """No plugin that our own tests use, and not this tree, can lend a hand."""
    script = (
        "import ssmtunneld; from importlib import metadata as m;"
        "print(ssmtunneld.__file__, *(d.name for d in m.distributions()))"
    )
    said = subprocess.run(
        [installed / "python", "-c", script],
        cwd=tmp_path,
        env=environ(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    file, *names = said.stdout.split()
    assert file.startswith(str(installed.parent))
    assert {"pytest", "ssmtunneld"} <= set(names)
    assert not {"pytest-asyncio", "hypothesis", "moto", "textual"} & set(names)


@pytest.mark.parametrize(
    ("heading", "count"),
    [
        ("Test your tool", 4),
        ("Test your Terraform provider", 3),
        ("Test your own daemon", 3),
    ],
)
def test_an_example_runs_as_printed(installed, tmp_path, heading, count):
    assert "conftest.py" in write_example(heading, tmp_path)
    # A provider of another language is not at hand: this one calls what it would call.
    python = installed / "python"
    provider = tmp_path / "provider.txt"
    provider.write_text(textwrap.dedent(PROVIDER))
    result = subprocess.run(
        [python, "-m", "pytest", "-p", "no:cacheprovider", "-q"],
        cwd=tmp_path,
        env=environ(tmp_path, PROVIDER_TESTS=f"{python} {provider}"),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert f"{count} passed" in result.stdout, said
