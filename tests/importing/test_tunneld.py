"""tunneld's files, as its README has them."""

import pytest

from ssmtunneld.importing.tunneld import read_tunneld

README = """\
[daemon]
watch = true

[[tunnels]]
name = "prod"
host = "prod"                  # ~/.ssh/config alias or hostname
enabled = true
user = "root"
ssh_options = ["Compression=yes"]
forwards = [
  { label = "postgres", local = 5432, remote = 5432 },
  { label = "service_b", local = 4321, remote = "db.internal:4321" },
  { local = "127.0.0.1:9090", remote = "metrics.internal:9090" },
]
proxy = [{ label = "browser", local = 1080 }]
remote_forwards = [{ remote = 9000, local = 9000 }]

[[tunnels]]
name = "old"
host = "old"
enabled = false
"""


def test_the_readme_becomes_four_tunnels():
    found = read_tunneld(README).settled()
    assert {tunnel.name: tunnel.settings for tunnel in found.tunnels} == {
        "postgres": {"listen": 5432, "port": 5432},
        "service_b": {"listen": 4321, "host": "db.internal", "port": 4321},
        "prod-metrics": {
            "listen": "127.0.0.1:9090",
            "host": "metrics.internal",
            "port": 9090,
        },
        "browser": {"listen": 1080, "mode": "socks5", "destinations": ["*:*"]},
    }
    assert [(note.line, note.text) for note in found.notes] == [
        (5, "prod: prod is a host of ssh: name a target instead"),
        (5, "prod: user, ssh_options apply to ssh only, and are left out"),
        (5, "browser lets clients name any destination: restrict destinations"),
        (
            5,
            "prod: remote_forwards are not supported: sessions do not forward back",
        ),
        (19, "old is not enabled, and is left out"),
    ]


def test_a_host_that_is_an_instance_is_the_target():
    found = read_tunneld(
        '[[tunnels]]\nname = "a"\nhost = "i-0123456789abcdef0"\n'
        'forwards = [{ local = 1, remote = "[fd00::5]:2" }, { local = 3 }]\n'
    )
    assert found.tunnels[0].settings == {
        "listen": 1,
        "target": "i-0123456789abcdef0",
        "host": "fd00::5",
        "port": 2,
    }
    assert "has no destination" in found.notes[0].text


def test_what_is_no_toml_is_said():
    with pytest.raises(ValueError, match="is not TOML"):
        read_tunneld("[[tunnels")
