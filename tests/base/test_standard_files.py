"""Standard files of a process that was started without them."""

import os
import subprocess
import sys

import pytest

SHOW = """
import os, sys
for number in {closed}:
    os.close(number)
sys.{name} = None
from ssmtunneld.base.standard_files import ensure_standard_files
ensure_standard_files()
null = os.stat(os.devnull)
for number in range(3):
    shown = os.fstat(number)
    same = (shown.st_rdev, shown.st_mode) == (null.st_rdev, null.st_mode)
    assert same is (number in {closed}), number
    assert os.get_inheritable(number)
assert os.open(os.devnull, os.O_RDONLY) > 2
assert sys.{name} is not None
print("", file=sys.stdout)
print("ünd", file=sys.stderr)
assert sys.stdin.read() == ""
"""


@pytest.mark.parametrize(
    ("closed", "name"), [([0], "stdin"), ([1], "stdout"), ([2], "stderr")]
)
def test_a_closed_descriptor_becomes_the_null_device(closed, name):
    code = SHOW.format(closed=closed, name=name)
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"",
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert (done.returncode, done.stderr.decode()) == (
        0,
        "" if 2 in closed else "ünd\n",
    )


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_runs_without_them(redirections):
    command = f"exec {sys.executable} -m ssmtunneld schema {redirections}"
    done = subprocess.run(["/bin/sh", "-c", command], check=False)
    assert done.returncode == 0


def test_a_failure_is_a_failure_and_no_abort():
    command = f"exec {sys.executable} -m ssmtunneld check -c /nowhere 0<&- 1>&- 2>&-"
    done = subprocess.run(["/bin/sh", "-c", command], check=False)
    assert done.returncode == 2


def test_a_path_leaves_as_it_came_and_what_the_encoding_lacks_as_an_escape():
    code = (
        "from ssmtunneld.base.standard_files import ensure_standard_files\n"
        "ensure_standard_files()\n"
        "print('\\udcff é … \\ud800')"
    )
    said = {
        encoding: subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"},
        ).stdout
        for encoding in ("utf-8", "latin-1")
    }
    assert said == {
        "utf-8": b"\xff \xc3\xa9 \xe2\x80\xa6 \\ud800\n",
        "latin-1": b"\xff \xe9 \\u2026 \\ud800\n",
    }
