"""Settings of a connection: from the command line, then the file, then defaults."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssmtunneld.config.metadata import Reload, settings_of
from ssmtunneld.config.model import FIXED, TunnelDefaults
from ssmtunneld.errors import ConfigError
from ssmtunneld.ssh import single_session
from ssmtunneld.ssh.settings import document_for, find_source, settings_for

TARGET = "i-0123456789abcdef0"
OTHER = "i-0fffffffffffffff0"

TEXT = f"""
[defaults]
profile = "${{WHO}}"
region = "eu-west-1"
host = "db.internal"

[tunnels.bastion]
listen = 2222
target = "{OTHER}"
region = "us-east-1"
role_arn = "arn:aws:iam::111122223333:role/dev"
port = 5432

[tunnels.broken]
listen = "what?"
"""


def settings(target=TARGET, port=22, source=None, **given):
    return settings_for(target, port, given, source, {"WHO": "me", "HOME": "/home/me"})


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(TEXT)
    return path


def test_ssh_has_the_document_that_policies_for_ssh_name():
    assert document_for(22) == "AWS-StartSSHSession"
    assert document_for(2222) == "AWS-StartPortForwardingSession"
    assert settings().document == "AWS-StartSSHSession"
    assert settings(document="Acme-Ssh").document == "Acme-Ssh"


def test_without_a_file_the_usual_chain_decides():
    found = settings(port=443)
    assert (found.target, found.port, found.host) == (TARGET, 443, None)
    assert (found.profile, found.region) == (None, None)


def test_the_defaults_of_the_file_count_but_not_where_they_lead(source):
    found = settings(source=source)
    assert (found.profile, found.region, found.host) == ("me", "eu-west-1", None)


def test_the_tunnel_with_the_same_target_counts_more(source):
    found = settings(OTHER, source=source)
    assert (found.profile, found.region, found.port) == ("me", "us-east-1", 22)
    assert found.role_arn == "arn:aws:iam::111122223333:role/dev"


def test_another_profile_is_not_mixed_with_that_of_the_file(source):
    found = settings(OTHER, source=source, profile="prod")
    assert (found.profile, found.region, found.role_arn) == ("prod", None, None)
    assert settings(source=source, region="eu-north-1").region == "eu-north-1"


def test_what_is_no_target_is_refused():
    complaint = r"^.web-1. is not a target: write i-.*; did you mean name:web-1\?$"
    with pytest.raises(ConfigError, match=complaint):
        settings("web-1")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\xff", "is not UTF-8 text"),
        (b"[[[", "is not TOML"),
        (b'defaults = 1\ntunnels = {x = 3}\n[a]\n"', "is not TOML"),
        (b'[defaults]\nregion = "nowhere at all"', "region"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(content, words, tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        settings(source=path)
    assert str(path) in str(caught.value)


def test_tables_of_another_kind_are_left_to_the_daemon_to_complain_about(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("defaults = 1\ntunnels = {x = 3}\n")
    assert settings(source=path).region is None


def test_a_file_that_was_named_must_be_there(tmp_path):
    missing = tmp_path / "missing.toml"
    assert find_source(missing, {}) == missing
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read"):
        settings(source=missing)


def test_without_any_file_there_is_none(tmp_path, monkeypatch):
    nowhere = {"XDG_CONFIG_HOME": str(tmp_path)}
    system = Path("/etc/ssmtunneld/config.toml")
    if not system.exists():
        assert find_source(None, nowhere) is None


@pytest.fixture
def team(source):
    """The file, which includes one of a team with another bastion."""
    (source.parent / "main.pem").touch()
    (source.parent / "conf.d").mkdir()
    text = TEXT.replace("[defaults]", '[defaults]\nca_bundle = "main.pem"')
    source.write_text(f'include = "conf.d/*.toml"\n{text}')
    other = source.parent / "conf.d" / "orders.toml"
    other.write_text(
        f'[defaults]\ntarget = "{TARGET}"\nprofile = "orders"\n'
        '[tunnels.db]\nlisten = "odd"\nregion = "eu-north-1"\nprot = 1\n'
    )
    return other


def test_a_tunnel_of_an_included_file_counts_with_that_file_s_defaults(source, team):
    found = settings(source=source)
    assert (found.profile, found.region) == ("orders", "eu-north-1")
    # What the main file says starts at its own folder.
    assert found.ca_bundle == source.parent / "main.pem"
    (team.parent / "own.pem").touch()
    team.write_text(team.read_text() + 'ca_bundle = "own.pem"\n')
    assert settings(source=source).ca_bundle == team.parent / "own.pem"
    assert settings(target=OTHER, source=source).region == "us-east-1"


def test_an_included_file_that_cannot_be_read_is_named(source, team):
    team.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"orders\.toml:1:9: is not TOML"):
        settings(source=source)
    source.write_text(f'include = "none.toml"\n{TEXT}')
    with pytest.raises(ConfigError, match=r"include: .*none\.toml cannot be read"):
        settings(source=source)


def test_what_a_single_session_reads_of_live_settings_comes_from_the_file(tmp_path):
    live = {
        s.key: s.default for s in settings_of(TunnelDefaults) if s.reload is Reload.LIVE
    }
    read = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(single_session)))
        if isinstance(node, ast.Attribute) and node.attr in live.keys() - FIXED
    }
    assert "linger" in read
    path = tmp_path / "config.toml"
    values = "".join(f"{key} = 7\n" for key in read)
    path.write_text(f'[tunnels.t]\ntarget = "{TARGET}"\n{values}')
    found = settings(source=path)
    same = [k for k in read if getattr(found, k) == getattr(settings(), k)]
    assert same == [], "of the file's: name them in _KEPT of ssh/settings.py"


@pytest.mark.parametrize(
    ("given", "environ", "api", "data"),
    [
        ({}, {}, "http://file", "data.file"),
        ({}, {"AWS_ENDPOINT_URL": "http://x"}, None, None),
        ({}, {"AWS_ENDPOINT_URL_SSM": "http://x"}, None, None),
        ({}, {"AWS_ENDPOINT_URL_SSMMESSAGES": "x"}, "http://file", None),
        ({"endpoint_url": "http://o"}, {}, "http://o", None),
        (
            {},
            {
                "AWS_ENDPOINT_URL": "http://x",
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
            },
            "http://file",
            "data.file",
        ),
    ],
)
def test_endpoints_of_the_file_count_where_nothing_else_names_one(
    tmp_path, given, environ, api, data
):
    path = tmp_path / "config.toml"
    path.write_text(
        '[defaults]\nendpoint_url = "http://file"\nssmmessages_endpoint = "data.file"\n'
    )
    found = settings_for(TARGET, 22, given, path, environ)
    assert (found.endpoint_url, found.ssmmessages_endpoint) == (api, data)


def test_only_the_model_of_a_tunnel_is_made():
    code = f"""
from ssmtunneld.ssh.settings import settings_for
given = dict.fromkeys(("profile", "region", "document", "endpoint_url"))
settings_for("{TARGET}", 22, given, None, {{}})
from ssmtunneld.config.model import Config, DaemonSettings, FileSettings, TunnelSettings
models = Config, DaemonSettings, FileSettings, TunnelSettings
print(*[model.__name__ for model in models if model.__pydantic_complete__])
"""
    output = subprocess.check_output([sys.executable, "-c", code], env={**os.environ})
    assert output == b"TunnelSettings\n"
