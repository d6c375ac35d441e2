"""The command for changes of state: run once for each, and never in the way."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.observe import hook
from ssmtunneld.observe.hook import StateHook
from tests.observe.samples import daemon, tunnel
from tests.sessions.rig import Journal

PATIENCE = 30.0
NOTE = """
import os, sys
names = ("TUNNEL", "STATE", "REASON", "ADVICE")
with open(sys.argv[1], "a") as file:
    print(*[os.environ["SSMTUNNELD_" + name] for name in names], sep="|", file=file)
    print(sorted(n for n in os.environ if "AWS" in n), file=file)
print("nobody reads this")
"""


ENVIRONMENT = {"PATH": "/usr/bin", "AWS_SECRET_ACCESS_KEY": "x", "AWS_PROFILE": "p"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(hook, "LOOK", 0.01)
    monkeypatch.setattr(hook, "PAUSE", 0.0)


class World:
    """Tunnels that a test changes, and a hook that watches them."""

    def __init__(self, *tunnels, environ=None):
        self.tunnels = list(tunnels)
        self.journal = Journal()
        environ = environ or ENVIRONMENT
        self._looked = asyncio.Event()
        self.hook = StateHook(self._survey, environ, self.journal.log)

    async def _survey(self):
        self._looked.set()
        return daemon(*self.tunnels)

    async def looked(self, times=3):
        """Return after so many more looks; a command is over by then."""
        async with asyncio.timeout(PATIENCE):
            for _ in range(times):
                self._looked.clear()
                await self._looked.wait()


@asynccontextmanager
async def watching(*command, tunnels=(), settled=True, environ=None):
    world = World(*tunnels, environ=environ)
    world.hook.command = tuple(map(str, command))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(world.hook.run())
        if settled:
            await world.looked()
        yield world
        task.cancel()


async def test_a_change_of_state_runs_the_command(tmp_path):
    notes = tmp_path / "notes"
    async with watching(
        sys.executable, "-c", NOTE, notes, tunnels=[tunnel("db"), tunnel("web")]
    ) as world:
        assert not notes.exists()
        world.tunnels[0] = tunnel(
            "db", "needs_login", reason="ex\0pired", advice="run: aws sso login"
        )
        await world.looked()
        world.tunnels[0] = tunnel("db")
        await world.looked()
    assert notes.read_text().splitlines() == [
        "db|needs_login|ex pired|run: aws sso login",
        "[]",
        "db|ready||",
        "[]",
    ]
    assert world.journal.lines("hook.failed") == []


async def test_a_tunnel_that_begins_badly_is_news(tmp_path):
    notes = tmp_path / "notes"
    async with watching(
        sys.executable, "-c", NOTE, notes, tunnels=[tunnel("db", "failed")]
    ):
        pass
    assert notes.read_text().startswith("db|failed|")


async def test_a_tunnel_that_begins_disabled_is_no_news_but_a_change_is(tmp_path):
    notes = tmp_path / "notes"
    start = [tunnel(state="disabled")]
    async with watching(sys.executable, "-c", NOTE, notes, tunnels=start) as world:
        assert not notes.exists()
        world.tunnels = [tunnel(state="ready")]
        await world.looked()
    assert notes.read_text().splitlines()[0] == "db|ready||"


async def test_a_tunnel_that_flaps_is_no_news_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(hook, "PAUSE", 3600.0)
    notes = tmp_path / "notes"
    async with watching(
        sys.executable, "-c", NOTE, notes, tunnels=[tunnel("db")]
    ) as world:
        for state in ("retrying", "ready", "retrying", "ready"):
            world.tunnels[0] = tunnel("db", state)
            await world.looked()
    assert notes.read_text().count("db|") == 1


async def test_a_tunnel_that_is_gone_is_forgotten(tmp_path):
    async with watching("true", tunnels=[tunnel("db", "failed")]) as world:
        world.tunnels.clear()
        await world.looked()
        assert not world.hook._told
        assert not world.hook._not_before


async def test_without_a_command_nobody_looks():
    async with watching(tunnels=[tunnel("db")], settled=False) as world:
        # Let its clock go on a few times: a look would be seen.
        async with watching("true", tunnels=[tunnel("db")]) as other:
            await other.looked()
        assert not world._looked.is_set()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["/nowhere/to-be-found"], "No such file"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "exited with 3"),
    ],
)
async def test_a_command_that_fails_is_said(command, reason):
    async with watching(*command, tunnels=[tunnel("db", "failed")]) as world:
        pass
    (line,) = world.journal.lines("hook.failed")
    assert reason in line["reason"]
    assert (line["tunnel"], line["command"]) == ("db", command[0])


async def test_a_command_that_hangs_is_ended_with_its_children(monkeypatch, tmp_path):
    monkeypatch.setattr(hook, "TIMEOUT", 0.2)
    async with watching(
        "/bin/sh", "-c", "sleep 1000 & wait", tunnels=[tunnel("db", "failed")]
    ) as world:
        pass
    (line,) = world.journal.lines("hook.failed")
    assert line["reason"] == "it took longer than 0.2 s"


async def test_cancelling_ends_the_command():
    async with watching(
        "/bin/sh", "-c", "sleep 1000", tunnels=[tunnel("db", "failed")], settled=False
    ) as world:
        await world.looked(1)
        # Whether or not it has started by now: nothing is left of it.
    assert world.journal.lines("hook.failed") == []


HOSTILE = "\ud800\x1b[2J" + "x" * 300_000


async def test_the_command_runs_whatever_the_reason_is(tmp_path):
    notes = tmp_path / "notes"
    bad = tunnel("db", "failed", reason=HOSTILE, advice="\0" * 500_000)
    async with watching(sys.executable, "-c", NOTE, notes, tunnels=[bad]) as world:
        assert world.journal.lines("hook.failed") == []
    name, state, reason, advice = notes.read_text().splitlines()[0].split("|")
    assert (name, state, advice) == ("db", "failed", "…")
    assert len(reason) == hook.VALUE_LIMIT


SHOW = """
import json, os, sys
with open(sys.argv[1], "w") as file:
    json.dump(dict(os.environ), file)
"""


KEPT = {"PATH": "/usr/bin", "HOME": "/home/me", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
DROPPED = (
    *("AWS_SESSION_TOKEN", "AWS_PROFILE", "HTTPS_PROXY", "http_proxy", "PGPASSWORD"),
    *("AWS_CONTAINER_AUTHORIZATION_TOKEN", "NOTIFY_SOCKET", "LISTEN_FDS"),
    *("SSH_AUTH_SOCK", "LD_PRELOAD", "PYTHONPATH"),
)


async def test_the_command_inherits_no_credentials(tmp_path):
    path = tmp_path / "environment"
    environ = KEPT | dict.fromkeys(DROPPED, "secret")
    command = (sys.executable, "-c", SHOW, path)
    bad = tunnel("db", "failed")
    async with watching(*command, tunnels=[bad], environ=environ) as world:
        assert world.journal.lines("hook.failed") == []
    found = json.loads(path.read_text())
    ours = {name for name in found if name.startswith("SSMTUNNELD_")}
    assert len(ours) == 4
    # Some interpreters begin by saying how they read text.
    assert found.keys() - ours - {"LC_CTYPE"} == KEPT.keys()
