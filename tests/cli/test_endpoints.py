"""Whether a daemon reaches the place that a command means."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssmtunneld.cli.endpoints import (
    endpoint_in,
    environment_of,
    is_same_endpoint,
)
from ssmtunneld.errors import ConfigError

HERE, ELSEWHERE = "http://127.0.0.1:4566", "http://127.0.0.1:4567"
IN_DAEMONS_FILE, IN_OWN_FILE = "/etc/daemon.toml", "/home/me/own.toml"


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, ""),
        ({"AWS_ENDPOINT_URL": HERE}, HERE),
        ({"AWS_ENDPOINT_URL": ELSEWHERE, "AWS_ENDPOINT_URL_SSM": HERE}, HERE),
        ({"AWS_ENDPOINT_URL": HERE, "AWS_ENDPOINT_URL_SSM": ""}, HERE),
        ({"AWS_ENDPOINT_URL_EC2": HERE}, ""),
        (
            {
                "AWS_ENDPOINT_URL_SSM": HERE,
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True",
            },
            "",
        ),
    ],
)
def test_the_variables_of_botocore_count(environ, endpoint):
    assert endpoint_in(environ) == endpoint


def test_a_processs_environment_is_read_where_it_can_be(tmp_path):
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "environ").write_bytes(b"A=1\0B=x=y\0EMPTY=\0")
    assert environment_of(7, tmp_path) == {"A": "1", "B": "x=y", "EMPTY": ""}
    assert environment_of(8, tmp_path) == {}


def same(environ, *, own=None, theirs=None, pid=0):
    """Compare, with these ``endpoint_url`` in the two files."""
    files = {IN_OWN_FILE: own, IN_DAEMONS_FILE: theirs}

    def configured(path):
        found = files[str(path)]
        if isinstance(found, Exception):
            raise found
        return found

    document = {"config": IN_DAEMONS_FILE, "pid": pid}
    return is_same_endpoint(document, environ, IN_OWN_FILE, configured)


BROKEN = ConfigError(["broken"])


@pytest.mark.parametrize(
    ("environ", "own", "theirs", "expected"),
    [
        ({}, BROKEN, BROKEN, True),  # nothing to compare: no file is read
        ({"AWS_ENDPOINT_URL_SSM": HERE}, None, HERE, True),
        ({"AWS_ENDPOINT_URL_SSM": f"{HERE}/"}, None, HERE, True),
        ({"AWS_ENDPOINT_URL_SSM": HERE}, None, ELSEWHERE, False),
        ({"AWS_ENDPOINT_URL_SSM": HERE}, None, None, False),
        ({"AWS_ENDPOINT_URL": HERE}, ELSEWHERE, ELSEWHERE, True),
        ({"AWS_ENDPOINT_URL": HERE}, ELSEWHERE, HERE, False),
        ({"AWS_ENDPOINT_URL": HERE}, BROKEN, HERE, False),
        ({"AWS_ENDPOINT_URL": HERE}, None, BROKEN, False),
    ],
)
def test_a_daemon_is_only_used_for_the_same_place(environ, own, theirs, expected):
    assert same(environ, own=own, theirs=theirs) is expected


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_a_daemon_with_the_same_variable_is_at_the_same_place():
    here = {"AWS_ENDPOINT_URL_SSM": HERE}
    code = "import sys; print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **here},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"1\n"
        assert same(here, pid=process.pid) is True
        assert same({"AWS_ENDPOINT_URL_SSM": ELSEWHERE}, pid=process.pid) is False
        process.stdin.close()
