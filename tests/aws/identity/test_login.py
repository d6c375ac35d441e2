"""The wait for a login, in virtual time; and what changes when files do."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ssmtunneld.aws.identity.login import (
    LOOK,
    NOTICE,
    RENEWAL,
    RETRY,
    CredentialExpiry,
    Login,
    take_stamps,
    watched_paths,
)
from ssmtunneld.errors import CredentialsUnusable, ServiceUnavailable, Throttled
from tests.sessions.rig import Journal
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse

EXPIRED = CredentialsUnusable(
    "StartSession", "SSOError", "expired", "run: aws sso login"
)
WELL = CredentialExpiry(None, "")


class Human:
    """A person whose login and files the test changes."""

    def __init__(self):
        self.outcome = EXPIRED
        self.stamps = frozenset()
        self.renewals = []

    async def renew(self, afresh):
        self.renewals.append(afresh)
        await elapse(0.1)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def stamp(self):
        return self.stamps

    def writes(self, number):
        """Write a file, whose first versions may be half of one."""
        self.stamps = frozenset({("file", 1, number, number)})

    def logs_in(self):
        self.outcome = WELL
        self.writes(99)


@asynccontextmanager
async def attended(human, *, tasks_of=1):
    journal = Journal()
    login = Login(human.renew, human.stamp, wall_clock=lambda: 1000.0, log=journal.log)
    login.journal = journal
    login.heard = 0

    def hear():
        login.heard += 1

    async with asyncio.TaskGroup() as tasks:
        with login.telling(hear):
            attending = [tasks.create_task(login.attend()) for _ in range(tasks_of)]
            yield login
            for task in attending:
                task.cancel()


@virtual
async def test_a_new_login_is_noticed_within_seconds():
    human = Human()
    async with attended(human) as login:
        login.note(EXPIRED)
        assert login.trouble is EXPIRED
        await elapse(5)
        human.logs_in()
        await elapse(LOOK + 0.2)
        assert login.trouble is None
        assert login.heard == 1
    (needed,) = login.journal.lines("login.needed")
    assert needed["advice"] == "run: aws sso login"
    assert len(login.journal.lines("login.renewed")) == 1


@virtual
async def test_a_file_that_is_half_written_is_read_again():
    human = Human()
    async with attended(human) as login:
        login.note(EXPIRED)
        await elapse(1.5)
        assert human.renewals == [True]
        human.writes(1)
        await elapse(1.5)
        assert login.trouble is not None
        human.logs_in()
        await elapse(1.5)
        assert login.trouble is None
    assert human.renewals == [True, True, True]


@virtual
async def test_files_that_do_not_change_are_not_read():
    human = Human()
    async with attended(human) as login:
        login.note(EXPIRED)
        # Once at first, lest a login be missed that came before the first look.
        await elapse(RETRY)
        assert human.renewals == [True]
        await elapse(3)
        assert human.renewals == [True, True]
        # Nothing of a credential_process is to be seen in files.
        human.outcome = WELL
        await elapse(RETRY + 1)
        assert login.trouble is None


@virtual
async def test_the_same_trouble_is_said_once():
    human = Human()
    async with attended(human) as login:
        for _ in range(3):
            login.note(EXPIRED)
        login.note(CredentialsUnusable("ResumeSession", "SSOError", "expired"))
        login.note(CredentialsUnusable("StartSession", "ExpiredToken", "too old"))
    lines = login.journal.lines("login.needed")
    assert [line["reason"].rpartition(": ")[2] for line in lines] == [
        "expired",
        "too old",
    ]


@virtual
async def test_a_call_that_succeeds_ends_the_trouble():
    human = Human()
    async with attended(human) as login:
        login.note(None)
        assert login.heard == 0
        login.note(EXPIRED)
        await elapse(0.1)
        login.note(Throttled("StartSession", "Throttling", "slow"))
        assert login.trouble is EXPIRED
        login.note(None)
        assert login.trouble is None
        assert login.heard == 1
        # And what comes next is noticed as well.
        login.note(EXPIRED)
        human.logs_in()
        await elapse(RETRY + 1)
        assert login.trouble is None


@virtual
async def test_keys_are_renewed_ahead_of_need_once_they_were_used():
    human = Human()
    human.outcome = WELL
    async with attended(human) as login:
        await elapse(3 * RENEWAL)
        assert human.renewals == []
        login.note(None)
        await elapse(RENEWAL + 1)
        assert set(human.renewals) == {False}
        human.outcome = EXPIRED
        await elapse(RENEWAL)
        assert login.trouble is EXPIRED


@virtual
async def test_the_networks_trouble_is_not_the_logins():
    human = Human()
    human.outcome = ServiceUnavailable("Login", "EndpointConnectionError", "no route")
    async with attended(human) as login:
        login.note(None)
        await elapse(2.5 * RENEWAL)
        assert login.trouble is None
        assert len(human.renewals) == 2


@virtual
async def test_an_end_that_only_a_human_can_put_off_is_announced_once():
    human = Human()
    ends_at = 1000.0 + NOTICE + 1
    human.outcome = CredentialExpiry(ends_at, "run: aws sso login")
    async with attended(human) as login:
        login.note(None)
        await elapse(RENEWAL + 1)
        assert login.journal.lines("login.expiring") == []
        human.outcome = CredentialExpiry(ends_at - 61, "run: aws sso login")
        await elapse(3 * RENEWAL)
    (line,) = login.journal.lines("login.expiring")
    assert (line["seconds"], line["advice"]) == (NOTICE - 60, "run: aws sso login")


@virtual
async def test_one_of_many_tunnels_watches_and_another_takes_over():
    human = Human()
    journal = Journal()
    login = Login(human.renew, human.stamp, wall_clock=lambda: 1000.0, log=journal.log)
    async with asyncio.TaskGroup() as tasks:
        first, second = [tasks.create_task(login.attend()) for _ in range(2)]
        login.note(EXPIRED)
        await elapse(1.5)
        assert len(human.renewals) == 1
        human.logs_in()
        first.cancel()
        await elapse(LOOK + 0.2)
        assert login.trouble is None
        second.cancel()


def test_files_and_folders_are_watched():
    home = Path("/home/alice")
    assert watched_paths({}, home) == (
        home / ".aws/config",
        home / ".aws/credentials",
        home / ".aws/sso/cache",
        home / ".aws/login/cache",
        home / ".aws/cli/cache",
    )
    named = watched_paths(
        {"AWS_CONFIG_FILE": "/x/config", "AWS_WEB_IDENTITY_TOKEN_FILE": "/x/token"},
        home,
    )
    assert Path("/x/config") in named
    assert Path("/x/token") in named
    assert home / ".aws/config" not in named


@pytest.mark.parametrize("name", ["config", "cache/new.json"])
def test_a_change_of_a_file_is_seen(tmp_path, name):
    paths = (tmp_path / "config", tmp_path / "cache", tmp_path / "missing")
    (tmp_path / "cache").mkdir()
    (tmp_path / "config").write_text("a")
    before = take_stamps(paths)
    assert take_stamps(paths) == before
    (tmp_path / name).write_text("longer")
    assert take_stamps(paths) != before


def test_a_file_that_vanishes_meanwhile_does_no_harm(tmp_path):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert len(take_stamps((tmp_path,))) == 1


@virtual
async def test_each_tunnel_is_told_of_itself():
    code = CredentialsUnusable("A", "B", "c", "run: ssmtunneld login first")
    async with attended(Human()) as login:
        assert login.trouble_of("db") is None
        login.note(EXPIRED)
        assert login.trouble_of("db") is EXPIRED
        login.note(code)
        found = login.trouble_of("db")
        assert found.advice == "run: ssmtunneld login db"
        assert (str(found), found.code) == (str(code), "B")
        assert login.trouble is code


@virtual
async def test_what_is_known_of_keys_is_kept():
    human = Human()
    human.outcome = CredentialExpiry(9000.0, "run: x", 8000.0)
    async with attended(human) as login:
        assert login.expiry is None
        login.note(None)
        await elapse(RENEWAL + 1)
        assert login.expiry is human.outcome
        human.outcome = EXPIRED
        await elapse(RENEWAL + 1)
        assert login.expiry == CredentialExpiry(9000.0, "run: x", 8000.0)
