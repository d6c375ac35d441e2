"""A login that expires under load: said, waited for, healed; nothing is dropped.

IAM Identity Center's portal is a stub, Systems Manager the emulator, the daemon a
process of its own: botocore finds its caches by the HOME that it was started with.
"""

import asyncio
import hashlib
import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from ssmtunneld.testing import EmulatorThread
from tests.aws.stub import Reply, Stub, error
from tests.integration.processes import await_line, await_port, launch, running
from tests.integration.traffic import all_go_on, talking
from tests.integration.world import (
    ACCESS_KEY,
    SECRET_KEY,
    configuration,
    destination,
    echoes,
    tunnel,
)
from tests.support.turns import look_again

JSON = ("--log-format", "json")
PORTAL = "GET /federation/credentials"
CONFIG = """
[profile prod]
sso_session = work
sso_account_id = 123456789012
sso_role_name = Bastion
region = eu-west-1

[sso-session work]
sso_start_url = https://work.example/start
sso_region = eu-west-1
"""


class Portal(Stub):
    """Gives keys to whoever has a token that is valid now."""

    valid = "first"

    def reply(self, asked):
        super().reply(asked)
        if asked.operation != PORTAL:
            return error("UnknownOperationException")
        if asked.headers.get("x-amz-sso_bearer_token") != self.valid:
            return error("UnauthorizedException", "Session token not found", 401)
        # So soon that they must be fetched again for each call.
        ends = datetime.now(UTC) + timedelta(minutes=5)
        keys = {
            "accessKeyId": ACCESS_KEY,
            "secretAccessKey": SECRET_KEY,
            "sessionToken": "a-session-token",
            "expiration": round(ends.timestamp() * 1000),
        }
        return Reply(body={"roleCredentials": keys})


@pytest.fixture
def portal():
    stub = Portal()
    yield stub
    stub.close()


@pytest.fixture
def service():
    with EmulatorThread() as emulator:
        yield emulator


def token_file(home):
    name = hashlib.sha1(b"work").hexdigest()
    file = home / ".aws" / "sso" / "cache" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def token_text(token):
    ends = datetime.now(UTC) + timedelta(hours=8)
    return json.dumps(
        {
            "startUrl": "https://work.example/start",
            "region": "eu-west-1",
            "accessToken": token,
            "expiresAt": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )


async def in_thread(function, *arguments, **facts):
    return await asyncio.to_thread(function, *arguments, **facts)


def status(path, **environ):
    """Return what ``ssmtunneld status --json`` says of the only tunnel."""
    program = launch("status", "--config", path, "--json", **environ)
    try:
        assert program.process.wait(30) == 0, program.log()
    finally:
        program.kill()
    return json.loads(program.log())["tunnels"][0]


async def test_an_expired_login_is_healed_by_a_new_one(service, portal, tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(CONFIG)
    file = token_file(tmp_path)
    file.write_text(token_text("first"))
    environ = {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "AWS_CONFIG_FILE": str(tmp_path / ".aws" / "config"),
        "AWS_ENDPOINT_URL_SSO": portal.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
    }
    path, news = tmp_path / "config.toml", tmp_path / "news"
    os.mkfifo(news)
    hook = ["sh", "-c", f"echo $SSMTUNNELD_STATE: $SSMTUNNELD_ADVICE > {news}"]
    async with destination() as port:
        text = configuration(
            service.endpoint_url,
            tunnel("x", port=port, profile="prod"),
            on_state=hook,
        )
        with running(path, text, *JSON, **environ) as program:
            await in_thread(await_line, program, "daemon.ready")
            await in_thread(await_line, program, "control.bound")
            local = await_port(program, "x")
            async with talking([local], 3) as lines:
                portal.valid = "second"
                service.cut_websockets()
                line = await in_thread(await_line, program, "login.needed")
                assert line["advice"] == "run: aws sso login --profile prod"
                told = await in_thread(status, path, **environ)
                assert told["state"] == "needs_login"
                assert told["advice"] == "run: aws sso login --profile prod"
                assert told["connections"] == 3
                wanted = "needs_login: run: aws sso login --profile prod\n"
                while await in_thread(news.read_text) != wanted:
                    await look_again()
                # As the AWS CLI writes it: in place, not at once.
                whole = token_text("second")
                file.write_text(whole[:40])
                file.write_text(whole)
                await in_thread(await_line, program, "session.resumed")
                await all_go_on(lines)
            assert await echoes(local)
            told = await in_thread(status, path, **environ)
            assert told["state"] == "ready"
