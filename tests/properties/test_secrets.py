"""Tokens, credentials and payloads are told to nobody (canaries everywhere)."""

import asyncio
import logging
import sys
import traceback
from pathlib import Path

import pytest

import ssmtunneld
from ssmtunneld.aws.api.port import Identity, SessionRequest
from ssmtunneld.aws.ssm import SsmControl
from ssmtunneld.base.secret import Secret
from ssmtunneld.cli.main import describe
from ssmtunneld.config import parse_config
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.errors import ConfigError, SsmtunneldError, TunnelError
from ssmtunneld.testing import EmulatorThread
from tests.integration import processes, world
from tests.integration.world import (
    TARGET,
    ask,
    configuration,
    connection,
    destination,
    echoes,
    port_of,
    tunnel,
)
from tests.support.canary import (
    PAYLOAD,
    SECRET_KEY,
    SESSION_TOKEN,
    chain,
    leaks,
    objects_of,
    quoting_service,
)
from tests.support.ports import free_port

pytestmark = pytest.mark.integration

CREDENTIALS = (SECRET_KEY, SESSION_TOKEN)
SETTINGS = EmulatorSettings(
    pace=Pace.NONE, require_signature=True, secret_key=Secret(SECRET_KEY)
)


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)


@pytest.mark.parametrize("secret", [SECRET_KEY, SESSION_TOKEN, PAYLOAD])
def test_a_canary_is_recognised_in_every_disguise(secret):
    text = secret if isinstance(secret, str) else secret.decode()
    assert leaks("nothing here", secret) == []
    assert leaks(f"token={text}.", secret)
    assert leaks(f"{text[:24]}...", secret)
    assert leaks(text.encode().hex(), secret)
    assert leaks(repr(Secret(text)), secret) == []


def _tokens(service):
    def reveal(emulator):
        return {session.token.reveal() for session in emulator.sessions}

    return service._call(reveal)


FORMS = {
    "text": (("--log-format", "text"), {}),
    "json": (("--log-format", "json"), {}),
    "journal": ((), {"JOURNAL_STREAM": "8:1"}),
}


@pytest.mark.parametrize("form", FORMS)
async def test_the_daemon_tells_its_secrets_to_nobody(tmp_path, form):
    options, environ = FORMS[form]
    path = tmp_path / "config.toml"
    with EmulatorThread(SETTINGS) as service, quoting_service() as quoting:
        async with destination() as port:
            text = configuration(
                service.endpoint_url,
                tunnel("good", port=port, ping_interval="1s", max_sessions=1),
                tunnel("quoted", port=port, endpoint_url=quoting),
            )
            level = ("--log-level", "debug")
            with processes.running(path, text, *level, *options, **environ) as program:
                tokens = await _provoke(program, service)
                arguments = _process_list(program)
                assert await asyncio.to_thread(program.stop) == 0
    assert len(tokens) >= 3, "the tokens of a start, a resume and another start"
    assert leaks(program.log(), *CREDENTIALS, *tokens, PAYLOAD) == []
    assert leaks(arguments, *CREDENTIALS, *tokens) == []
    assert "Traceback" not in program.log()


@pytest.mark.parametrize("level", ["info", "warning", "error"])
async def test_the_other_levels_tell_no_secrets_either(tmp_path, level):
    local = free_port()
    with EmulatorThread(SETTINGS) as service, quoting_service() as quoting:
        async with destination() as port:
            text = configuration(
                service.endpoint_url,
                tunnel("quoted", port=port, endpoint_url=quoting),
                tunnel("good", listen=local, port=port, max_sessions=1),
            )
            options = (tmp_path / "config.toml", text, "--log-level", level)
            with processes.running(*options) as program:
                await _until(lambda: _websockets(service) == 1)
                tokens = _tokens(service)
                assert await echoes(local, PAYLOAD)
                service.set_faults("upgrade-error=403*2")
                service.cut_websockets()
                await _until(lambda: _websockets(service) == 2)
                assert await echoes(local, PAYLOAD)
                tokens |= _tokens(service)
                arguments = _process_list(program)
                assert await asyncio.to_thread(program.stop) == 0
    assert len(tokens) >= 2
    # Nothing that could be looked through would prove nothing.
    assert ("SignatureDoesNotMatch" in program.log()) is (level != "error")
    assert leaks(program.log(), *CREDENTIALS, *tokens, PAYLOAD) == []
    assert leaks(arguments, *CREDENTIALS, *tokens) == []


def _websockets(service):
    return sum(s["websockets"] for s in service.sessions() if s["ready"])


async def _until(condition):
    async with asyncio.timeout(world.PATIENCE):
        while not await asyncio.to_thread(condition):
            pass


