"""A role that asks for an MFA code: its session ends, a human enters a code, it heals.

STS is moto, Systems Manager the emulator; daemon and commands are processes of their
own, which meet in the file where the AWS CLI keeps such sessions.
"""

import hashlib
import json
import stat
import sys

import pytest

from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import await_line, await_port, lines_of, running
from tests.integration.terminal import Terminal
from tests.integration.test_login import JSON, in_thread, status
from tests.integration.traffic import all_go_on, talking
from tests.integration.world import (
    ACCESS_KEY,
    SECRET_KEY,
    configuration,
    destination,
    echoes,
    tunnel,
)
from tests.interop.programs import environment, run
from tests.support import moto

ROLE = "arn:aws:iam::123456789012:role/Bastion"
DEVICE = "arn:aws:iam::123456789012:mfa/alice"
CONFIG = f"""
[profile base]
region = eu-west-1

[profile prod]
role_arn = {ROLE}
mfa_serial = {DEVICE}
source_profile = base
region = eu-west-1
"""
KEYS = f"""
[base]
aws_access_key_id = {ACCESS_KEY}
aws_secret_access_key = {SECRET_KEY}
"""
OURS = {"profile": "base", "role_arn": ROLE, "mfa_serial": DEVICE}


@pytest.fixture
def service():
    with EmulatorThread() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def cloud():
    with moto.running() as account:
        yield account


@pytest.fixture
def environ(cloud, tmp_path):
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "config").write_text(CONFIG)
    (folder / "credentials").write_text(KEYS)
    return {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_ENDPOINT_URL_STS": cloud.url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def session_file(home):
    """Return where the AWS CLI would look for the role's session."""
    asked = json.dumps({"RoleArn": ROLE, "SerialNumber": DEVICE})
    name = hashlib.sha1(asked.encode()).hexdigest()
    return home / ".aws" / "cli" / "cache" / f"{name}.json"


def log_in(path, code, environ):
    """Enter a code, as a human would; return what the command says."""
    command = [sys.executable, "-m", "ssmtunneld", "login", "x", "--code-stdin"]
    told = environment(**environ)
    return run(*command, "--config", path, data=f"{code}\n", env=told)


@pytest.mark.parametrize("identity", [{"profile": "prod"}, OURS])
async def test_an_mfa_session_that_ended_is_healed_by_a_code(
    service, environ, tmp_path, identity
):
    path, file = tmp_path / "config.toml", session_file(tmp_path)
    async with destination() as port:
        text = configuration(service.endpoint_url, tunnel("x", port=port, **identity))
        path.write_text(text)
        await in_thread(log_in, path, "123456", environ)
        first = file.read_text()
        with running(path, None, *JSON, **environ) as program:
            await in_thread(await_line, program, "daemon.ready")
            local = await_port(program, "x")
            async with talking([local], 3) as lines:
                service.add_faults(
                    "start-error=ExpiredTokenException",
                    "resume-error=ExpiredTokenException",
                )
                service.cut_websockets()
                line = await in_thread(await_line, program, "login.needed")
                assert line["advice"] == "run: ssmtunneld login x"
                told = await in_thread(status, path, **environ)
                assert told["state"] == "needs_login"
                assert told["advice"] == "run: ssmtunneld login x"
                assert told["connections"] == 3
                # The service would take other keys; the daemon knows these for bad.
                service.clear_faults()
                await in_thread(log_in, path, "654321", environ)
                assert file.read_text() != first
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
                await in_thread(await_line, program, "session.resumed")
                await all_go_on(lines)
            assert await echoes(local)
            told = await in_thread(status, path, **environ)
            assert told["state"] == "ready"
            assert lines_of(program, "login.renewed")
            for secret in ("123456789012:mfa", "654321", SECRET_KEY):
                assert secret not in program.log()


def test_on_a_terminal_the_code_is_asked_for_and_not_shown(environ, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(configuration("http://127.0.0.1:9", tunnel("x", port=1, **OURS)))
    command = ("-m", "ssmtunneld", "login", "x", "--config", path)
    screen = Terminal(*command, columns=100, env=environment(**environ))
    try:
        screen.wait_for(f"MFA code of {DEVICE}: ")
        screen.type("123456\n")
    finally:
        code = screen.close()
    assert code == 0, screen.raw
    assert "logged in as base/Bastion until" in screen.raw
    assert "123456\r" not in screen.raw
    assert session_file(tmp_path).exists()


async def test_without_a_session_the_tunnel_waits_for_the_first_code(
    service, environ, tmp_path
):
    path = tmp_path / "config.toml"
    async with destination() as port:
        table = tunnel("x", port=port, profile="prod")
        text = configuration(service.endpoint_url, table)
        with running(path, text, *JSON, **environ) as program:
            line = await in_thread(await_line, program, "login.needed")
            assert line["advice"] == "run: ssmtunneld login x"
            file = session_file(tmp_path)
            file.parent.mkdir(parents=True)
            file.write_text('{"Credentials": {"AccessKeyId": ')  # half of one
            await in_thread(log_in, path, "123456", environ)
            await in_thread(await_line, program, "daemon.ready")
            assert await echoes(await_port(program, "x"))
