"""Command lines as they stand in READMEs, scripts and aliases."""

import pytest

from ssmtunneld.importing.commands import parse_parameters, read_commands

ID = "i-0123456789abcdef0"
HOST = "orders.cluster-abc.eu-west-1.rds.amazonaws.com"
WEB = (
    "--document-name AWS-StartPortForwardingSession "
    "--parameters portNumber=80,localPortNumber=8080"
)
WEB_TUNNEL = {"target": ID, "listen": 8080, "port": 80}

EXAMPLES = {
    "AWS's own for a port of the instance": (
        f"""aws ssm start-session \\
    --target {ID} \\
    --document-name AWS-StartPortForwardingSession \\
    --parameters '{{"portNumber":["80"], "localPortNumber":["56789"]}}'
""",
        {"port-80": {"target": ID, "listen": 56789, "port": 80}},
    ),
    "AWS's own for a remote host": (
        f"""aws ssm start-session --target {ID} \
--document-name AWS-StartPortForwardingSessionToRemoteHost \
--parameters '{{"host":["{HOST}"],"portNumber":["3306"],"localPortNumber":["3306"]}}'
""",
        {"orders": {"target": ID, "listen": 3306, "host": HOST, "port": 3306}},
    ),
    "shorthand": (
        f"""aws ssm start-session --target {ID} --region eu-west-1 --profile prod \
--document-name AWS-StartPortForwardingSessionToRemoteHost \
--parameters host="{HOST}",portNumber="5432",localPortNumber="15432"
""",
        {
            "orders": {
                "target": ID,
                "region": "eu-west-1",
                "profile": "prod",
                "listen": 15432,
                "host": HOST,
                "port": 5432,
            }
        },
    ),
    "shorthand with lists, options before the service": (
        f"""aws --profile dev --region us-east-1 ssm start-session --target={ID} \
--document-name=AWS-StartPortForwardingSession \
--parameters portNumber=['3389'],localPortNumber=['9999']
""",
        {
            "port-3389": {
                "profile": "dev",
                "region": "us-east-1",
                "target": ID,
                "listen": 9999,
                "port": 3389,
            }
        },
    ),
    "an alias": (
        f"""alias orders-db='AWS_PROFILE=prod aws ssm start-session --target {ID} \
--document-name AWS-StartPortForwardingSessionToRemoteHost \
--parameters host={HOST},portNumber=5432,localPortNumber=5432'
""",
        {
            "orders-db": {
                "profile": "prod",
                "target": ID,
                "listen": 5432,
                "host": HOST,
                "port": 5432,
            }
        },
    ),
    "a script that looks its bastion up by a tag": (
        f"""#!/usr/bin/env bash
set -euo pipefail
# aws ssm start-session --target i-old
BASTION=$(aws ec2 describe-instances --query 'x' --output text)
aws ssm start-session \\
  --target "$(aws ec2 describe-instances \\
      --filters "Name=tag:Name,Values=bastion" \\
      "Name=instance-state-name,Values=running" \\
      --query 'Reservations[0].Instances[0].InstanceId' --output text)" \\
  --document-name AWS-StartPortForwardingSessionToRemoteHost \\
  --parameters "{{\\"host\\":[\\"{HOST}\\"],\\"portNumber\\":[\\"5432\\"],\
\\"localPortNumber\\":[\\"5432\\"]}}" &
""",
        {
            "orders": {
                "target": "tag:Name=bastion",
                "listen": 5432,
                "host": HOST,
                "port": 5432,
            }
        },
    ),
    "variables of the environment": (
        """aws ssm start-session --target "$BASTION_ID" --region ${REGION} \
--document-name AWS-StartPortForwardingSessionToRemoteHost \
--parameters '{"host":["'$DB_HOST'"],"portNumber":["5432"],"localPortNumber":["5432"]}'
""",
        {
            "db_host": {
                "target": "${BASTION_ID}",
                "region": "${REGION}",
                "listen": 5432,
                "host": "${DB_HOST}",
                "port": 5432,
            }
        },
    ),
    "several in a file, one after the other": (
        f"""
aws ssm start-session --target {ID} --document-name AWS-StartPortForwardingSession \
--parameters portNumber=8080,localPortNumber=8080 & \
aws ssm start-session --target {ID} \
--document-name AWS-StartPortForwardingSession --parameters portNumber=8080,\
localPortNumber=8080
""",
        {
            "port-8080": {"target": ID, "listen": 8080, "port": 8080},
            "port-8080-2": {"target": ID, "listen": 8081, "port": 8080},
        },
    ),
    "an ECS task": (
        "aws ssm start-session --target ecs:prod_0123456789abcdef_0123456789abcdef-123 "
        "--document-name AWS-StartPortForwardingSession "
        "--parameters 'portNumber=80,localPortNumber=8000'",
        {
            "port-80": {
                "target": "ecs:prod_0123456789abcdef_0123456789abcdef-123",
                "listen": 8000,
                "port": 80,
            }
        },
    ),
    "a document of one's own, with a reason": (
        f"aws ssm start-session --target {ID} --document-name Our-Database "
        "--reason 'look at orders' --parameters stage=prod,localPortNumber=5432",
        {
            "port-our-database": {
                "target": ID,
                "reason": "look at orders",
                "listen": 5432,
                "document": "Our-Database",
                "parameters": {"stage": ["prod"]},
            }
        },
    ),
    "through aws-vault": (
        f"aws-vault exec prod -- aws ssm start-session --target {ID} "
        "--document-name AWS-StartPortForwardingSession "
        "--parameters portNumber=22,localPortNumber=2222",
        {"port-22": {"profile": "prod", "target": ID, "listen": 2222, "port": 22}},
    ),
    "a profile in front, in bash -c": (
        f'bash -c "AWS_PROFILE=prod aws ssm start-session --target {ID} {WEB}"',
        {"port-80": {"profile": "prod", **WEB_TUNNEL}},
    ),
    "a profile and a region in front, in a session of tmux": (
        f"tmux new -d -s db 'AWS_PROFILE=prod AWS_REGION=eu-west-1 aws ssm "
        f"start-session --target {ID} {WEB}'",
        {"port-80": {"profile": "prod", "region": "eu-west-1", **WEB_TUNNEL}},
    ),
    "in front, by env and nohup, in the background": (
        f"env AWS_PROFILE=dev AWS_DEFAULT_REGION=us-east-1 nohup aws ssm start-session "
        f"--target {ID} {WEB} </dev/null &>/tmp/tunnel.log & disown",
        {"port-80": {"profile": "dev", "region": "us-east-1", **WEB_TUNNEL}},
    ),
    "an option counts before what stands in front": (
        f"AWS_PROFILE=dev AWS_DEFAULT_REGION=b AWS_REGION=a aws ssm start-session "
        f"--profile prod --target {ID} {WEB}",
        {"port-80": {"profile": "prod", "region": "a", **WEB_TUNNEL}},
    ),
    "an alias as zsh lists it": (
        f"web='AWS_PROFILE=prod aws ssm start-session --target {ID} {WEB}'",
        {"web": {"profile": "prod", **WEB_TUNNEL}},
    ),
    "exported before": (
        f"""#!/bin/bash
export AWS_PROFILE=prod AWS_REGION=eu-central-1
INSTANCE={ID}
aws ssm start-session --target $INSTANCE {WEB} > /dev/null 2>&1 &
unset AWS_PROFILE
aws ssm start-session --target "${{INSTANCE}}" --region us-east-1 {WEB}
""",
        {
            "port-80": {"profile": "prod", "region": "eu-central-1", **WEB_TUNNEL},
            "port-80-2": {"region": "us-east-1", **WEB_TUNNEL, "listen": 8081},
        },
    ),
    "everything in variables": (
        f"""
declare -r DB_HOST={HOST}
REMOTE_PORT=5432
LOCAL_PORT=1$REMOTE_PORT
AWS_PROFILE=prod
aws ssm start-session \\
  --target {ID} --document-name AWS-StartPortForwardingSessionToRemoteHost \\
  --parameters "{{\\"host\\":[\\"$DB_HOST\\"],\\"portNumber\\":[\\"$REMOTE_PORT\\"],\\
\\"localPortNumber\\":[\\"$LOCAL_PORT\\"]}}"
""",
        {
            "orders": {
                "profile": "prod",
                "target": ID,
                "listen": 15432,
                "host": HOST,
                "port": 5432,
            }
        },
    ),
    "a bastion looked up before": (
        f"""BASTION=`aws ec2 describe-instances --output text \\
  --filters "Name=tag:Role,Values=bastion" \\
  --query 'Reservations[].Instances[].InstanceId'`
aws ssm start-session --target "$BASTION" {WEB}
""",
        {"port-80": {**WEB_TUNNEL, "target": "tag:Role=bastion"}},
    ),
    "options in an array, and a command in a variable": (
        f"""OPTIONS=(--target {ID} --region eu-west-1)
OPTIONS+=(--profile prod)
AWS="aws --no-cli-pager"
$AWS ssm start-session "${{OPTIONS[@]}}" {WEB}
""",
        {"port-80": {"profile": "prod", "region": "eu-west-1", **WEB_TUNNEL}},
    ),
    "an assignment in a subshell ends with it": (
        f"""(export AWS_PROFILE=a; aws ssm start-session --target {ID} {WEB}) &
aws ssm start-session --target {ID} {WEB}
""",
        {
            "port-80": {"profile": "a", **WEB_TUNNEL},
            "port-80-2": {**WEB_TUNNEL, "listen": 8081},
        },
    ),
    "several lines in one quote": (
        f"""sh -c '
  export AWS_PROFILE=prod
  aws ssm start-session --target {ID} {WEB} &
  wait
'
""",
        {"port-80": {"profile": "prod", **WEB_TUNNEL}},
    ),
    "AWS's own image": (
        f"docker run --rm -it --network host -v /etc/aws:/aws -e AWS_PROFILE=prod "
        f"amazon/aws-cli:latest --no-verify-ssl ssm start-session --target {ID} {WEB}",
        {"port-80": {"profile": "prod", **WEB_TUNNEL}},
    ),
    "an image of one's own, which is passed a profile": (
        f"""export AWS_PROFILE=prod AWS_REGION=eu-west-1
podman run --rm --env AWS_PROFILE --entrypoint aws tools/ssm:1 --no-cli-pager \\
  ssm start-session --target {ID} {WEB}
""",
        {"port-80": {"profile": "prod", **WEB_TUNNEL}},
    ),
    "a unit of systemd": (
        f"""[Service]
Environment=AWS_PROFILE=prod "AWS_REGION=eu-west-1"
ExecStart=/usr/bin/aws ssm start-session --target {ID} {WEB}
""",
        {"port-80": {"profile": "prod", "region": "eu-west-1", **WEB_TUNNEL}},
    ),
    "a Makefile": (
        f"""web:
\t@aws ssm start-session --profile prod --target {ID} {WEB}
""",
        {"port-80": {"profile": "prod", **WEB_TUNNEL}},
    ),
    "notes in Markdown": (
        f"""Start it with `aws ssm start-session --target {ID} {WEB}` or
```bash
AWS_PROFILE=prod aws ssm start-session --target {ID} {WEB}
```
""",
        {
            "port-80": WEB_TUNNEL,
            "port-80-2": {"profile": "prod", **WEB_TUNNEL, "listen": 8081},
        },
    ),
    "PowerShell's line ends": (
        f"aws ssm start-session `\r\n  --target {ID} `\r\n  {WEB}\r\n",
        {"port-80": WEB_TUNNEL},
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_real_command_becomes_what_a_person_would_write(name):
    text, expected = EXAMPLES[name]
    found = read_commands(text).settled()
    assert {tunnel.name: tunnel.settings for tunnel in found.tunnels} == expected


@pytest.mark.parametrize(
    ("rest", "note"),
    [
        (f"--target {ID}", "this is a shell, not a tunnel: see ssmtunneld ssh"),
        (
            "--document-name AWS-StartPortForwardingSession",
            "no tunnel: this start-session has no --target",
        ),
        (
            f"--target {ID} --document-name AWS-StartPortForwardingSession",
            "needs portNumber",
        ),
        (
            f"--target {ID} --document-name D --parameters file://x.json",
            "--parameters are in file://x.json",
        ),
        (f"--target {ID} --document-name D --parameters '{{x'", "are not JSON"),
        (f"--target {ID} --document-name D --parameters '!'", "cannot be read: !"),
        (
            f"--target {ID} --document-name D --parameters portNumber=$PORT",
            "no tunnel: portNumber is $PORT: write a line with the number for each",
        ),
        ("--target $(cat id) --document-name D", "target is a command substitution"),
        (
            "--target `cat id` --document-name D",
            "target is a command substitution, `cat id`: write",
        ),
        (
            f"--target {ID} --document-name D --profile $(who)",
            "profile is a command substitution, $(who): write what it prints",
        ),
        (
            f"--target {ID} --document-name D --parameters localPortNumber=$(free a,b)",
            "no tunnel: localPortNumber is $(free a,b): write a line",
        ),
        (
            f"--target {ID} --document-name D --parameters localPortNumber=`free`",
            "no tunnel: localPortNumber is `free`: write a line",
        ),
        (
            "--target $1 --document-name D",
            "target is $1, known only when the script runs",
        ),
        (
            f"--target {ID} --document-name D --parameters stage=$STAGE",
            "stage is ${STAGE}, but takes no variables",
        ),
    ],
)
def test_what_has_no_equivalent_is_said_with_its_line(rest, note):
    found = read_commands(f"\n\naws ssm start-session {rest}\n")
    assert found.tunnels == []
    assert [n.line for n in found.notes] == [3]
    assert note in found.notes[0].text


def test_what_is_left_out_is_said_beside_the_tunnel():
    document = "--document-name AWS-StartPortForwardingSession"
    found = read_commands(
        f"aws-vault exec dev -- aws ssm start-session --target {ID} {document} "
        "--no-verify-ssl --debug --output json --parameters portNumber=80"
    )
    assert [note.text for note in found.notes] == [
        "--no-verify-ssl has no equivalent and is left out",
        "aws-vault is left out: profile dev must have credentials",
        "no localPortNumber: it listens on 10080, or the next port that is free",
    ]
    assert found.tunnels[0].settings["listen"] == 10080


def test_a_quote_that_never_ends_is_said():
    found = read_commands(f"aws ssm start-session --target '{ID}\n")
    assert found.tunnels == []
    assert "cannot be read" in found.notes[0].text


def test_a_container_is_said_and_keeps_the_profile_of_the_script_outside():
    found = read_commands(
        "export AWS_PROFILE=prod\n"
        f"docker run --rm amazon/aws-cli ssm start-session --target {ID} {WEB}\n"
    )
    assert "profile" not in found.tunnels[0].settings
    assert [(note.line, note.text) for note in found.notes] == [
        (2, "docker is left out: the daemon opens the session itself")
    ]


def test_start_session_of_another_program_is_said():
    found = read_commands("x\nsomething ssm start-session --target i-1\n")
    assert found.tunnels == []
    assert [(note.line, note.text) for note in found.notes] == [
        (2, "start-session stands here, but the AWS CLI is not in front of it")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "aws ssm start-session " + '"$(' * 5000,
        "aws ssm start-session " + "$(" * 5000 + ")" * 5000,
        "$(aws ssm start-session " * 500 + ")" * 500,
        "A=xx\n" + "A=$A$A\n" * 100 + "aws ssm start-session --target $A",
        "aws ssm start-session --target \ue0009\ue001",
    ],
)
def test_no_text_is_too_deep(text):
    assert read_commands(text).tunnels == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ('{"a": "1", "b": ["2", 3]}', {"a": ["1"], "b": ["2", "3"]}),
        ("a=1,b=2", {"a": ["1"], "b": ["2"]}),
        ('a="1, 2",b=[3,"4"]', {"a": ["1, 2"], "b": ["3", "4"]}),
    ],
)
def test_parameters_are_json_or_shorthand(text, expected):
    assert parse_parameters(text) == expected
