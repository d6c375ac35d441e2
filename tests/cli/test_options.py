"""Where a configuration is looked for."""

import pytest

from ssmtunneld.cli.options import load
from ssmtunneld.errors import ConfigError
from tests.integration.world import tunnel


def test_the_option_wins_over_the_variable_and_that_over_the_directory(
    tmp_path, monkeypatch
):
    (tmp_path / "ssmtunneld").mkdir()
    files = [tmp_path / "option.toml", tmp_path / "variable.toml"]
    files.append(tmp_path / "ssmtunneld" / "config.toml")
    for file in files:
        file.write_text(tunnel("db", port=1))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SSMTUNNELD_CONFIG", str(files[1]))
    assert load(files[0]).source == files[0]
    assert load(None).source == files[1]
    monkeypatch.delenv("SSMTUNNELD_CONFIG")
    assert load(None).source == files[2]


def test_variables_of_the_environment_stand_for_their_values(tmp_path, monkeypatch):
    monkeypatch.setenv("BASTION", "i-0123456789abcdef0")
    file = tmp_path / "config.toml"
    file.write_text(tunnel("db", target="${BASTION}", port=1))
    assert load(file).tunnels[0].target == "i-0123456789abcdef0"


def test_without_any_file_the_places_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SSMTUNNELD_CONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"looked for --config, \$SSMTUNNELD_CONFIG"):
        load(None)
