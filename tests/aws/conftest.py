"""An AWS configuration of its own for every test, and endpoints on loopback."""

import asyncio
import os

import pytest

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.ssm import SsmControl
from tests.aws.stub import GRANT, REGION, Stub
from tests.support import moto

ACCESS_KEY = "AKIACANARYACCESSKEY0"
SECRET_KEY = "canary-secret-key-" + "s" * 22
SESSION_TOKEN = "canary-session-token-" + "t" * 100


class AwsFiles:
    """The two files of the AWS configuration; rewritten by tests as users do."""

    def __init__(self, folder):
        self.config = folder / "config"
        self.credentials = folder / "credentials"
        self.config.touch()
        self.credentials.touch()

    def write_keys(self, access_key, profile="default", token=""):
        text = f"[{profile}]\naws_access_key_id = {access_key}\n"
        text += f"aws_secret_access_key = {SECRET_KEY}\n"
        if token:
            text += f"aws_session_token = {token}\n"
        self.credentials.write_text(text)


@pytest.fixture
def aws_files(tmp_path, monkeypatch):
    """Hide the developer's own AWS configuration; there are no credentials at all."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    files = AwsFiles(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(files.config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(files.credentials))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "*")
    return files


@pytest.fixture
def keys(aws_files, monkeypatch):
    """Temporary keys in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)


@pytest.fixture
def stub():
    stub = Stub()
    stub.answer("StartSession", GRANT)
    stub.answer("ResumeSession", GRANT)
    stub.answer("TerminateSession", {})
    yield stub
    stub.close()


@pytest.fixture
def identity(stub):
    return Identity(region=REGION, endpoint_url=stub.url)


@pytest.fixture
async def control(identity, keys):
    control = SsmControl(identity)
    yield control
    await control.close()


@pytest.fixture
def arrival(stub):
    """Wait for the stub's next request, without blocking the loop."""

    async def wait():
        arrived = await asyncio.to_thread(stub.arrived.acquire, timeout=30)
        assert arrived, "nothing was asked"

    return wait


@pytest.fixture(scope="package")
def running_cloud():
    with moto.running() as account:
        yield account


@pytest.fixture
def cloud(running_cloud, monkeypatch, aws_files):
    """An empty account, where clients find EC2, Auto Scaling, ECS and STS."""
    running_cloud.reset()
    for name, value in running_cloud.environment.items():
        monkeypatch.setenv(name, value)
    return running_cloud
