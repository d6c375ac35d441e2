"""``ssmtunneld config``."""

import json

import pytest

from ssmtunneld.cli.commands.config import effective
from ssmtunneld.config import parse_config
from ssmtunneld.config.sample import sample
from tests.cli.household import call

TEXT = """
[defaults]
target = "i-0123456789abcdef0"
region = "${PLACE}"
linger = "5s"

[tunnels.web]
listen = 8080
port = 80
keep_alive = false

[tunnels.browse]
listen = ["127.0.0.1:1080", "unix:/tmp/socks"]
mode = "socks5"
destinations = ["*.internal:443"]
"""


@pytest.fixture
def path(home, monkeypatch):
    monkeypatch.setenv("PLACE", "eu-west-1")
    path = home / "config.toml"
    path.write_text(TEXT)
    return path


def test_the_sample_is_printed_as_it_is(home, capsys):
    assert call(capsys, "config", "example") == (0, sample(), "")


def test_the_place_of_the_file_is_printed(path, home, capsys):
    assert call(capsys, "config", "path", "-c", path) == (0, f"{path}\n", "")
    code, _, err = call(capsys, "config", "path")
    assert code == 2
    assert "ssmtunneld init" in err
    assert "ssmtunneld open" in err


def test_what_holds_is_a_file_that_says_the_same(path, capsys):
    code, out, _ = call(capsys, "config", "show", "-c", path)
    assert code == 0
    before = parse_config(TEXT, path, {"PLACE": "eu-west-1"})
    after = parse_config(out, path, {})
    assert (after.daemon, after.tunnels) == (before.daemon, before.tunnels)
    assert 'linger = "5s"' in out
    assert 'region = "eu-west-1"' in out


def test_the_sample_too(tmp_path):
    import tomlkit

    before = parse_config(sample(), tmp_path / "c.toml", {})
    text = tomlkit.dumps(effective(before, ()))
    assert parse_config(text, tmp_path / "c.toml", {}).tunnels == before.tunnels


def test_one_tunnel_may_be_chosen_and_json_asked_for(path, capsys):
    out = call(capsys, "config", "show", "web", "--json", "-c", path)[1]
    assert [*json.loads(out)["tunnels"]] == ["web"]
    code, _, err = call(capsys, "config", "show", "wbe", "-c", path)
    assert (code, "wbe" in err) == (2, True)


def test_what_other_files_say_is_part_of_it_and_says_where_it_is_from(path, capsys):
    other = path.parent / "other.toml"
    other.write_text("[tunnels.old]\nlisten = 1\nport = 1\nenabled = false\n")
    path.write_text('include = "other.toml"\n' + TEXT)
    code, out, _ = call(capsys, "config", "show", "-c", path)
    assert code == 0
    assert out.startswith(f"# Settings in effect from {path} and 1 included file\n")
    assert "[tunnels.old] # other.toml\n" in out
    assert "[tunnels.web]\n" in out
    again = parse_config(out, "x", {})
    assert [t.name for t in again.tunnels] == ["web", "browse", "old"]
    assert [t.name for t in again.enabled] == ["web", "browse"]


def test_a_file_with_mistakes_is_refused(path, capsys):
    path.write_text("[tunnels.x]\n")
    assert call(capsys, "config", "show", "-c", path)[0] == 2
