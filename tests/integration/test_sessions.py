"""``ssmtunneld sessions`` at an emulator process, beside a daemon process."""

import asyncio
import json
import os
import subprocess
import sys

import boto3
import pytest

from tests.integration.processes import await_line, await_port, launch, running
from tests.integration.terminal import Terminal
from tests.integration.world import (
    PATIENCE,
    SECRET_KEY,
    TARGET,
    configuration,
    destination,
    echoes,
    tunnel,
)
from tests.interop.programs import environment

BOBS_KEY = "AKIABOBSOWNKEY000000"
BOB = "arn:aws:sts::123456789012:assumed-role/Admin/bob@example.com"
ME = "arn:aws:sts::123456789012:assumed-role/emulator/dev@example.com"
PROGRAM = ("-m", "ssmtunneld", "sessions")


@pytest.fixture
def service(monkeypatch):
    """The URL of an emulator process, which the environment names."""
    program = launch("emulator", "--pace=none", f"--identity={BOBS_KEY}={BOB}")
    try:
        url = program.wait_for(r"emulator listening on (\S+)")[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        yield url
        assert program.stop() == 0
    finally:
        program.kill()


def environ():
    """Return what a command needs to find the daemon and the emulator of this test."""
    ours = ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")
    kept = {n: v for n, v in os.environ.items() if n.startswith("AWS_") or n in ours}
    plain = {n: v for n, v in environment().items() if n not in {"COLUMNS", "NO_COLOR"}}
    return {**plain, **kept}


def sessions(*arguments):
    """Run the command; return its exit code and both outputs."""
    result = subprocess.run(
        [sys.executable, *PROGRAM, *map(str, arguments)],
        env=environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return result.returncode, result.stdout, result.stderr


def listed(*arguments):
    """Return the sessions of ``--json``."""
    code, out, err = sessions("--json", *arguments)
    assert (code, err) == (0, "")
    return json.loads(out)["sessions"]


def start_as_bob(url):
    client = boto3.client(
        "ssm",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id=BOBS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    document = "AWS-StartPortForwardingSession"
    answer = client.start_session(
        Target=TARGET, DocumentName=document, Reason="INC-123 \x1b[2J"
    )
    client.close()
    return answer["SessionId"]


async def test_a_daemons_session_is_listed_ended_and_replaced(service, tmp_path):
    path = tmp_path / "config.toml"
    async with destination() as port:
        text = configuration(service, tunnel("orders-db", port=port))
        await asyncio.to_thread(path.write_text, text)

        def end_the_warm_session(program):
            await_line(program, "daemon.ready")
            (warm,) = listed("orders-db", "-c", path)
            assert (warm["tunnel"], warm["held"]) == ("orders-db", True)
            assert (warm["state"], warm["owner"]) == ("Connected", ME)
            for words in ("ssmtunneld/", "@", " tunnel orders-db ["):
                assert words in warm["reason"]
            # In the environment of its user it is found without the file, too.
            assert [s["id"] for s in listed()] == [warm["id"]]
            code, _, err = sessions("terminate", warm["id"])
            assert (code, "held by the running daemon" in err) == (2, True)
            code, out, err = sessions("terminate", warm["id"], "--yes")
            assert (code, out, err) == (0, f"{warm['id']}: terminated\n", "")
            await_line(program, "session.ended")
            await_line(program, "session.ready", count=2)
            return warm["id"]

        with running(path, None, "--log-format", "json") as program:
            gone = await asyncio.to_thread(end_the_warm_session, program)
            local = await asyncio.to_thread(await_port, program, "orders-db")
            async with asyncio.timeout(PATIENCE):
                assert await echoes(local)
            now = await asyncio.to_thread(listed, "orders-db", "-c", path)
            assert gone not in {session["id"] for session in now}
            assert any(session["held"] for session in now)
            past = await asyncio.to_thread(listed, "orders-db", "--history", "-c", path)
            assert [session["id"] for session in past] == [gone]
            assert await asyncio.to_thread(program.stop) == 0
        # Nothing is left of a daemon that has ended.
        async with asyncio.timeout(PATIENCE):
            while await asyncio.to_thread(listed):
                pass  # the agent still drains


async def test_somebody_elses_session_is_shown_with_all_owners_only(service):
    # Nobody attaches to it: 15 s later it is over, so what needs it alive comes first.
    bobs = await asyncio.to_thread(start_as_bob, service)
    code, _, err = await asyncio.to_thread(sessions, "terminate", bobs)
    assert (code, f"{bobs} belongs to {BOB}" in err) == (2, True)
    (session,) = await asyncio.to_thread(listed, "--all-owners")
    assert (session["id"], session["owner"]) == (bobs, BOB)
    assert (session["tunnel"], session["held"]) == (None, None)
    assert await asyncio.to_thread(listed) == []


@pytest.mark.parametrize("columns", [80, 250])
async def test_the_table_fits_the_terminal_and_leaves_it_in_order(service, columns):
    bobs = await asyncio.to_thread(start_as_bob, service)

    def look():
        arguments = (*PROGRAM, "--all-owners")
        env = environ() | {"NO_COLOR": "1"}
        terminal = Terminal(*arguments, columns=columns, env=env)
        assert terminal.close() == 0
        return terminal.raw

    raw = await asyncio.to_thread(look)
    assert "\x1b" not in raw
    lines = raw.splitlines()
    assert lines[0] == "1 active session of everybody in eu-west-1"
    assert max(map(len, lines)) <= columns
    assert bobs in raw
    # The escape sequence went where the answer came in; no rest of it is shown.
    assert "INC-123" in raw
    assert "[2J" not in raw


async def test_at_a_terminal_one_is_asked_before_somebody_elses_session_ends(service):
    bobs = await asyncio.to_thread(start_as_bob, service)

    def converse(word, code):
        terminal = Terminal(*PROGRAM, "terminate", bobs, columns=80, env=environ())
        terminal.wait_for(r"Terminate anyway\?")
        terminal.type(f"{word}\n")
        assert terminal.close() == code
        return [session["id"] for session in listed("--all-owners")]

    assert await asyncio.to_thread(converse, "n", 1) == [bobs]
    assert await asyncio.to_thread(converse, "y", 0) == []
