"""``ssmtunneld emulator --record`` and ``--replay`` as processes."""

import asyncio
import json
import os
import stat
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import pytest

from ssmtunneld.api import open_tunnel
from ssmtunneld.emulator.recording import load
from ssmtunneld.protocol.message import Flag
from tests.emulator.reference import INSTANCE, connected, destination, echo
from tests.integration import world
from tests.interop.programs import Program, environment

SECRET = "secret-key-canary-0123456789"
WORDS = b"user-canary"


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@contextmanager
def emulator(*options, largest_file=None):
    """Run the command; yield it and its endpoint, and expect it to end well."""
    words = ("emulator", "--pace=none", "--fault=terminate-ack=before", *options)
    command = [sys.executable, "-m", "ssmtunneld", *map(str, words)]
    if largest_file is not None:
        limited = f"""
            import os, resource
            resource.setrlimit(resource.RLIMIT_FSIZE, {(largest_file, largest_file)})
            os.execv({sys.executable!r}, {command!r})
        """
        command = [sys.executable, "-c", textwrap.dedent(limited)]
    program = Program(
        *command,
        env=environment(AWS_ACCESS_KEY_ID="AKIACANARY", AWS_SECRET_ACCESS_KEY=SECRET),
    )
    try:
        url = program.wait_for(r"emulator listening on (http://\S+)")[1]
        yield program, url
        assert program.stop() == 0, program.log()
    finally:
        program.kill()


async def talk(url, words=WORDS):
    """Let the reference client send ``words`` and end; return what is secret."""
    async with (
        destination(echo) as port,
        connected(url, port) as client,
    ):
        await client.open(3)
        await client.upload(3, words)
        await client.until(lambda: client.streams[3] == words)
        await client.send_flag(Flag.TERMINATE_SESSION)
        await client.until_lost()
    cell_number = client.grant["StreamUrl"].rpartition("cell-number=")[2]
    return client.grant["TokenValue"], cell_number


@pytest.mark.parametrize("payloads", [False, True])
async def test_a_session_is_recorded_for_its_owner_alone(tmp_path, payloads):
    path = tmp_path / "sessions.jsonl"
    path.write_text("of an older run, for everybody to read")
    path.chmod(0o644)
    more = ["--record-payloads"] if payloads else []
    with emulator("--record", path, *more) as (program, url):
        secrets = await talk(url)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    for secret in (*secrets, SECRET, "AKIACANARY", WORDS.decode()):
        assert secret not in text
        assert secret not in program.log()
    head, *lines = map(json.loads, text.splitlines())
    assert head == {"format": 1, "payloads": payloads}
    assert lines[0]["event"] == "start"
    assert lines[-1]["event"] == "close"
    if payloads:
        assert any(WORDS in message.payload for _, message in load(path)[0].messages)


async def test_what_was_recorded_is_played_to_our_driver(tmp_path):
    path = tmp_path / "sessions.jsonl"
    with emulator("--record", path, "--record-payloads") as (_, url):
        await talk(url)
    with emulator("--replay", path) as (_, url):
        # Port 1 of the destination has nobody: the recording speaks in its place.
        async with open_tunnel(
            INSTANCE, 1, endpoint_url=url, region="eu-west-1"
        ) as tunnel:
            reader, writer = await asyncio.open_connection("127.0.0.1", tunnel.port)
            writer.write(WORDS)
            assert await reader.readexactly(len(WORDS)) == WORDS
            writer.close()
            await writer.wait_closed()


async def test_a_disk_that_becomes_full_ends_the_recording_and_no_session(tmp_path):
    path = tmp_path / "sessions.jsonl"
    options = ("--record", path, "--record-payloads")
    with emulator(*options, largest_file=30_000) as (program, url):
        await talk(url, os.urandom(60_000))
        program.wait_for(r"emulator\.recording_stopped[^\n]*File too large")
        await talk(url)
    assert program.log().count("recording_stopped") == 1
    text = path.read_text()
    assert 20_000 < len(text) <= 30_000
    assert text.endswith("}\n")
    assert len(load(path)) == 1


def refusal(*options):
    """Return how ``emulator`` with ``options`` ends, in one line."""
    result = subprocess.run(
        [sys.executable, "-m", "ssmtunneld", "emulator", *map(str, options)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "none" / "sessions.jsonl", "No such file or directory"),
        (tmp_path / "file" / "sessions.jsonl", "Not a directory"),
    ):
        assert refusal("--record", path).endswith(f"{path}: {reason}")
    said = refusal("--record", tmp_path)
    assert str(tmp_path) in said
    assert "is a directory" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_named_at_the_start():
    said = refusal("--record", "/dev/full")
    assert said.endswith("/dev/full: No space left on device")


def test_what_cannot_be_played_is_named(tmp_path):
    path = tmp_path / "sessions.jsonl"
    assert "does not exist" in refusal("--replay", path)
    path.write_text("nonsense\n")
    assert f"{path}: not a recording" in refusal("--replay", path)
    path.write_text('{"format":1,"payloads":false}\n')
    assert "--record-payloads" in refusal("--replay", path)
