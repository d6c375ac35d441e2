"""Command lines as they stand in READMEs, scripts and aliases."""

import pytest

from ssmtunneld.importing.commands import parse_parameters, read_commands

ID = "i-0123456789abcdef0"
HOST = "orders.cluster-abc.eu-west-1.rds.amazonaws.com"

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
        ("--document-name AWS-StartPortForwardingSession", "has no --target"),
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
            "$PORT is not a fixed port number",
        ),
        ("--target $(cat id) --document-name D", "target is a command substitution"),
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
        "no localPortNumber: it listens on 10080",
    ]
    assert found.tunnels[0].settings["listen"] == 10080


def test_a_quote_that_never_ends_is_said():
    found = read_commands(f"aws ssm start-session --target '{ID}\n")
    assert found.tunnels == []
    assert "cannot be read" in found.notes[0].text


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
