"""docs/testing.md: its three examples run as printed, in an empty directory."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.interop.programs import environment

TEXT = (Path(__file__).parents[2] / "docs/testing.md").read_text()

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


@pytest.mark.parametrize(
    ("heading", "count"),
    [
        ("Test your tool", 4),
        ("Test your Terraform provider", 3),
        ("Test your own daemon", 3),
    ],
)
def test_an_example_runs_as_printed(tmp_path, heading, count):
    assert "conftest.py" in write_example(heading, tmp_path)
    # A provider of another language is not at hand: this one calls what it would call.
    provider = tmp_path / "provider.txt"
    provider.write_text(textwrap.dedent(PROVIDER))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"],
        cwd=tmp_path,
        env=environment(
            PROVIDER_TESTS=f"{sys.executable} {provider}",
            HOME=str(tmp_path),
            XDG_STATE_HOME=str(tmp_path),
        ),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert f"{count} passed" in result.stdout, said


def test_every_fixture_and_method_of_the_page_exists():
    from ssmtunneld import testing

    fixtures = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert len(fixtures) == 6
    assert all(hasattr(testing, name) for name in fixtures)
    table = TEXT.split("| Of `ssm_emulator` | Does |")[1].split("\n\n", 1)[0]
    names = re.findall(r"`(\w+)(?:\(|`)", table)
    known = set(dir(testing.EmulatorThread))
    assert {name for name in names if name != "state"} <= known
