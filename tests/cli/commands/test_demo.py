"""``ssmtunneld demo`` as a command; what it shows is in ``tests/test_demo.py``."""

import os
import signal

import click
import pytest

from ssmtunneld.cli.main import main
from tests.integration import world


@pytest.fixture(autouse=True)
def _loopback(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


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
