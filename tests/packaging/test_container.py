"""The Dockerfile: what it names exists, and what it promises holds."""

import json
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.packaging.container import ROOT, copied, of


class Daemon(BaseHTTPRequestHandler):
    """Answers /livez with the server's code, and all else with 404."""

    def do_GET(self):
        """Answer."""
        self.send_response(self.server.code if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def daemon():
    server = HTTPServer(("127.0.0.1", 0), Daemon)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def health_check(port):
    """Run the image's health check against ``port``; return its exit code."""
    (rest,) = of("HEALTHCHECK")
    command = json.loads(rest.partition("CMD ")[2])
    # The image's interpreter, and its port.
    assert command[0] == "/opt/ssmtunneld/bin/python"
    code = command[2].replace("9300", str(port))
    assert code != command[2]
    environ = {"http_proxy": "http://127.0.0.1:1"}  # is for AWS, not for ourselves
    result = subprocess.run(
        [sys.executable, command[1], code],
        env=environ,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return result.returncode


def test_the_health_check_follows_the_daemon(daemon):
    daemon.code = 200
    assert health_check(daemon.server_port) == 0
    daemon.code = 503
    assert health_check(daemon.server_port) == 1


def test_the_health_check_fails_where_nobody_listens(daemon):
    port = daemon.server_port
    daemon.shutdown()
    daemon.server_close()
    assert health_check(port) == 1


def test_everything_that_is_copied_exists_and_is_let_through():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    passed = {line[1:] for line in ignored if line.startswith("!")}
    assert {source for source, _ in copied()} == passed
    assert all((ROOT / source).exists() for source, _ in copied())


def test_it_runs_as_a_number_that_is_not_root():
    (user,) = of("USER")
    assert re.fullmatch(r"[1-9][0-9]+:[1-9][0-9]+", user)


def test_every_python_that_it_may_be_built_with_is_one_of_ours():
    arguments = dict(argument.split("=") for argument in of("ARG"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = f"Programming Language :: Python :: {arguments['PYTHON']}"
    assert wanted in project["classifiers"]
    assert all("${PYTHON}-slim" in base for base in of("FROM"))


def test_it_starts_the_daemon_with_the_file_that_is_mounted():
    assert json.loads(of("ENTRYPOINT")[0]) == ["ssmtunneld"]
    words = json.loads(of("CMD")[0])
    assert words == ["run", "--config", "/etc/ssmtunneld/config.toml"]
    assert of("EXPOSE") == ["9300"]


def test_it_holds_no_secret():
    for rest in of("ENV") + of("ARG"):
        assert not re.search("AWS_|TOKEN|SECRET|PASSWORD", rest)
