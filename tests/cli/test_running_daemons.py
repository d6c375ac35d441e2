"""Daemons beside a command: those that answer, and no complaint about the others."""

from pathlib import Path

import pytest

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.running_daemons import (
    config_in_use,
    credentials_trouble,
    running,
)
from ssmtunneld.daemon.instance_lock import control_socket
from ssmtunneld.errors import ConfigError
from tests.cli.commands.test_proxy import refusing
from tests.cli.household import (
    Household,
    document,
    serving,
    serving_app,
    tunnel_document,
)


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


def test_the_file_of_the_daemon_that_runs_is_the_one_in_use(home, monkeypatch):
    usual = home / "config" / "ssmtunneld" / "config.toml"
    usual.parent.mkdir(parents=True)
    usual.touch()
    own, named = home / "own.toml", home / "named.toml"
    assert config_in_use(None) == usual
    with serving(Household(document(config=str(own))), own):
        assert config_in_use(None) == own
        assert config_in_use(named) == named
        monkeypatch.setenv("SSMTUNNELD_CONFIG", str(named))
        assert config_in_use(None) == named


def test_a_daemon_without_credentials_is_told_with_its_own_advice(home):
    config = home / "c.toml"
    broken = tunnel_document(state="needs_login", reason="no keys", advice="restart")
    seen = document(broken, tunnel_document("web"), pid=8, config=str(config))
    assert credentials_trouble(config, "db") is None
    with serving(Household(seen), config):
        what = "the running daemon (pid 8) has no usable credentials: no keys"
        assert credentials_trouble(config, "db") == (what, "restart")
        assert credentials_trouble(config, "web") is None
        assert credentials_trouble(config, "other") is None


def test_several_daemons_need_a_name_as_for_status(home):
    one, two = home / "one.toml", home / "two.toml"
    with (
        serving(Household(document(config=str(one))), one),
        serving(Household(document(config=str(two))), two),
        pytest.raises(CommandError, match="several daemons run") as caught,
    ):
        config_in_use(None)
    assert caught.value.advice == f"name one with -c: {one}, {two}"
    assert caught.value.code == 2


def test_without_a_daemon_and_a_file_there_is_none(home):
    with pytest.raises(ConfigError, match="looked for"):
        config_in_use(None)
