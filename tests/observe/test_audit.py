"""The audit log: two lines for each connection, and what happens if that cannot be."""

import asyncio
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from jsonschema import Draft202012Validator

from ssmtunneld.base.log import get_log
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import NoSessionReady
from ssmtunneld.listener.client import Client
from ssmtunneld.listener.relay import ConnectionOutcome, Transfer
from ssmtunneld.observe import audit as audit_module
from ssmtunneld.observe.audit import AuditLog, TunnelAudit
from ssmtunneld.observe.audit_file import AuditFile
from ssmtunneld.observe.status_schema import audit_schema
from ssmtunneld.smux.stream import Stream
from ssmtunneld.transport.streams import StreamDuplex
from tests.integration.world import PATIENCE, logging
from tests.support.turns import until

SESSION = SimpleNamespace(number=3, session_id="me-0abc", target="i-1")
DONE = Transfer(5, 7, ConnectionOutcome.COMPLETED)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
async def journal():
    """Capture the log."""
    async with logging() as caught:
        yield caught


def connection(name="a-1", *, carried=True, **client):
    """Return a connection as the server shows it."""
    stream = StreamDuplex(SimpleNamespace(session=SESSION), Stream(1))
    return SimpleNamespace(
        name=name,
        peer="127.0.0.1:40000",
        since=asyncio.get_running_loop().time(),
        client=Client(**client),
        remote=stream if carried else None,
        destination=None,
    )


def name_everybody(clients):
    for client in clients:
        client.user, client.pid, client.program = "ada", 812, "psql"
        client.settled = True


def audit_log(path, find_out=name_everybody):
    return AuditLog(
        path, get_log(), pid=77, wall_clock=lambda: 1000.25, find_out=find_out
    )


def observer(audit, fixed="orders:5432"):
    return TunnelAudit(audit, "db", fixed)


def lines(path):
    """Return the file's lines; all of them keep the schema."""
    validator = Draft202012Validator(audit_schema())
    found = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    for line in found:
        validator.validate(line)
    return found


def events(path):
    return [(line["event"], line.get("connection")) for line in lines(path)]


async def test_a_connection_has_a_line_for_its_begin_and_one_for_its_end(path):
    audit, one = audit_log(path), connection(uid=1000)
    told = observer(audit)
    told.opened(one)
    told.ended(one, DONE)
    await audit.close()
    started, opened, ended, stopped = lines(path)
    assert (started["event"], started["pid"]) == ("started", 77)
    who = {
        "connection": "a-1",
        "tunnel": "db",
        "peer": "127.0.0.1:40000",
        "user": "ada",
        "uid": 1000,
        "program": "psql",
        "pid": 812,
        "target": "i-1",
        "destination": "orders:5432",
        "session_id": "me-0abc",
    }
    time = {"time": "1970-01-01T00:16:40.250Z"}
    assert opened == {**time, "event": "opened", **who}
    assert ended.pop("duration") >= 0
    assert ended == {
        **time,
        "event": "ended",
        **who,
        "sent": 5,
        "received": 7,
        "ending": "completed",
        "reason": "",
    }
    assert stopped == {**time, "event": "stopped", "pid": 77, "lines": 0}


@pytest.mark.parametrize("value", ['"session_id":', "812}X{812", 'orders:5432",'])
async def test_no_secret_spoils_a_line_whatever_it_looks_like(path, value):
    """A service chooses the tokens of sessions, and every output is free of them."""
    Secret.token(value)
    Secret.token(f"{value}{value}{value}")
    audit, one = audit_log(path), connection(uid=1000)
    told = observer(audit)
    told.opened(one)
    told.ended(one, DONE)
    await audit.close()
    assert [line["event"] for line in lines(path)] == [
        *("started", "opened", "ended", "stopped")
    ]


async def test_a_secret_in_a_line_is_not_told(path):
    Secret.token("orders-Qx7/Lp0:5432")
    audit, one = audit_log(path), connection(uid=1000)
    observer(audit, "orders-Qx7/Lp0:5432").opened(one)
    await audit.close()
    assert lines(path)[1]["destination"] == "***"


