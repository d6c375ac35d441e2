"""Whatever is wrong gives one line: what, why, what to do; everything else goes on.

The daemon is the real one, in a process of its own.
"""

import asyncio
import os
import re
import signal
import socket
import sys

import pytest

from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import await_line, await_port, lines_of, running
from tests.integration.world import TARGET, configuration, destination, echoes, tunnel

OFFLINE = "i-0fff1234567890abc"
NOWHERE = "127.0.0.1:9"
"""The discard service, which nobody runs."""


def test_a_wrong_file_ends_the_start_with_its_line_and_key(tmp_path):
    path = tmp_path / "config.toml"
    text = "[tunnels.db]\nlisten = 5432\ntarget = 'i-01234567'\nport = 1\nprot = 2\n"
    with running(path, text) as program:
        assert program.process.wait(30) == 2
        lines = program.log().splitlines()
    problem = "tunnels.db.prot: unknown key (did you mean port?)"
    assert lines == [f"ssmtunneld: {path}:5: {problem}"]


def test_a_daemon_that_can_listen_nowhere_ends_with_1_and_says_who_does(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        text = configuration(f"http://{NOWHERE}", tunnel("db", listen=taken, port=1))
        options = (tmp_path / "config.toml", text, "--log-level", "error")
        with running(*options) as program:
            assert program.process.wait(30) == 1
            why, end = program.log().splitlines()
    assert f"cannot listen on {taken}: Address already in use" in why
    assert "choose another" in why
    assert end == "ssmtunneld: no tunnel can listen on its addresses"


# A person's log has one line for each event, too.
_TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[\w+ *\] [a-z_]+\.[a-z_]+( |$)")


async def test_a_trouble_has_one_line_in_the_log_for_people_as_well(services, tmp_path):
    _, denying = services
    text = configuration(denying.endpoint_url, tunnel("denied", port=1))
    with running(tmp_path / "config.toml", text, **denying.environment) as program:
        await asyncio.to_thread(program.wait_for, r"session\.ended.*AccessDenied")
        assert await asyncio.to_thread(program.stop, signal.SIGTERM) == 0
    wrong = [line for line in program.log().splitlines() if not _TEXT_LINE.match(line)]
    assert wrong == []


# What is wrong with each tunnel: its settings, then what its one line must say: what
# happened, why, and what to do.
TROUBLES = {
    "denied": (
        {"endpoint_url": "{denying}"},
        "StartSession failed: AccessDeniedException: User is not authorized",
        f"allow ssm:StartSession on arn:aws:ec2:eu-west-1:*:instance/{TARGET} and arn",
    ),
    "unreachable": (
        {"endpoint_url": f"http://{NOWHERE}"},
        "StartSession failed: EndpointConnectionError: Could not connect to the",
        "start what should answer there, such as ssmtunneld emulator",
    ),
    "dead": (
        {"target": OFFLINE},
        f"StartSession failed: TargetNotConnected: {OFFLINE} is not connected.",
        f"check that {OFFLINE} is right (ssmtunneld targets --all) and runs, that its "
        "SSM agent is online in eu-west-1",
    ),
    "keyless": (
        {"profile": "keyless"},
        "StartSession failed: NoCredentialsError: Unable to locate credentials",
        "log in or give keys to profile keyless",
    ),
    "stranger": (
        {"profile": "stranger"},
        "StartSession failed: ProfileNotFound: The config profile (stranger)",
        "correct the name, or create it: aws configure sso --profile stranger",
    ),
    "paperless": (
        {"document": "Nowhere"},
        "StartSession failed: InvalidDocument: Document with name Nowhere not found.",
        "check that document Nowhere exists in eu-west-1",
    ),
}


@pytest.fixture(scope="module")
def services():
    """An emulator that is well but for one target, and one that denies everything."""
    with EmulatorThread() as well, EmulatorThread() as denying:
        well.set_faults(f"offline={OFFLINE}")
        denying.set_faults("start-error=AccessDeniedException")
        yield well, denying


async def test_every_trouble_has_one_line_and_leaves_the_others_alone(
    services, tmp_path, monkeypatch
):
    well, denying = services
    profiles = tmp_path / "profiles"
    profiles.write_text("[profile keyless]\nregion = eu-west-1\n")
    names = {"denying": denying.endpoint_url}
    async with destination() as port:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            taken = holder.getsockname()[1]
            troubled = [
                tunnel(
                    name,
                    port=port,
                    **{key: text.format(**names) for key, text in settings.items()},
                )
                for name, (settings, _, _) in TROUBLES.items()
            ]
            text = configuration(
                well.endpoint_url,
                *troubled,
                tunnel("taken", listen=taken, port=port),
                tunnel("severed", port=port, ssmmessages_endpoint=NOWHERE),
                tunnel("good", port=port),
            )
            with running(
                tmp_path / "config.toml",
                text,
                *("--log-format", "json"),
                **{**well.environment, "AWS_CONFIG_FILE": str(profiles)},
            ) as program:
                await asyncio.to_thread(_check_lines, program, taken)
                local = await_port(program, "good")
                assert await echoes(local, b"x" * 100_000)
                assert await asyncio.to_thread(program.stop, signal.SIGTERM) == 0
    written = program.log()
    assert "Traceback" not in written
    assert len(lines_of(program)) == len(written.splitlines()), "one line for each"
    assert {s["status"] for s in well.sessions()} == {"Terminated"}
    assert denying.sessions() == []


def _check_lines(program, taken):
    await_line(program, "session.ready", tunnel="good")
    for name, (_, reason, advice) in TROUBLES.items():
        line = await_line(program, "session.ended", tunnel=name)
        assert line["reason"].startswith(reason)
        assert line["advice"].startswith(advice)
        assert line["level"] == "warning"
        assert line["retry_in"] >= 0
    line = await_line(program, "link.failed", tunnel="severed")
    assert line["reason"].startswith(f"cannot reach {NOWHERE}: ")
    assert line["advice"].startswith(f"check that HTTPS to {NOWHERE} is open")
    line = await_line(program, "listener.failed", tunnel="taken")
    holder = f"pid {os.getpid()}" if sys.platform == "linux" else ""
    assert (
        f"cannot listen on 127.0.0.1:{taken}: Address already in use" in line["reason"]
    )
    assert holder in line["reason"]
    assert holder in line["advice"]
    assert "choose another" in line["advice"]
