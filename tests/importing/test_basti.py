"""basti's files, as its own reference has them."""

import pytest

from ssmtunneld.importing.basti import read_basti

REFERENCE = """\
# - Connections are used with the `basti connect <connection>` command
connections:
  database-dev:
    target:
      rdsInstance: my-dev-database
      awsProfile: dev
    localPort: 5432

  redis-cache-dev:
    target:
      elasticacheRedisCluster: my-dev-cache
    localPort: 6379

  # Same target but with different local port
  custom-target-local:
    target: custom-target
    localPort: 4646
targets:
  custom-target:
    customTargetVpc: vpc-1234567890
    customTargetHost: 10.0.1.1
    customTargetPort: 4646
    awsProfile: prod
    awsRegion: us-east-1
"""


def test_the_reference_becomes_a_tunnel_and_two_lines():
    found = read_basti(REFERENCE).settled()
    assert {tunnel.name: tunnel.settings for tunnel in found.tunnels} == {
        "custom-target-local": {
            "listen": 4646,
            "profile": "prod",
            "region": "us-east-1",
            "host": "10.0.1.1",
            "port": 4646,
        }
    }
    assert [(note.line, note.text) for note in found.notes] == [
        (
            3,
            "connections.database-dev: basti looks up where my-dev-database is; "
            "ssmtunneld add database-dev --from-discover my-dev-database "
            "--profile dev --listen 5432 does that once",
        ),
        (
            9,
            "connections.redis-cache-dev: basti looks up where my-dev-cache is; "
            "ssmtunneld add redis-cache-dev --from-discover my-dev-cache "
            "--listen 6379 does that once",
        ),
    ]


def test_json_is_yaml_too_and_two_may_not_have_the_same_port():
    target = '{"customTargetHost": "db.internal", "customTargetPort": 5432}'
    found = read_basti(
        '{"connections": {"dev": {"target": T, "localPort": 5432}, "prod": '
        '{"target": T, "localPort": 5432}}}'.replace("T", target)
    ).settled()
    assert [tunnel.settings["listen"] for tunnel in found.tunnels] == [5432, 5433]
    assert found.notes[0].text == "prod listens on port 5433, because 5432 is taken"


@pytest.mark.parametrize(
    ("target", "note"),
    [
        ("nowhere", "there is no target nowhere"),
        ("{customTargetHost: x}", "its target has no host and port"),
        ("{customTargetHost: x, customTargetPort: 1, new: 2}", "new has no equivalent"),
    ],
)
def test_what_has_no_equivalent_is_said(target, note):
    found = read_basti(f"connections:\n  a:\n    target: {target}\n")
    assert note in found.notes[0].text


@pytest.mark.parametrize("text", ["connections: [", '{"connections": '])
def test_what_is_no_yaml_is_said(text):
    with pytest.raises(ValueError, match="is not YAML"):
        read_basti(text)