async def test_one_that_never_had_a_session_has_both_too(path):
    audit = audit_log(path, find_out=lambda clients: None)
    refusal = Transfer(0, 0, ConnectionOutcome.REFUSED, NoSessionReady("no agent"))
    observer(audit, None).ended(connection(carried=False), refusal)
    await audit.close()
    _, opened, ended, _ = lines(path)
    for line in (opened, ended):
        assert (line["user"], line["uid"], line["program"]) == (None, None, None)
        assert (line["session_id"], line["target"]) == (None, None)
        assert line["destination"] == ""
    assert ended["ending"] == "refused"
    assert "no agent" in ended["reason"]


async def test_lines_come_while_it_runs_and_its_end_loses_none(path):
    audit = audit_log(path)
    told, found = observer(audit), [connection(f"a-{n}") for n in range(100)]
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(PATIENCE):
        task = tasks.create_task(audit.run())
        for each in found:
            told.opened(each)
        await until(lambda: path.exists() and not audit.status().waiting)
        for each in found:
            told.ended(each, DONE)
        await asyncio.sleep(0)
        task.cancel()
    await audit.close()
    assert events(path) == [
        ("started", None),
        *(("opened", each.name) for each in found),
        *(("ended", each.name) for each in found),
        ("stopped", None),
    ]


async def test_whoever_is_looked_for_when_it_ends_is_written_first(path):
    looking, found = threading.Event(), threading.Event()

    def find_out(clients):
        looking.set()
        assert found.wait(PATIENCE)

    audit = audit_log(path, find_out)
    told = observer(audit)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(audit.run())
        told.opened(connection("a-1"))
        await asyncio.to_thread(looking.wait, PATIENCE)
        told.opened(connection("a-2"))
        task.cancel()
    asyncio.get_running_loop().call_later(0.01, found.set)
    await audit.close()
    assert [name for _, name in events(path)] == [None, "a-1", "a-2", None]


async def test_without_a_file_nothing_is_noted(tmp_path):
    audit, one = audit_log(None), connection()
    observer(audit).opened(one)
    observer(audit).ended(one, DONE)
    await audit.close()
    assert (audit.status(), list(tmp_path.iterdir())) == (None, [])
    assert not audit._opened


async def test_another_file_can_be_named_and_none(path, tmp_path):
    audit, other = audit_log(path), tmp_path / "other.jsonl"
    told, old = observer(audit), connection("a-1")
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(PATIENCE):
        task = tasks.create_task(audit.run())
        told.opened(old)
        await asyncio.sleep(0)
        audit.path = other
        await until(other.exists)
        told.ended(old, DONE)
        audit.path = None
        await until(lambda: "stopped" in other.read_text())
        told.ended(connection("a-9"), DONE)
        task.cancel()
    await audit.close()
    assert events(path) == [("started", None), ("opened", "a-1"), ("stopped", None)]
    assert events(other) == [("started", None), ("ended", "a-1"), ("stopped", None)]


async def test_a_connection_from_before_the_log_gets_both_lines_at_its_end(path):
    audit, old = audit_log(None), connection()
    observer(audit).opened(old)
    audit.path = path
    observer(audit).ended(old, DONE)
    await audit.close()
    assert [event for event, _ in events(path)] == [
        *("started", "opened", "ended", "stopped")
    ]


async def test_what_does_not_fit_is_counted_and_told(path, monkeypatch):
    monkeypatch.setattr(audit_module, "NOTES_LIMIT", 3)
    audit = audit_log(path)
    for number in range(5):
        observer(audit).opened(connection(f"a-{number}"))
    assert audit.status().lost == 2
    await audit.close()
    found = lines(path)
    assert [line["event"] for line in found].count("opened") == 3
    (lost,) = [line for line in found if line["event"] == "lost"]
    assert lost["lines"] == 2
    assert found[-1]["lines"] == 2
    assert audit.status().lost == 2


