"""``ssmtunneld demo`` as a command; what it shows is in ``tests/test_demo.py``."""

import logging
import os
import signal

import click
import pytest
import structlog

from ssmtunneld.cli.main import main
from ssmtunneld.ops import logs
from tests.integration import world


@pytest.fixture(autouse=True)
def _logging(monkeypatch, tmp_path):
    """Put back what the command configures for its whole process."""
    world.use_loopback_aws(monkeypatch, tmp_path)
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.configure(**before)
    root.handlers = handlers
    root.setLevel(level)
    logs.set_level("info")


def test_it_shows_what_to_type_and_ends_on_ctrl_c(monkeypatch, capsys):
    said = []

    def echo(line):
        said.append(line)
        if "Ctrl-C ends it" in line:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(click, "echo", echo)
    with pytest.raises(SystemExit) as caught:
        main(["demo"])
    assert not caught.value.code
    assert any(line.startswith("  curl http://127.0.0.1:") for line in said)
    assert capsys.readouterr() == ("", "")
