"""The AWS CLI, version 1: every operation of Session Manager, paged and filtered."""

import json

import pytest

from tests.interop.conftest import TARGET
from tests.interop.programs import run

DOCUMENT = "AWS-StartPortForwardingSession"


@pytest.fixture
def aws(client, environ):
    """Return a function that runs ``aws`` and returns its answer."""
    program = client("awscli") / "bin" / "aws"

    def call(*arguments):
        said = run(program, *arguments, "--output", "json", env=environ)
        return json.loads(said) if said.strip() else None

    return call


def started(environ):
    """Start a session without the plugin, which the CLI would want to run."""
    import boto3
    from botocore.config import Config

    ssm = boto3.client(
        "ssm",
        environ["AWS_REGION"],
        endpoint_url=environ["AWS_ENDPOINT_URL_SSM"],
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(proxies={}),
    )
    try:
        return ssm.start_session(Target=TARGET, DocumentName=DOCUMENT)["SessionId"]
    finally:
        ssm.close()


def test_sessions_are_listed_in_pages_resumed_and_ended(aws, environ):
    ids = {started(environ) for _ in range(3)}
    found = aws("ssm", "describe-sessions", "--state=Active", "--page-size=1")
    assert ids <= {session["SessionId"] for session in found["Sessions"]}
    one = min(ids)
    chosen = aws(
        "ssm",
        "describe-sessions",
        "--state=Active",
        "--filters",
        f"key=SessionId,value={one}",
    )
    assert [session["SessionId"] for session in chosen["Sessions"]] == [one]
    assert aws("ssm", "resume-session", "--session-id", one)["TokenValue"]
    for session_id in ids:
        ended = aws("ssm", "terminate-session", "--session-id", session_id)
        assert ended == {"SessionId": session_id}
    chosen = aws(
        "ssm",
        "describe-sessions",
        "--state=History",
        "--filters",
        f"key=SessionId,value={one}",
    )
    assert chosen["Sessions"][0]["Status"] == "Terminated"


def test_nodes_are_listed_and_asked_for(aws):
    asked = aws("ssm", "get-connection-status", "--target", TARGET)
    assert asked == {"Target": TARGET, "Status": "connected"}
    listed = aws(
        "ssm",
        "describe-instance-information",
        "--filters",
        f"Key=InstanceIds,Values={TARGET}",
    )
    assert listed["InstanceInformationList"][0]["PingStatus"] == "Online"
    inventory = aws(
        "ssm",
        "get-inventory",
        "--filters",
        f"Key=AWS:InstanceInformation.InstanceId,Values={TARGET}",
    )
    assert inventory["Entities"][0]["Id"] == TARGET


def test_callers_and_keys(aws):
    assert aws("sts", "get-caller-identity")["Account"] == "123456789012"
    pushed = aws(
        "ec2-instance-connect",
        "send-ssh-public-key",
        "--instance-id",
        TARGET,
        "--instance-os-user",
        "me",
        "--ssh-public-key",
        f"ssh-ed25519 {'AAAA' * 20}",
    )
    assert pushed["Success"] is True