async def test_a_file_that_cannot_be_written_is_said_once_and_found_again(
    path, journal
):
    path.mkdir()
    audit = audit_log(path)
    told = observer(audit)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(PATIENCE):
        task = tasks.create_task(audit.run())
        for number in range(3):
            told.opened(connection(f"a-{number}"))
        failed = await journal.wait_for("audit.failed")
        assert (failed["path"], failed["reason"]) == (str(path), "Is a directory")
        await until(lambda: not audit.status().waiting)
        status = audit.status()
        assert (status.lost, status.reason) == (4, "Is a directory"), "and started"
        path.rmdir()
        told.opened(connection("a-4"))
        await journal.wait_for("audit.resumed")
        task.cancel()
    await audit.close()
    assert events(path) == [("lost", None), ("opened", "a-4"), ("stopped", None)]
    assert [line["lines"] for line in lines(path) if "lines" in line] == [4, 4]
    assert len(journal.find("audit.failed")) == 1
    assert journal.find("audit.incomplete") == []


async def test_a_file_that_fails_to_the_end_is_told_in_the_log(path, journal):
    path.mkdir()
    audit = audit_log(path)
    observer(audit).ended(connection(), DONE)
    await audit.close()
    (line,) = journal.find("audit.incomplete")
    assert (line["lost"], line["reason"]) == (4, "Is a directory")
    assert audit.status().lost == 4


async def test_a_disk_that_does_not_answer_holds_nothing_up(path, journal, monkeypatch):
    entered, answer = threading.Event(), threading.Event()
    write = AuditFile.write

    def hang(self, data):
        entered.set()
        assert answer.wait(PATIENCE)
        return write(self, data)

    monkeypatch.setattr(AuditFile, "write", hang)
    audit = audit_log(path)
    for number in range(10):
        observer(audit).opened(connection(f"a-{number}"))
    await audit.close(0.0)
    assert await asyncio.to_thread(entered.wait, PATIENCE)
    (line,) = journal.find("audit.incomplete")
    assert (line["lost"], line["reason"]) == (
        12,
        "the file could not be written in time",
    )
    assert audit.status().lost == 12
    answer.set()


async def test_who_cannot_be_found_out_holds_up_no_end(path, journal, monkeypatch):
    monkeypatch.setattr(audit_module, "LOOK_BUDGET", 0.01)
    answer = threading.Event()
    audit = audit_log(path, lambda _: answer.wait(PATIENCE))
    observer(audit).opened(connection())
    await audit.close()
    assert not answer.is_set()
    (line,) = journal.find("audit.incomplete")
    assert (line["lost"], "in time" in line["reason"]) == (1, True)
    answer.set()


async def test_a_defect_costs_lines_that_are_counted(path):
    def break_down(clients):
        raise ZeroDivisionError

    audit = audit_log(path, break_down)
    observer(audit).opened(connection())
    with pytest.raises(ZeroDivisionError):
        await audit.run()
    assert audit.status().lost == 1
    audit._find_out = name_everybody
    observer(audit).opened(connection("a-2"))
    await audit.close()
    assert [event for event, _ in events(path)] == [
        *("started", "lost", "opened", "stopped")
    ]


async def test_texts_of_others_are_one_line_of_ascii(path):
    audit = audit_log(path, find_out=lambda clients: None)
    evil = connection(user="a\n{}\x1b[2J\u202e", uid=1)
    evil.peer = "x\u2028y" * 500
    cause = NoSessionReady("b\r\n" * 500)
    observer(audit).ended(evil, Transfer(0, 0, ConnectionOutcome.REFUSED, cause))
    await audit.close()
    found = lines(path)
    assert len(found) == 4
    assert max(len(line) for line in path.read_text().splitlines()) < 2000
    assert "\x1b" not in found[1]["user"]


def test_the_manual_shows_lines_as_they_are():
    manual = Path(__file__).parents[2] / "docs" / "audit.md"
    shown = [
        json.loads(line)
        for line in manual.read_text("utf-8").splitlines()
        if line.startswith('{"time"')
    ]
    described = audit_schema()["properties"]
    assert [line["event"] for line in shown] == ["opened", "ended"]
    for line in shown:
        Draft202012Validator(audit_schema()).validate(line)
        assert line.keys() <= described.keys()
