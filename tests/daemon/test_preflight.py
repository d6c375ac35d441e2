"""Checks before the start: the limit on open files, and users that cannot be seen."""

import resource

import pytest

from ssmtunneld.base.log import get_log
from ssmtunneld.config import parse_config
from ssmtunneld.daemon.preflight import Preflight, allow_files
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.listener import owner
from ssmtunneld.listener.owner import OwnerVisibility
from tests.integration.world import logging, table, tunnel


@pytest.fixture
async def events():
    async with logging() as caught:
        yield caught


@pytest.fixture
def files(monkeypatch):
    """Set the limits of open files, soft and hard; what is set counts from then on."""
    limits = {}

    def allow(soft, hard):
        limits["now"] = (soft, hard)

    def change(_, new):
        limits["now"] = new

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", change)
    allow.limits = limits
    return allow


def parsed(*tables):
    return parse_config("\n".join(tables), "test.toml", {})


def connections(config, *, strict=True):
    return Preflight(get_log()).connections(
        config.daemon, config.tunnels, strict=strict
    )


def test_files_are_allowed_as_far_as_they_may_be(files):
    files(1024, 4096)
    assert allow_files(1000) == 1024
    assert allow_files(2000) == 2000
    assert files.limits["now"] == (2000, 4096)
    assert allow_files(10_000) == 4096


def test_a_limit_that_is_none_is_none(files):
    files(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert allow_files(10**6) is None
    files(256, resource.RLIM_INFINITY)
    assert allow_files(3000) == 3000


def test_a_system_that_refuses_leaves_the_limit_as_it_is(files, monkeypatch):
    def refuse(_, new):
        raise ValueError("not allowed to raise maximum limit")

    files(256, 4096)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert allow_files(3000) == 256


async def test_with_enough_files_nothing_is_said(files, events):
    files(1024, 524_288)
    config = parsed(
        table("daemon", max_connections=20_000),
        *(tunnel(f"t{n}", port=1, max_connections=10_000) for n in range(3)),
    )
    assert connections(config) == 20_000
    assert files.limits["now"][0] > 20_000
    assert events.lines == []


async def test_tunnels_that_need_fewer_connections_need_fewer_files(files, events):
    files(1024, 2048)
    assert connections(parsed(tunnel("t", port=1, max_connections=100))) == 10_000
    assert events.lines == []


async def test_with_too_few_files_there_are_fewer_connections(files, events):
    files(256, 700)
    config = parsed(tunnel("t", port=1))
    found = connections(config)
    assert 400 < found < 700
    (line,) = events.find("files.limited", level="warning")
    assert (line["limit"], line["connections"]) == (700, found)
    assert line["needed"] > 1000
    assert f"LimitNOFILE={line['needed']}" in line["advice"]


async def test_with_hardly_any_files_the_start_is_refused(files, events):
    files(40, 40)
    config = parsed(*(tunnel(f"t{n}", port=1) for n in range(10)))
    with pytest.raises(SsmtunneldError, match="may open 40 files") as caught:
        connections(config)
    assert "LimitNOFILE=" in caught.value.advice
    # What runs goes on, however little it can.
    assert connections(config, strict=False) == 10


@pytest.fixture
def hidden(monkeypatch):
    monkeypatch.setattr(owner, "sight", lambda: OwnerVisibility.HIDDEN)
    monkeypatch.setattr(owner, "stranger", lambda: None)


@pytest.mark.usefixtures("hidden")
async def test_a_shortcoming_is_told_once(events):
    found = Preflight(get_log())
    for _ in range(2):
        found.check_access(parsed(tunnel("t", port=1)).tunnels)
    assert len(events.find("access.limited", level="warning")) == 1


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize(
    "settings", [{"allow_users": ["*"]}, {"listen": "unix:/run/x.sock"}]
)
async def test_what_nobody_checks_is_no_shortcoming(events, settings):
    config = parsed(tunnel("t", port=1, **settings))
    Preflight(get_log()).check_access(config.tunnels)
    assert events.lines == []


async def test_other_users_are_only_missed_where_they_are_allowed(events, monkeypatch):
    monkeypatch.setattr(owner, "sight", lambda: OwnerVisibility.CLEAR)
    monkeypatch.setattr(owner, "stranger", lambda: 65_534_000)
    found = Preflight(get_log())
    found.check_access(parsed(tunnel("t", port=1)).tunnels)
    assert events.lines == []
    found.check_access(parsed(tunnel("t", port=1, allow_users=[1000])).tunnels)
    assert events.find("access.limited")
