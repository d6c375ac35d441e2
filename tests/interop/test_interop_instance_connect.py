"""EC2 Instance Connect: ssh logs in although nobody has put a key on the instance.

The sshd asks the emulator for keys, as one on a real instance asks its metadata
service. Real ssh runs the real ``ssmtunneld proxy`` by what ``ssh-config`` has written.
"""

import getpass
import os
import stat
import subprocess
import sys
import time

import pytest

from tests.interop import servers
from tests.interop.conftest import TARGET, tunnel_table
from tests.interop.programs import (
    aws_environment,
    run,
)
from tests.interop.servers import find
from tests.support.ports import free_port

PATIENCE = 60
PROGRAM = (sys.executable, "-m", "ssmtunneld")
USER = getpass.getuser()

pytestmark = pytest.mark.skipif(
    find("sshd") is None or find("ssh") is None or find("curl") is None,
    reason="OpenSSH or curl is not installed",
)


@pytest.fixture(scope="module")
def instance(emulator, tmp_path_factory):
    """An sshd that knows no key but those that were pushed for its instance."""
    command = f"{find('curl')} -sf {emulator.endpoint}/_emulator/keys/{TARGET}/%u"
    authorized = f"""
        AuthorizedKeysFile none
        AuthorizedKeysCommand {command}
        AuthorizedKeysCommandUser {USER}
    """
    with servers.sshd(tmp_path_factory.mktemp("instance"), authorized) as server:
        yield server


@pytest.fixture
def home(tmp_path):
    """A home without any key."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def environ(emulator, home):
    """Return the environment of the user's shell, which leads to the emulator."""
    return aws_environment(
        emulator.endpoint,
        HOME=str(home),
        XDG_STATE_HOME=str(home / "state"),
        # Neither a configuration of this user's nor a daemon of theirs.
        XDG_CONFIG_HOME=os.devnull,
    )


def options(home, *others):
    """Return what ssh needs beside the written file: no key and no agent of ours."""
    chosen = (
        "BatchMode=yes",
        "IdentityAgent=none",
        "StrictHostKeyChecking=accept-new",
        f"UserKnownHostsFile={home / 'known_hosts'}",
        "GlobalKnownHostsFile=/dev/null",
        *others,
    )
    written = home / ".ssh" / "ssmtunneld.conf"
    return ["-F", str(written), *(word for o in chosen for word in ("-o", o))]


def write_config(environ, *more):
    run(*PROGRAM, "ssh-config", "--write", *more, env=environ)


def attempt(argv, environ):
    return subprocess.run(
        argv,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def keys_of(home):
    return home / "state" / "ssmtunneld" / "ssh"


def wait_until_there_is_no_key(home):
    """Return once every key is deleted, which ssh does not wait for."""
    deadline = time.perf_counter() + PATIENCE
    while any(keys_of(home).iterdir()):
        assert time.perf_counter() < deadline, list(keys_of(home).rglob("*"))


def test_ssh_logs_in_with_a_key_that_was_made_for_it(instance, environ, emulator, home):
    write_config(environ, "--instance-connect")
    folder = keys_of(home) / f"{USER}@{TARGET}"
    # The instance is this machine: a command can look at what its client has.
    look = f"stat -c %a {folder}/key; cat {folder}/key; cat /proc/[0-9]*/cmdline"
    argv = [find("ssh"), *options(home, f"Port={instance.port}", "LogLevel=DEBUG3")]
    result = attempt([*argv, f"{USER}@{TARGET}", look], environ)
    assert result.returncode == 0, result.stderr
    mode, _, rest = result.stdout.partition("\n")
    assert int(mode, 8) == stat.S_IRUSR | stat.S_IWUSR
    key, _, command_lines = rest.rpartition("-----END OPENSSH PRIVATE KEY-----")
    secret = key.split()[4:]
    assert len(secret) > 3
    assert "instance-connect" in command_lines
    said = [result.stderr, emulator.program.log(), instance.program.log()]
    assert not any(line in text for line in secret for text in [command_lines, *said])
    wait_until_there_is_no_key(home)


def test_the_key_opens_nothing_but_the_login_that_was_asked_for(
    instance, environ, home
):
    write_config(environ, "--instance-connect")
    proxy = " ".join([*PROGRAM, "proxy", "--instance-connect", "--user other %h %p"])
    more = [f"Port={instance.port}", f"ProxyCommand={proxy}"]
    result = attempt(
        [find("ssh"), *options(home, *more), f"{USER}@{TARGET}", "true"], environ
    )
    assert (result.returncode, "Permission denied" in result.stderr) == (255, True)


def test_one_command_logs_in_without_a_file_or_a_key(instance, environ, home):
    chosen = ("BatchMode=yes", "IdentityAgent=none", "StrictHostKeyChecking=accept-new")
    known = f"UserKnownHostsFile={home / 'known_hosts'}"
    words = ["-F", "none", *(word for o in (*chosen, known) for word in ("-o", o))]
    target = ("-p", str(instance.port), f"{USER}@{TARGET}")
    argv = [*PROGRAM, "ssh", "--instance-connect", *target, "--", *words, "exit 7"]
    result = attempt(argv, environ)
    assert result.returncode == 7, result.stderr
    assert not (home / ".ssh").exists()
    wait_until_there_is_no_key(home)


def test_without_it_nobody_logs_in(instance, environ, home):
    write_config(environ)
    more = options(home, f"Port={instance.port}", "IdentityFile=none")
    result = attempt([find("ssh"), *more, f"{USER}@{TARGET}", "true"], environ)
    assert (result.returncode, "Permission denied" in result.stderr) == (255, True)


def test_many_logins_at_once_and_in_a_row_share_what_they_can(
    instance, environ, emulator, home
):
    write_config(environ, "--instance-connect")
    pushes = emulator.program.log().count("SendSSHPublicKey")
    argv = [find("ssh"), *options(home, f"Port={instance.port}")]
    argv += [f"{USER}@{TARGET}", "true"]
    for _ in range(2):
        together = [
            subprocess.Popen(
                argv,
                env=environ,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        for ssh in together:
            _, said = ssh.communicate(timeout=PATIENCE)
            assert ssh.returncode == 0, said
    assert 1 <= emulator.program.log().count("SendSSHPublicKey") - pushes < 6
    wait_until_there_is_no_key(home)


def test_a_tunnel_lets_the_key_of_its_configuration_in(
    instance, environ, home, daemon, tmp_path
):
    key = tmp_path / "work"
    run(find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key)
    settings = tunnel_table(
        "bastion",
        free_port(),
        instance.port,
        probe="banner:SSH-",
        instance_connect=True,
        instance_connect_user=USER,
        instance_connect_key=f"{key}.pub",
    )
    program = daemon(settings)
    (tmp_path / "config.toml").write_text(settings)
    write_config(environ, "--config", tmp_path / "config.toml")
    argv = [find("ssh"), *options(home), "bastion", "echo hello"]
    assert run(*argv, env=environ) == "hello\n"
    # Nobody needs the written file: the tunnel sees a connection, and that is enough.
    plain = [find("ssh"), *options(home, f"IdentityFile={key}"), "-p"]
    port = settings.partition("127.0.0.1:")[2].partition('"')[0]
    assert run(*plain, port, f"{USER}@127.0.0.1", "echo", "hi", env=environ) == "hi\n"
    assert "key.push_failed" not in program.log()
