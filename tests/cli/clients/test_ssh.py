"""ssh goes to the tunnel under the real name; real ones are an interop test."""

from ssmtunneld.cli.clients.ssh import prepare
from tests.cli.clients.conftest import task

OPTIONS = {
    "HostName": "127.0.1.2",
    "Port": "15432",
    "CheckHostIP": "no",
    "ProxyCommand": "none",
}


def prepared(*arguments, **settings):
    """Return ssh's options by name, and the other words."""
    program, *words = prepare(task("ssh", "ssh", *arguments, **settings)).words
    assert program == "ssh"
    options = {}
    while words[0] == "-o":
        _, option, *words = words
        key, _, value = option.partition("=")
        options[key] = value
    return options, words


def test_the_real_name_is_what_ssh_and_known_hosts_know():
    options, words = prepared("uptime", "-a", host="web.x", port=22)
    assert options == {**OPTIONS, "HostKeyAlias": "web.x"}
    assert words == ["web.x", "uptime", "-a"]


def test_another_port_is_a_part_of_the_name():
    options, words = prepared(host="web.x", port=2222)
    assert (options["HostKeyAlias"], words) == ("[web.x]:2222", ["web.x"])


def test_the_target_is_called_as_ssmtunneld_ssh_calls_it():
    options, words = prepared(target="tag:Role=bastion", port=22)
    assert (options["HostKeyAlias"], words) == (
        "tag-Role-bastion",
        ["tag-Role-bastion"],
    )
    options, _ = prepared(document="AWS-StartSSHSession", port=22)
    assert options["HostKeyAlias"] == "i-0123456789abcdef0"


def test_a_pushed_key_is_the_one_that_is_offered(tmp_path):
    key = tmp_path / "50% of mine.pub"
    key.touch()
    settings = {"instance_connect": True, "instance_connect_user": "ubuntu"}
    options, words = prepared(port=22, instance_connect_key=str(key), **settings)
    assert options["IdentityFile"] == f'"{tmp_path}/50%% of mine"'
    assert options["IdentitiesOnly"] == "yes"
    assert words[:2] == ["-l", "ubuntu"]
    _, words = prepared(port=22, user="me", **settings)
    assert words[:2] == ["-l", "me"]
