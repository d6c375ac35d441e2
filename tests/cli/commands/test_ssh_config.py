"""``ssmtunneld ssh-config``: what it prints, and what it writes."""

import pytest

from ssmtunneld.ssh import fd_passing
from tests.cli.household import Household, call, document, serving, tunnel_document

TARGET = "i-0123456789abcdef0"

CONFIG = f"""
[defaults]
target = "{TARGET}"

[tunnels.web]
listen = 2222
port = 22

[tunnels.other]
listen = 2223
port = 2022
host = "10.0.0.5"
probe = "banner:SSH-"

[tunnels.anywhere]
listen = "127.0.0.1:0"
port = 22

[tunnels.db]
listen = 5432
port = 5432
"""


@pytest.fixture(autouse=True)
def _passing(monkeypatch):
    monkeypatch.setattr(fd_passing, "IS_USUAL", True)


def names(text):
    return [line.split()[1] for line in text.splitlines() if line.startswith("Host ")]


def test_without_a_configuration_there_is_one_block(home, capsys):
    code, out, err = call(capsys, "ssh-config")
    assert (code, err) == (0, "")
    assert names(out) == ["i-*"]
    command = next(line for line in out.splitlines() if "ProxyCommand" in line)
    assert command.endswith(" proxy --fdpass %h %p")
    assert "    ProxyUseFdpass yes\n" in out


def test_what_passes_sockets_may_be_left_out(home, capsys):
    out = call(capsys, "ssh-config", "--no-fdpass")[1]
    assert " proxy %h %p\n" in out
    assert "dpass" not in out


def test_where_processes_may_not_be_forked_it_is_left_out(home, capsys, monkeypatch):
    monkeypatch.setattr(fd_passing, "IS_USUAL", False)
    assert "dpass" not in call(capsys, "ssh-config")[1]


def test_options_go_into_the_command(home, capsys):
    (home / "c.toml").write_text(CONFIG)
    options = ["--profile", "prod", "--region", "eu-west-1", "-c", home / "c.toml"]
    out = call(capsys, "ssh-config", *options)[1]
    wanted = f"proxy --config {home}/c.toml --profile prod --region eu-west-1"
    assert f"{wanted} --fdpass %h %p\n" in out


def test_tunnels_of_the_file_that_lead_to_ssh_have_names(home, capsys):
    (home / "c.toml").write_text(CONFIG)
    out = call(capsys, "ssh-config", "-c", home / "c.toml")[1]
    assert names(out) == ["i-*", "web", "other"]
    assert f"HostKeyAlias [10.0.0.5-via-{TARGET}]:2022\n" in out


def test_a_tunnel_of_an_included_file_has_a_name_and_a_disabled_one_has_not(
    home, capsys
):
    path = home / "config.toml"
    path.write_text('include = "other.toml"\n' + CONFIG)
    (home / "other.toml").write_text(
        "[tunnels.more]\nlisten = 2300\nport = 22\n"
        "[tunnels.off]\nlisten = 2301\nport = 22\nenabled = false\n"
    )
    found = names(call(capsys, "ssh-config", "-c", path)[1])
    assert "more" in found
    assert "off" not in found


def test_tunnels_of_a_daemon_come_with_their_real_ports(home, capsys):
    door = {"target": TARGET, "destination": "localhost:22"}
    running = Household(
        document(
            tunnel_document("web", listen=["127.0.0.1:40123"], **door),
            tunnel_document("down", listen=[], **door),
            tunnel_document("db"),
        )
    )
    (home / "config" / "ssmtunneld").mkdir(parents=True)
    (home / "config" / "ssmtunneld" / "config.toml").write_text(CONFIG)
    with serving(running):
        out = call(capsys, "ssh-config")[1]
    assert names(out) == ["i-*", "web", "other"]
    assert "Port 40123\n" in out


def test_writing_shows_a_diff_once(home, capsys):
    code, out, _ = call(capsys, "ssh-config", "--write")
    assert code == 0
    assert "+Include ssmtunneld.conf" in out
    assert "+Host i-* mi-*" in out
    assert (home / ".ssh" / "ssmtunneld.conf").exists()
    code, out, err = call(capsys, "ssh-config", "--write")
    assert (code, out, err) == (0, "", "Nothing to change.\n")


def test_what_would_be_written_can_be_looked_at(home, capsys):
    out = call(capsys, "ssh-config", "--write", "--print")[1]
    assert "+Include ssmtunneld.conf" in out
    assert not (home / ".ssh").exists()


@pytest.mark.parametrize("text", ["[tunnels.x]\n", "nonsense"])
def test_a_file_with_mistakes_is_refused(home, capsys, text):
    (home / "c.toml").write_text(text)
    code, out, err = call(capsys, "ssh-config", "-c", home / "c.toml")
    assert (code, out) == (2, "")
    assert "c.toml" in err


def test_instances_may_get_a_key_for_each_login(home, capsys):
    out = call(capsys, "ssh-config", "--instance-connect", "--profile", "prod")[1]
    assert names(out) == ["i-*", "mi-*"]
    wanted = "proxy --profile prod --instance-connect --user '%r' %h %p\n"
    assert wanted in out
    (line,) = [line for line in out.splitlines() if "IdentityFile" in line]
    assert line.endswith("/ssh/%r@%h/key")


PUSHING = f"""
[tunnels.web]
listen = "127.0.0.1:0"
target = "{TARGET}"
port = 22
instance_connect = true
instance_connect_user = "ubuntu"
"""


def test_the_daemon_knows_the_port_and_the_file_the_user(home, capsys):
    (home / "config" / "ssmtunneld").mkdir(parents=True)
    (home / "config" / "ssmtunneld" / "config.toml").write_text(PUSHING)
    door = {"target": TARGET, "destination": "localhost:22"}
    listening = {"listen": ["127.0.0.1:40123"]}
    with serving(Household(document(tunnel_document("web", **door, **listening)))):
        out = call(capsys, "ssh-config")[1]
    assert "Port 40123\n" in out
    assert "User ubuntu\n" in out


def test_another_tunnel_of_the_same_name_is_left_alone(home, capsys):
    (home / "config" / "ssmtunneld").mkdir(parents=True)
    (home / "config" / "ssmtunneld" / "config.toml").write_text(PUSHING)
    door = {"target": "i-0fffffffffffffff0", "destination": "localhost:22"}
    listening = {"listen": ["127.0.0.1:40123"]}
    with serving(Household(document(tunnel_document("web", **door, **listening)))):
        out = call(capsys, "ssh-config")[1]
    assert "HostKeyAlias i-0fffffffffffffff0\n" in out
    assert "User" not in out.replace("such as User", "")


def test_a_port_that_only_the_daemon_knows_needs_the_daemon(home, capsys):
    (home / "c.toml").write_text(PUSHING)
    assert names(call(capsys, "ssh-config", "-c", home / "c.toml")[1]) == ["i-*"]
