"""The output of ``ssh-config``, as real ssh reads it."""

import getpass
import os
import sys

import pytest

from tests.interop import servers
from tests.interop.conftest import TARGET
from tests.interop.programs import (
    environment,
    run,
)
from tests.interop.servers import find
from tests.support.ports import free_port

PROGRAM = (sys.executable, "-m", "ssmtunneld")
USER = getpass.getuser()

pytestmark = pytest.mark.skipif(find("ssh") is None, reason="OpenSSH is not installed")


@pytest.fixture
def home(tmp_path):
    """A home whose ssh configuration has something of its user's own.

    ssh looks for what it includes in the real home, whatever HOME is: so the line that
    includes our file is there, with its whole path.
    """
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ssh" / "config").write_text(
        f"Include {folder}/.ssh/ssmtunneld.conf\n\nHost *\n    User somebody\n"
    )
    return folder


@pytest.fixture
def environ(home):
    return environment(
        HOME=str(home), XDG_STATE_HOME=str(home / "state"), XDG_CONFIG_HOME=os.devnull
    )


def write(environ, *options):
    return run(*PROGRAM, "ssh-config", "--write", *options, env=environ)


def evaluate(home, environ, *words):
    """Return what ssh would do, by option."""
    argv = [find("ssh"), "-F", home / ".ssh" / "config", "-G", *words]
    lines = run(*argv, env=environ).splitlines()
    return dict(line.partition(" ")[::2] for line in lines)


def test_one_include_line_serves_all_instances_and_nothing_else(home, environ):
    theirs = (home / ".ssh" / "config").read_text()
    diff = write(environ, "--profile", "prod")
    assert "+Host i-* mi-*\n" in diff
    assert write(environ, "--profile", "prod") == ""
    assert (home / ".ssh" / "config").read_text() == theirs
    for target in (TARGET, "mi-0123456789abcdef0"):
        found = evaluate(home, environ, target)
        assert found["proxycommand"].endswith(" proxy --profile prod --fdpass %h %p")
        assert found["proxyusefdpass"] == "yes"
        assert (found["port"], found["user"]) == ("22", "somebody")
        assert "identitiesonly" not in found or found["identitiesonly"] == "no"
    assert evaluate(home, environ, "-p", "2022", TARGET)["port"] == "2022"
    assert "proxycommand" not in evaluate(home, environ, "www.example.com")


def test_a_key_for_each_login_is_for_instances_only(home, environ):
    write(environ, "--instance-connect")
    found = evaluate(home, environ, f"me@{TARGET}")
    key = home / "state" / "ssmtunneld" / "ssh" / f"me@{TARGET}" / "key"
    assert found["identityfile"] in {str(key), f"{key.parent.parent}/%r@%h/key"}
    assert found["identitiesonly"] == "yes"
    node = evaluate(home, environ, "me@mi-0123456789abcdef0")
    assert "instance-connect" not in node["proxycommand"]


@pytest.fixture
def two_servers(sshd, tmp_path):
    """Two sshd with different host keys."""
    with servers.sshd(tmp_path) as other:
        yield sshd, other


def test_host_keys_stay_with_their_targets_when_ports_are_exchanged(
    home, environ, daemon, two_servers, tmp_path
):
    local = [free_port(), free_port()]
    targets = ["i-00000000000000001", "i-00000000000000002"]
    argv = [find("ssh"), "-F", home / ".ssh" / "config"]
    for policy in ("accept-new", "yes"):
        tables = [
            f'[tunnels.{name}]\nlisten = {port}\ntarget = "{target}"\n'
            f'port = {server.port}\nprobe = "banner:SSH-"\n'
            for name, port, target, server in zip(
                "ab", local, targets, two_servers, strict=True
            )
        ]
        program = daemon("".join(tables))
        (tmp_path / "config.toml").write_text("".join(tables))
        write(environ, "--config", tmp_path / "config.toml")
        for name, server in zip("ab", two_servers, strict=True):
            chosen = (
                "BatchMode=yes",
                "IdentityAgent=none",
                f"IdentityFile={server.folder / 'user_key'}",
                f"UserKnownHostsFile={home / 'known_hosts'}",
                "GlobalKnownHostsFile=/dev/null",
                f"StrictHostKeyChecking={policy}",
            )
            words = [word for option in chosen for word in ("-o", option)]
            output = run(*argv, *words, f"{USER}@{name}", "echo", name, env=environ)
            assert output == f"{name}\n"
        assert program.stop() == 0
        local.reverse()
    known = (home / "known_hosts").read_text().splitlines()
    assert sorted(line.split()[0] for line in known) == [
        f"[{target}]:{server.port}"
        for target, server in zip(targets, two_servers, strict=True)
    ]
