"""Host blocks for ssh."""

import shlex
from pathlib import Path

import pytest

from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.ssh.config_blocks import HEADER, SshTunnel, render, split_address

TARGET = "i-0123456789abcdef0"


def test_one_block_leads_to_every_instance():
    assert render(["/opt/bin/ssmtunneld", "proxy"], []) == (
        f"{HEADER}\nHost i-* mi-*\n"
        "    ProxyCommand /opt/bin/ssmtunneld proxy --fdpass %h %p\n"
        "    ProxyUseFdpass yes\n"
    )


def test_programs_that_take_no_sockets_have_blocks_without():
    doors = [SshTunnel("web", TARGET, "localhost", "unix:/run/web")]
    text = render(["s", "proxy"], doors, passes=False)
    assert "ProxyCommand s proxy %h %p\n" in text
    assert f"ProxyCommand s proxy {TARGET} %p\n" in text
    assert "dpass" not in text


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:2222", ("127.0.0.1", 2222)),
        ("[::1]:22", ("::1", 22)),
        ("0.0.0.0:22", ("127.0.0.1", 22)),
        ("[::]:22", ("::1", 22)),
    ],
)
def test_an_address_is_taken_apart(address, place):
    assert split_address(address) == place


def test_a_path_is_quoted_for_the_shell_and_for_ssh():
    text = render(["/opt/my 100%/ssmtunneld", "proxy"], [])
    assert "ProxyCommand '/opt/my 100%%/ssmtunneld' proxy --fdpass %h %p\n" in text


def test_a_tunnel_has_a_name_and_its_host_key_that_of_the_target():
    door = SshTunnel("web", TARGET, "localhost", "127.0.0.1:2222")
    assert render(["s", "proxy"], [door]).endswith(
        f"""
Host web
    HostName 127.0.0.1
    Port 2222
    HostKeyAlias {TARGET}
    CheckHostIP no
"""
    )


def test_a_unix_socket_is_reached_through_the_proxy():
    door = SshTunnel("web", "name:it's", "localhost", "unix:/run/web")
    text = render(["s", "proxy"], [door])
    assert (
        "    ProxyCommand s proxy --fdpass 'name:it'\"'\"'s' %p\n    ProxyUseFdpass"
        in text
    )
    assert "HostName" not in text


def test_two_hosts_behind_one_target_have_two_aliases():
    assert SshTunnel("a", TARGET, "10.0.0.5", "").alias == f"10.0.0.5-via-{TARGET}"
    assert (
        SshTunnel("a", "tag:a=b,tag:c=d e", "localhost", "").alias
        == "tag:a=b-tag:c=d-e"
    )


def test_another_port_of_the_same_target_has_another_host_key():
    door = SshTunnel("a", TARGET, "localhost", "127.0.0.1:2223", 2022)
    # As ssh itself calls what it reaches by `ssh -p 2022 i-...`.
    assert door.alias == f"[{TARGET}]:2022"
    assert SshTunnel("a", TARGET, "10.0.0.5", "", 2022).alias == (
        f"[10.0.0.5-via-{TARGET}]:2022"
    )


def test_a_key_for_each_login_is_where_the_proxy_puts_it():
    text = render(["s", "proxy"], [], Path("/home/me/state/ssh"))
    assert (
        text
        == f"""{HEADER}
Host i-*
    ProxyCommand s proxy --instance-connect --user '%r' %h %p
    IdentityFile /home/me/state/ssh/%r@%h/key
    IdentitiesOnly yes

Host mi-*
    ProxyCommand s proxy --fdpass %h %p
    ProxyUseFdpass yes
"""
    )


def test_a_path_with_blanks_and_percent_signs_is_one_word():
    text = render(["s", "proxy"], [], Path("/home/my 100%"))
    assert '    IdentityFile "/home/my 100%%/%r@%h/key"\n' in text


def test_a_tunnel_that_pushes_a_key_says_whose_and_which():
    key = Path("/home/me/.ssh/work.pub")
    door = SshTunnel("a", TARGET, "localhost", "127.0.0.1:1", user="ubuntu", key=key)
    text = render(["s", "proxy"], [door])
    assert "    User ubuntu\n    IdentityFile /home/me/.ssh/work\n" in text


@pytest.mark.parametrize("name", ['a"b', "a\nb", "a\\b", "a\x1bb", "a\tb"])
def test_a_path_that_ssh_would_misread_is_refused(name):
    with pytest.raises(SsmtunneldError, match="cannot be written in ssh") as caught:
        render(["s", "proxy"], [], Path("/home") / name)
    assert "choose a path" in caught.value.advice
    assert "\n" not in str(caught.value)


def test_a_command_may_have_quotes_but_no_line_ends():
    text = render(["/opt/a\"b's/s", "proxy"], [])
    word = shlex.quote("/opt/a\"b's/s")
    assert f"ProxyCommand {word} proxy" in text
    with pytest.raises(SsmtunneldError):
        render(["s", "--config", "/a\nHost *"], [])


def test_a_name_that_would_begin_another_line_is_refused():
    with pytest.raises(SsmtunneldError):
        render(["s"], [SshTunnel("a\nHost *", TARGET, "localhost", "127.0.0.1:1")])


def test_a_path_with_a_sign_of_comments_is_quoted():
    text = render(["s", "proxy"], [], Path("/home/#1"))
    assert '    IdentityFile "/home/#1/%r@%h/key"\n' in text
