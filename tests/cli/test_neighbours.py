"""Daemons beside a command: those that answer, and no complaint about the others."""

from pathlib import Path

from ssmtunneld.cli.neighbours import running
from ssmtunneld.instance import control_socket
from tests.cli.household import Household, document, serving, serving_app
from tests.cli.test_proxy import refusing


def test_none_runs(home):
    assert running(None) == []
    assert running(home / "c.toml") == []


def test_all_of_them_are_asked(home, operator):
    with serving(Household(document(pid=8)), Path("/else.toml")):
        assert {found["pid"] for found in running(None)} == {7, 8}


def test_one_may_be_named_by_its_file(home, monkeypatch):
    config = home / "c.toml"
    with serving(Household(document(config=str(config))), config):
        assert len(running(config)) == 1
        assert running(home / "d.toml") == []
        monkeypatch.setenv("SSMTUNNELD_CONFIG", str(config))
        assert len(running(None)) == 1


def test_those_that_do_not_answer_or_refuse_are_left_out(home):
    dead = control_socket("1" * 12)
    dead.parent.mkdir(parents=True)
    dead.touch()
    with serving_app(refusing()):
        assert running(None) == []
