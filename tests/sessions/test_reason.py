"""The reasons of sessions in the audit log name their user, machine and tunnel."""

import getpass
import os
import socket

import pytest

from ssmtunneld import __version__
from ssmtunneld.config.fields import REASON_LIMIT
from ssmtunneld.sessions.reason import default_reason, mark
from tests.integration import world
from tests.integration.world import emulator, tunnel


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


def test_a_session_says_who_opened_it():
    host = socket.gethostname().partition(".")[0]
    user = f"{getpass.getuser()}@{host}"
    assert default_reason("db") == f"ssmtunneld/{__version__} {user} tunnel db"


def test_a_user_without_a_name_is_a_number(monkeypatch):
    def nobody():
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert f" {os.getuid()}@" in default_reason("db")


def test_a_mark_tells_the_daemon_and_the_tunnel():
    assert mark("0123456789ab", "db") == "[0123456789ab/db]"
    assert mark(None, "db") == ""


@pytest.mark.parametrize("length", [10, 256])
async def test_a_reason_of_ones_own_comes_between_who_it_is_and_the_mark(length):
    async with world.logging(), emulator() as service:
        text = world.configuration(
            service.endpoint_url, tunnel("db", port=1, reason="r" * length)
        )
        async with world.running(text, instance="0123456789ab"):
            pass
        (session,) = service.sessions
    own, _, end = session.request.reason.rpartition(" ")
    assert end == "[0123456789ab/db]"
    whole = f"{default_reason('db')}: {'r' * length}"
    assert own == whole[: REASON_LIMIT - len(end) - 1]
