"""``ssmtunneld ssh``: what ssh is told. Real ones are an interop test."""

import json
import shlex
import sys

import pytest

from ssmtunneld.cli.commands.ssh import proxy_command
from ssmtunneld.ssh import fd_passing
from ssmtunneld.ssh.host_names import host_name
from tests.cli.household import call

TARGET = "i-0123456789abcdef0"


@pytest.fixture(autouse=True)
def _passing(monkeypatch):
    monkeypatch.setattr(fd_passing, "IS_USUAL", True)


@pytest.fixture
def told(home, monkeypatch):
    """Put an ssh that exits with 9 first in PATH; return a getter of its arguments."""
    record = home / "told"
    script = home / "bin" / "ssh"
    script.parent.mkdir()
    code = f"import json, sys; json.dump(sys.argv[1:], open({str(record)!r}, 'w'))"
    words = [sys.executable, "-c", code]
    script.write_text(f'#!/bin/sh\n{shlex.join(words)} "$@"\nexit 9\n')
    script.chmod(0o700)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    return lambda: json.loads(record.read_text())


def test_ssh_gets_our_proxy_and_its_code_is_ours(told, capfd):
    assert call(capfd, "ssh", f"ubuntu@{TARGET}")[0] == 9
    option, proxy, *rest = told()
    passing = ["-o", "ProxyUseFdpass=yes"]
    assert (option, rest) == ("-o", [*passing, "-l", "ubuntu", TARGET])
    words = shlex.split(proxy.removeprefix("ProxyCommand="))
    assert words[-4:] == ["proxy", "--fdpass", TARGET, "%p"]


def test_where_processes_may_not_be_forked_ssh_gets_a_pipe(told, capfd, monkeypatch):
    monkeypatch.setattr(fd_passing, "IS_USUAL", False)
    assert call(capfd, "ssh", TARGET)[0] == 9
    assert "dpass" not in " ".join(told())


def test_what_stands_behind_two_dashes_is_for_ssh(told, capfd):
    rest = ("-L", "8080:localhost:80", "uptime", "--pretty")
    assert call(capfd, "ssh", "-p", "2200", TARGET, "--", *rest)[0] == 9
    assert told()[4:] == ["-p", "2200", TARGET, *rest]


def test_a_target_that_ssh_would_refuse_gets_another_name_there(told, capfd):
    target = "tag:Team=Sales & Co 100%,tag:Role=bastion"
    options = ("--profile", "my prod", "--region", "eu-west-1", "--document", "Mine")
    assert call(capfd, "ssh", *options, target)[0] == 9
    _, proxy, *_, name = told()
    assert name == "tag-Team-Sales-Co-100-tag-Role-bastion"
    command = proxy.removeprefix("ProxyCommand=").replace("%p", "22").replace("%%", "%")
    expected = ["--profile", "my prod", "--region", "eu-west-1", "--document", "Mine"]
    assert shlex.split(command)[-9:] == [*expected, "--fdpass", target, "22"]


def test_a_key_of_its_own_is_named_as_the_proxy_makes_it(told, home, capfd):
    assert call(capfd, "ssh", "--instance-connect", f"ec2-user@{TARGET}")[0] == 9
    words = told()
    assert "--instance-connect --user '%r'" in words[1]
    folder = home / "state" / "ssmtunneld" / "ssh"
    assert f'IdentityFile="{folder}/%r@{TARGET}/key"' in words
    assert "IdentitiesOnly=yes" in words
    assert not any("dpass" in word for word in words), "the key is needed for longer"


def test_a_configuration_is_passed_on(told, capfd):
    assert call(capfd, "ssh", "-c", "/a b/c.toml", TARGET)[0] == 9
    assert "--config '/a b/c.toml'" in told()[1]


@pytest.mark.parametrize("name", ["web-1", "-oProxyCommand=evil", "a@b@c"])
def test_what_is_no_target_never_reaches_ssh(told, name, capfd):
    words = ("--", name) if name.startswith("-") else (name,)
    code = call(capfd, "ssh", *words)[0]
    assert code == 2
    with pytest.raises(FileNotFoundError):
        told()


def test_without_ssh_nothing_can_be_done(home, monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(home))
    code, _, err = call(capfd, "ssh", TARGET)
    assert (code, "install OpenSSH" in err) == (127, True)


def test_words_survive_ssh_and_a_shell():
    assert proxy_command(["a b", "50%"]) == "'a b' 50%%"
    assert host_name("name:web-1") == "name-web-1"
    assert host_name("ecs:prod/api") == "ecs-prod-api"
