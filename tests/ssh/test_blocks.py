"""What ssh is told."""

from ssmtunneld.ssh.blocks import HEADER, Door, render

TARGET = "i-0123456789abcdef0"


def test_one_block_leads_to_every_instance():
    assert render(["/opt/bin/ssmtunneld", "proxy"], []) == (
        f"{HEADER}\nHost i-* mi-*\n    ProxyCommand /opt/bin/ssmtunneld proxy %h %p\n"
    )


def test_a_path_is_quoted_for_the_shell_and_for_ssh():
    text = render(["/opt/my 100%/ssmtunneld", "proxy"], [])
    assert "ProxyCommand '/opt/my 100%%/ssmtunneld' proxy %h %p\n" in text


def test_a_tunnel_has_a_name_and_its_host_key_that_of_the_target():
    door = Door("web", TARGET, "localhost", "127.0.0.1:2222")
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
    door = Door("web", "name:it's", "localhost", "unix:/run/web")
    text = render(["s", "proxy"], [door])
    assert "    ProxyCommand s proxy 'name:it'\"'\"'s' %p\n" in text
    assert "HostName" not in text


def test_two_hosts_behind_one_target_have_two_aliases():
    assert Door("a", TARGET, "10.0.0.5", "").alias == f"10.0.0.5-via-{TARGET}"
    assert Door("a", "tag:a=b,tag:c=d e", "localhost", "").alias == "tag:a=b-tag:c=d-e"
