"""The file in which a daemon keeps access requests, whole and damaged."""

import json
import os
import stat
from dataclasses import replace

import pytest

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.daemon.access_file import (
    FILE_LIMIT,
    MOST_ENTRIES,
    AccessFile,
    access_file,
)
from ssmtunneld.sessions.node_access import AccessRequest, KeptRequests
from tests.sessions.rig import Journal

WHO = Identity("prod", "eu-west-1")
REQUEST = AccessRequest("oi-0123456789ab", "i-0123456789abcdef0", "why", 1.5)
KEPT, NONE = KeptRequests(REQUEST), KeptRequests()


def opened(path, journal=None):
    return AccessFile(path, (journal or Journal()).log)


def record(file, tunnel="db", who=WHO, target="name:bastion"):
    return file.record(tunnel, who, target)


def test_each_instance_has_a_file_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert access_file("0123456789ab") == tmp_path / "0123456789ab.access.json"


async def test_a_request_is_there_for_the_next_daemon_and_for_nobody_else(tmp_path):
    path = tmp_path / "state" / "x.access.json"
    assert record(opened(path)).found == NONE
    await record(opened(path)).keep(KEPT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    later = opened(path)
    assert record(later).found == KEPT
    assert record(later, tunnel="other").found == NONE
    assert record(later, target="name:other").found == NONE
    assert record(later, who=Identity("test", "eu-west-1")).found == NONE
    assert record(later, who=Identity("prod", "us-east-1")).found == NONE


async def test_tunnels_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "x.access.json"
    file = opened(path)
    one, two = record(file), record(file, tunnel="two")
    await one.keep(KEPT)
    await two.keep(KEPT)
    await one.keep(NONE)
    await one.keep(NONE)
    later = opened(path)
    assert record(later).found == NONE
    assert record(later, tunnel="two").found == KEPT


def damaged(**changes):
    async def keep(path):
        await record(opened(path)).keep(KEPT)
        entries = json.loads(path.read_text())
        (entry,) = entries.values()
        entry |= changes
        path.write_text(json.dumps(entries))

    return keep


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../../etc"},
        {"id": 5},
        {"target": "everything"},
        {"reason": None},
        {"asked_at": "noon"},
        {"asked_at": float("nan")},
        {"asked_at": float("inf")},
        {"asked_at": 1e300},
        {"asked_at": 10**400},
        {"asked_at": -1e18},
    ],
)
async def test_a_damaged_request_is_none(tmp_path, changes):
    path = tmp_path / "x.access.json"
    await damaged(**changes)(path)
    assert record(opened(path)).found == NONE


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b'{"db": 5}'])
def test_a_damaged_file_is_none(tmp_path, content):
    path = tmp_path / "x.access.json"
    path.write_bytes(content)
    assert record(opened(path)).found == NONE


@pytest.mark.timeout(20)
def test_a_named_pipe_in_the_place_of_the_file_holds_nothing_up(tmp_path):
    os.mkfifo(tmp_path / "x.access.json")
    assert record(opened(tmp_path / "x.access.json")).found == NONE


async def test_a_reason_from_the_file_is_shown_without_escapes(tmp_path):
    path = tmp_path / "x.access.json"
    await damaged(reason="a\x1b[31mb\n" + "x" * 5000)(path)
    reason = record(opened(path)).found.latest.reason
    assert reason.isprintable()
    assert len(reason) == 256


async def test_a_file_that_cannot_be_written_is_told_and_nothing_fails(tmp_path):
    (tmp_path / "state").write_text("not a folder")
    journal = Journal()
    await record(opened(tmp_path / "state" / "x", journal)).keep(KEPT)
    (line,) = journal.lines("access.not_kept")
    assert line["tunnel"] == "db"
    assert line["reason"]


async def test_an_older_request_that_holds_is_kept_beside_the_latest(tmp_path):
    path = tmp_path / "x.access.json"
    both = KeptRequests(replace(REQUEST, id="oi-000000000002"), REQUEST)
    await record(opened(path)).keep(both)
    assert record(opened(path)).found == both
    entries = json.loads(path.read_text())
    (entry,) = entries.values()
    entry["older"]["id"] = 5
    path.write_text(json.dumps(entries))
    assert record(opened(path)).found == KeptRequests(both.latest)


async def test_a_file_that_could_not_be_written_is_written_once_it_can_be(tmp_path):
    (tmp_path / "state").write_text("not a folder")
    path, journal = tmp_path / "state" / "x", Journal()
    one = record(opened(path, journal))
    await one.keep(KEPT)
    await one.retry()
    (tmp_path / "state").unlink()
    await one.retry()
    assert record(opened(path)).found == KEPT
    assert len(journal.lines("access.not_kept")) == 1
    path.unlink()
    await one.retry()
    assert not path.exists()


async def test_a_tunnel_that_comes_back_to_a_target_finds_its_request(tmp_path):
    path = tmp_path / "x.access.json"
    file = opened(path)
    other = KeptRequests(replace(REQUEST, id="oi-000000000002"))
    await record(file).keep(KEPT)
    await record(file, target="name:other").keep(other)
    later = opened(path)
    assert record(later).found == KEPT
    assert record(later, target="name:other").found == other


async def test_what_tunnels_that_have_gone_have_left_is_not_kept_for_ever(tmp_path):
    path = tmp_path / "x.access.json"
    file = opened(path)
    await record(file).keep(KEPT)
    for number in range(MOST_ENTRIES):
        await record(file, tunnel=f"t{number}").keep(KEPT)
        if number == MOST_ENTRIES - 2:
            await record(file).keep(KEPT)
    later = opened(path)
    assert record(later).found == KEPT
    assert record(later, tunnel="t0").found == NONE
    assert record(later, tunnel="t1").found == KEPT
    assert path.stat().st_size < FILE_LIMIT
