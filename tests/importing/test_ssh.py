"""Hosts of ssh configurations, as AWS's and others' guides write them."""

import pytest

from ssmtunneld.importing.ssh import read_ssh_config

ID = "i-0123456789abcdef0"
AWS = (
    'sh -c "aws ssm start-session --target %h --document-name AWS-StartSSHSession '
    "--parameters 'portNumber=%p'\""
)

EXAMPLES = {
    "AWS's own block, and a host with a forward": (
        f"""# SSH over Session Manager
Host i-* mi-*
    ProxyCommand {AWS}

Host bastion
    HostName {ID}
    User ec2-user
    ProxyCommand {AWS}
    LocalForward 5432 orders.internal:5432
""",
        {
            "bastion": {
                "target": ID,
                "listen": 5432,
                "host": "orders.internal",
                "port": 5432,
            }
        },
        [(2, "Host i-* is a pattern"), (2, "Host mi-* is a pattern")],
    ),
    "several forwards, with profile and region": (
        f"""Host jump
  HostName {ID}
  ProxyCommand aws --profile prod --region eu-west-1 ssm start-session --target %h \
--document-name AWS-StartSSHSession --parameters portNumber=%p
  LocalForward 127.0.0.1:8080 localhost:80
  LocalForward [::1]:6379 cache.internal:6379
  DynamicForward 1080
  RemoteForward 9000 localhost:9000
""",
        {
            "jump-1": {
                "target": ID,
                "profile": "prod",
                "region": "eu-west-1",
                "listen": 8080,
                "port": 80,
            },
            "jump-2": {
                "target": ID,
                "profile": "prod",
                "region": "eu-west-1",
                "listen": "[::1]:6379",
                "host": "cache.internal",
                "port": 6379,
            },
            "jump-3": {
                "target": ID,
                "profile": "prod",
                "region": "eu-west-1",
                "listen": 1080,
                "mode": "socks5",
                "destinations": ["*:*"],
            },
        },
        [(6, "jump-3 lets clients name any"), (7, "RemoteForward is not supported")],
    ),
    "a host that only logs in": (
        f"""Host web
  HostName {ID}
  Port 2200
  ProxyCommand {AWS}
""",
        {"web": {"target": ID, "listen": 2222, "port": 2200}},
        [(1, "Host web only logs in: ssmtunneld ssh")],
    ),
    "options that come from a block for many": (
        f"""Host prod-db prod-cache
  HostName={ID}
Host prod-*  !prod-old
  ProxyCommand={AWS}
Host prod-db
  LocalForward=5432 db.internal:5432
Host prod-cache
  LocalForward 6379 cache.internal:6379
Host prod-old
  LocalForward 1 a:1
""",
        {
            "prod-db": {
                "target": ID,
                "listen": 5432,
                "host": "db.internal",
                "port": 5432,
            },
            "prod-cache": {
                "target": ID,
                "listen": 6379,
                "host": "cache.internal",
                "port": 6379,
            },
        },
        [(3, "Host prod-* is a pattern")],
    ),
    "hosts without Session Manager are none of ours": (
        f"""Host *
  ServerAliveInterval 30
Host github.com
  LocalForward 1 a:1
Host other
  ProxyCommand nc %h %p
  LocalForward 2 b:2
Match host x
  ProxyCommand {AWS}
Host ours
  ProxyCommand aws ssm start-session --target {ID} --document-name AWS-StartSSHSession
  LocalForward /tmp/sock /run/docker.sock
""",
        {},
        [
            (8, "Match host x is not followed: its options are left out"),
            (12, "/tmp/sock /run/docker.sock has no fixed port to listen on"),
        ],
    ),
    "a profile in front of the command": (
        f"""Host dev
  HostName {ID}
  ProxyCommand sh -c "AWS_PROFILE=dev AWS_REGION=eu-west-1 {AWS[7:]}
  LocalForward 5432 db.internal:5432
""",
        {
            "dev": {
                "target": ID,
                "profile": "dev",
                "region": "eu-west-1",
                "listen": 5432,
                "host": "db.internal",
                "port": 5432,
            }
        },
        [],
    ),
    "a profile by env, an instance looked up by the host's name": (
        """Host bastion
  ProxyCommand bash -c "env AWS_PROFILE=prod aws ssm start-session --target \
$(aws ec2 describe-instances --filters Name=tag:Name,Values=%h --output text) \
--document-name AWS-StartSSHSession --parameters portNumber=%p"
  LocalForward 8080 localhost:80
""",
        {
            "bastion": {
                "target": "tag:Name=bastion",
                "profile": "prod",
                "listen": 8080,
                "port": 80,
            }
        },
        [],
    ),
    "other files, and conditions": (
        f"""Include config.d/*
Match user ec2-user exec "test -e /tmp/x"
  ProxyCommand {AWS}
Host web
  Include web.conf
  HostName {ID}
  ProxyCommand {AWS}
  LocalForward 8080 localhost:80
Match all
  ServerAliveInterval 30
""",
        {"web": {"target": ID, "listen": 8080, "port": 80}},
        [
            (1, "Include config.d/* is not followed: import that file too"),
            (2, 'Match user ec2-user exec "test -e /tmp/x" is not followed'),
            (5, "Include web.conf is not followed"),
            (9, "Match all is not followed"),
        ],
    ),
    "what only a shell knows": (
        """Host a
  ProxyCommand sh -c "aws ssm start-session --target $(cat ~/.id) --profile x"
Host b
  ProxyCommand sh -c "aws ssm start-session --target %h --profile $TEAM"
  LocalForward 8080 localhost:80
  LocalForward 8081 localhost:81
Host c
  ProxyCommand sh -c "aws ssm start-session --target %h
""",
        {
            "b-1": {"target": "b", "profile": "${TEAM}", "listen": 8080, "port": 80},
            "b-2": {"target": "b", "profile": "${TEAM}", "listen": 8081, "port": 81},
        },
        [
            (2, "Host a: target is a command substitution, $(cat ~/.id)"),
            (4, "TEAM is not set in this file"),
            (8, "Host c: its ProxyCommand cannot be read"),
        ],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_real_configuration_becomes_what_a_person_would_write(name):
    text, expected, notes = EXAMPLES[name]
    found = read_ssh_config(text).settled()
    assert {tunnel.name: tunnel.settings for tunnel in found.tunnels} == expected
    assert len(found.notes) == len(notes), found.notes
    for note, (line, words) in zip(found.notes, notes, strict=True):
        assert (note.line, words in note.text) == (line, True), note


def test_a_forward_without_a_destination_is_said():
    found = read_ssh_config(
        f"Host a\n HostName {ID}\n ProxyCommand {AWS}\n LocalForward 1\n"
        " LocalForward 2 nowhere\n"
    )
    assert [note.text for note in found.notes] == [
        "1 has no host and port",
        "2 nowhere has no host and port",
    ]