async def _provoke(program, service):
    """Make the daemon say as much as it can; return all tokens that it was given."""

    async def said(pattern):
        return await asyncio.to_thread(program.wait_for, pattern)

    # The first tunnel of the file is the first to listen.
    local = int((await said(r"listener\.bound[^\n]*127\.0\.0\.1:(\d+)"))[1])
    await said(r"session\.ended.*SignatureDoesNotMatch|SignatureDoesNotMatch")
    await said(r"session\.ready")
    tokens = _tokens(service)
    assert await echoes(local, PAYLOAD * 100)
    # A websocket refused once for its signature, once for good, then resumed.
    service.set_faults("upgrade-error=403*2", "resume-error=ThrottlingException*1")
    service.cut_websockets()
    await said(r"link\.signature_refused")
    await said(r"session\.resume_failed")
    await said(r"session\.resumed")
    tokens |= _tokens(service)
    assert await echoes(local, PAYLOAD)
    # A session that ends, and a new one that is refused before it is granted.
    service.set_faults("start-error=InvalidSignatureException*1")
    (session,) = [s for s in service.sessions() if s["status"] == "Connected"]
    service.close_session(session["id"], "Ended by an administrator.")
    await said(r"session\.ended.*administrator|administrator.*session\.ended")
    await said(r"InvalidSignatureException")
    await said(r"(?s)session\.ready.*session\.ready")
    assert await echoes(local, PAYLOAD)
    return tokens | _tokens(service)


def _process_list(program):
    """Return what ``ps`` shows of a process and its threads."""
    if sys.platform != "linux":
        return ""
    process = Path(f"/proc/{program.pid}")
    names = [task / "comm" for task in (process / "task").iterdir()]
    files = [process / "cmdline", process / "status", *names]
    shown = "\n".join(file.read_text(errors="replace") for file in files)
    assert "ssmtunneld" in shown
    return shown


async def test_no_object_of_a_running_daemon_shows_a_secret():
    async with (
        world.logging() as events,
        destination() as port,
        world.emulator() as service,
    ):
        with quoting_service() as quoting:
            text = configuration(
                service.endpoint_url,
                tunnel("good", port=port),
                tunnel("quoted", port=port, endpoint_url=quoting),
            )
            async with world.running(text, ready=False) as daemon:
                await events.wait_for("session.ended", tunnel="quoted")
                await events.wait_for("session.ready", tunnel="good")
                tokens = _check_objects(service)
                async with connection(port_of(daemon, "good")) as line:
                    assert await ask(*line, PAYLOAD) == PAYLOAD
                    service.admin.change(["upgrade-error=500*2"], replace=True)
                    service.cut_websockets()
                    await events.wait_for("link.failed")
                    tokens |= _check_objects(service)
                    await events.wait_for("session.resumed")
                    assert await ask(*line, PAYLOAD) == PAYLOAD
                tokens |= _check_objects(service)
        said = "\n".join(map(repr, events.lines))
    assert len(tokens) >= 2
    assert leaks(said, *CREDENTIALS, *tokens, PAYLOAD) == []


def _check_objects(service):
    """Print every object of ours; return the tokens that none of them may show."""
    tokens = {session.token.reveal() for session in service.sessions}
    shown = [repr(found) for found in objects_of("ssmtunneld")]
    assert any(text.startswith("Secret(") for text in shown)
    assert any(text.startswith("Grant(") for text in shown)
    assert [text for text in shown if leaks(text, *CREDENTIALS, *tokens)] == []
    return tokens


async def test_no_refusal_carries_what_the_service_quotes():
    request = SessionRequest.port_forward(TARGET, 22)
    with quoting_service() as url:
        control = SsmControl(Identity(region="eu-west-1", endpoint_url=url))
        try:
            for call in (
                lambda: control.start(request),
                lambda: control.resume("alice-0123456789"),
                lambda: control.terminate("alice-0123456789"),
                lambda: control.describe(target=TARGET),
            ):
                with pytest.raises(TunnelError) as caught:
                    await call()
                assert "SignatureDoesNotMatch" in str(caught.value)
                _check_error(caught.value)
        finally:
            await control.close()


def _check_error(error):
    """Look at all that a handler, a log or a crash report would print of ``error``."""
    shown = ["".join(traceback.format_exception(error))]
    for each in chain(error):
        shown += [str(each), repr(each), repr(each.args), repr(vars(each))]
        if isinstance(each, SsmtunneldError):
            shown += [each.advice, *describe(each)]
    assert leaks("\n".join(shown), *CREDENTIALS) == []


async def test_not_even_a_program_that_logs_everything_learns_a_secret(caplog):
    caplog.set_level(logging.DEBUG)
    async with (
        world.logging() as events,
        destination() as port,
        world.emulator() as service,
    ):
        async with ssmtunneld.open_tunnel(
            TARGET, port, endpoint_url=service.endpoint_url
        ) as opened:
            assert await echoes(opened.port, PAYLOAD)
            tokens = {session.token.reveal() for session in service.sessions}
        with quoting_service() as url, pytest.raises(TunnelError) as caught:
            async with ssmtunneld.open_tunnel(
                TARGET, port, endpoint_url=url, ready_timeout=0.5
            ):
                pytest.fail("a tunnel without a session")
    _check_error(caught.value)
    records = [f"{r.getMessage()} {r.args} {r.exc_info}" for r in caplog.records]
    said = "\n".join([caplog.text, *records, *map(repr, events.lines)])
    assert tokens
    assert leaks(said, *CREDENTIALS, *tokens, PAYLOAD) == []


def test_a_secret_in_the_wrong_place_of_a_configuration_is_not_quoted():
    text = tunnel("db", port=1, aws_secret_access_key=SECRET_KEY)
    text += f'[daemon]\nlog_level = "{SESSION_TOKEN}"\n[{SECRET_KEY[:4]}]\n'
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "config.toml", {})
    assert len(caught.value.problems) == 3
    _check_error(caught.value)
