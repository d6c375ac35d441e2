"""The control plane from the loop's side: grants, cancellation, clean-up, sharing."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import structlog

from ssmtunneld.aws import ssm
from ssmtunneld.aws.api.http import Sender
from ssmtunneld.aws.api.port import ActiveSession, Grant, Identity, SessionRequest
from ssmtunneld.aws.ssm import ControlRegistry, SsmControl, _RecentIds
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import (
    AccessDenied,
    AwsError,
    CredentialsUnusable,
    LocalProtocolError,
    Recovery,
    RequestRejected,
    ServiceUnavailable,
    SessionGone,
    TargetNotConnected,
    Throttled,
)
from tests.aws.conftest import ACCESS_KEY, SESSION_TOKEN
from tests.aws.stub import CELL, GRANT, REGION, SESSION, STREAM, TOKEN, error
from tests.support.odd_server import OddServer, trickling
from tests.support.threads import no_thread
from tests.support.turns import until

TARGET = "i-0182d91e85d69cf00"
REQUEST = SessionRequest.port_forward(TARGET, 5432, "db.internal", reason="a test")
THREADS = 8


def test_importing_this_module_is_cheap():
    code = (
        "import sys\n"
        "from ssmtunneld.aws.api.port import Identity\n"
        "from ssmtunneld.aws.ssm import ControlRegistry\n"
        "ControlRegistry().get(Identity())\n"
        "sys.exit(any(name in sys.modules for name in ('boto3', 'botocore')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Grants.


async def test_a_session_is_started(control, stub):
    grant = await control.start(REQUEST)
    assert grant == Grant(SESSION, Secret(TOKEN), STREAM)
    assert stub.calls("StartSession") == [
        {
            "Target": TARGET,
            "DocumentName": "AWS-StartPortForwardingSessionToRemoteHost",
            "Parameters": {
                "host": ["db.internal"],
                "portNumber": ["5432"],
                "localPortNumber": ["0"],
            },
            "Reason": "a test",
        }
    ]


async def test_where_no_thread_is_allowed_nothing_is_sent(control, stub):
    with no_thread(), pytest.raises(ServiceUnavailable, match="no further thread"):
        await control.start(REQUEST)
    await control.start(REQUEST)
    assert len(stub.calls("StartSession")) == 1


async def test_what_was_not_asked_for_is_not_sent(control, stub):
    await control.start(SessionRequest.port_forward(TARGET, document="Acme"))
    assert stub.calls("StartSession") == [{"Target": TARGET, "DocumentName": "Acme"}]


async def test_a_clusters_endpoint_becomes_the_host(control, stub, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", stub.url)
    cluster = {"endpoint": "https://0A1B.gr7.eu-west-1.eks.amazonaws.com"}
    stub.answer("GET /clusters/prod", {"cluster": cluster})
    request = SessionRequest.port_forward(TARGET, 443, cluster="prod")
    await control.start(request)
    (asked,) = stub.calls("StartSession")
    assert asked["DocumentName"] == "AWS-StartPortForwardingSessionToRemoteHost"
    assert asked["Parameters"] == {
        "host": ["0a1b.gr7.eu-west-1.eks.amazonaws.com"],
        "portNumber": ["443"],
        "localPortNumber": ["0"],
    }
    await control.start(request)
    assert len(stub.calls("GET /clusters/prod")) == 1


async def test_without_the_cluster_no_session_is_started(control, stub, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", stub.url)
    stub.answer("GET /clusters/prod", error("ResourceNotFoundException", "No cluster"))
    with pytest.raises(RequestRejected) as caught:
        await control.start(SessionRequest.port_forward(TARGET, 443, cluster="prod"))
    assert caught.value.operation == "DescribeCluster"
    assert stub.calls("StartSession") == []


async def test_a_stream_url_is_kept_byte_for_byte(control, stub):
    stub.answer("StartSession", GRANT | {"StreamUrl": STREAM + CELL})
    assert (await control.start(REQUEST)).stream_url == STREAM + CELL


async def test_resuming_yields_a_new_token_and_url(control, stub):
    fresh = {"TokenValue": "fresh", "StreamUrl": STREAM + CELL}
    stub.answer("ResumeSession", {"SessionId": SESSION} | fresh)
    grant = await control.resume(SESSION)
    assert grant == Grant(SESSION, Secret("fresh"), STREAM + CELL)
    assert stub.calls("ResumeSession") == [{"SessionId": SESSION}]


@pytest.mark.parametrize(
    "reply",
    [
        error("DoesNotExistException", "Session is terminated"),
        {"SessionId": SESSION, "StreamUrl": STREAM},
        {"SessionId": SESSION, "StreamUrl": STREAM, "TokenValue": ""},
        {},
    ],
)
async def test_a_session_that_cannot_be_resumed_is_gone(control, stub, reply):
    stub.answer("ResumeSession", reply)
    with pytest.raises(SessionGone, match=SESSION):
        await control.resume(SESSION)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ExpiredTokenException", CredentialsUnusable),
        ("UnrecognizedClientException", CredentialsUnusable),
        ("AccessDeniedException", AccessDenied),
    ],
)
async def test_credentials_never_end_a_session_that_can_be_resumed(
    control, stub, code, kind
):
    stub.answer("ResumeSession", error(code))
    with pytest.raises(kind) as caught:
        await control.resume(SESSION)
    assert caught.value.recovery is Recovery.WAIT


async def test_throttling_is_told_apart(control, stub):
    stub.answer("StartSession", error("ThrottlingException", "Rate exceeded"))
    with pytest.raises(Throttled):
        await control.start(REQUEST)


@pytest.mark.parametrize("missing", ["TokenValue", "StreamUrl"])
async def test_a_session_without_its_keys_is_terminated(control, stub, missing):
    stub.answer("StartSession", {k: v for k, v in GRANT.items() if k != missing})
    with pytest.raises(ServiceUnavailable, match="IncompleteAnswer"):
        await control.start(REQUEST)
    assert stub.calls("TerminateSession") == [{"SessionId": SESSION}]


async def test_an_empty_answer_is_no_session(control, stub):
    stub.answer("StartSession", {})
    with pytest.raises(ServiceUnavailable, match="IncompleteAnswer"):
        await control.start(REQUEST)
    assert stub.calls("TerminateSession") == []


# Where a token may go.


async def test_a_token_is_not_sent_to_a_strange_host(control, stub):
    stub.answer("StartSession", GRANT | {"StreamUrl": "wss://evil.example/x?cell=1"})
    with pytest.raises(RequestRejected) as caught:
        await control.start(REQUEST)
    assert caught.value.code == "UntrustedStreamUrl"
    assert "wss://evil.example/x " in caught.value.message
    assert "ssmmessages_endpoint" in caught.value.advice
    assert stub.calls("TerminateSession") == [{"SessionId": SESSION}]


async def test_a_resumed_session_is_checked_as_well_but_lives(control, stub):
    stub.answer("ResumeSession", GRANT | {"StreamUrl": "wss://evil.example/x"})
    with pytest.raises(RequestRejected):
        await control.resume(SESSION)
    assert stub.calls("TerminateSession") == []


async def test_an_override_replaces_the_host_only(stub, keys):
    override = "private.example:8443"
    identity = Identity(
        region=REGION, endpoint_url=stub.url, ssmmessages_endpoint=override
    )
    stub.answer("StartSession", GRANT | {"StreamUrl": STREAM + CELL})
    control = SsmControl(identity)
    grant = await control.start(REQUEST)
    assert grant.stream_url == (STREAM + CELL).replace(
        "ws://127.0.0.1:9", "wss://private.example:8443"
    )
    control.check_stream_url(grant.stream_url)
    await control.close()


async def test_nothing_is_trusted_before_the_first_answer(control):
    with pytest.raises(RequestRejected):
        control.check_stream_url(STREAM)
    await control.start(REQUEST)
    control.check_stream_url(STREAM)


# The signature of the upgrade.


async def test_the_upgrade_is_signed(identity, keys):
    now = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    control = SsmControl(identity, now=lambda: now)
    headers = await control.sign_upgrade(STREAM)
    assert headers["X-Amz-Date"] == "20250102T030405Z"
    assert headers["X-Amz-Security-Token"] == SESSION_TOKEN
    scope = f"Credential={ACCESS_KEY}/20250102/{REGION}/ssmmessages/aws4_request"
    assert scope in headers["Authorization"]
    await control.close()


async def test_the_clock_is_the_machines_own(control):
    before = datetime.now(UTC).strftime("%Y%m%d")
    headers = await control.sign_upgrade(STREAM)
    assert headers["X-Amz-Date"] >= before


async def test_a_presigned_url_needs_no_signature(control):
    assert await control.sign_upgrade(STREAM + "&X-Amz-Signature=0f") == {}


async def test_without_credentials_the_upgrade_is_not_signed(identity, aws_files):
    control = SsmControl(identity)
    assert await control.sign_upgrade(STREAM) == {}
    await control.close()


async def test_the_callers_token_is_not_sent_to_a_strange_host(control):
    with pytest.raises(RequestRejected):
        await control.sign_upgrade("wss://evil.example/x")


async def test_credentials_that_cannot_be_refreshed_are_an_error(identity, aws_files):
    aws_files.config.write_text("[default]\ncredential_process = /no/helper\n")
    control = SsmControl(identity)
    with pytest.raises(CredentialsUnusable):
        await control.sign_upgrade(STREAM)
    await control.close()


# Ending sessions.


async def test_a_session_is_terminated(control, stub):
    await control.terminate(SESSION)
    assert stub.calls("TerminateSession") == [{"SessionId": SESSION}]


async def test_terminating_a_session_that_is_gone_is_fine(control, stub):
    stub.answer("TerminateSession", error("DoesNotExistException"))
    await control.terminate(SESSION)


async def test_a_session_that_cannot_be_terminated_is_an_error(control, stub):
    stub.answer("TerminateSession", error("AccessDeniedException"))
    with pytest.raises(AccessDenied, match="TerminateSession"):
        await control.terminate(SESSION)


# Cancellation.


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_session_that_nobody_waits_for_any_more_is_terminated(
    identity, keys, stub, arrival
):
    control = SsmControl(identity)
    stub.held = {"StartSession"}
    async with asyncio.TaskGroup() as tasks:
        start = tasks.create_task(control.start(REQUEST))
        await arrival()
        await cancelled(start)
    stub.release.set()
    with structlog.testing.capture_logs() as lines:
        await control.close()
    assert stub.calls("TerminateSession") == [{"SessionId": SESSION}]
    assert [(line["event"], line["session_id"]) for line in lines] == [
        ("session.discarded", SESSION)
    ]


async def test_a_grant_that_arrives_with_the_cancellation_is_not_lost(
    identity, keys, stub
):
    control = SsmControl(identity)
    control._threads = ThreadPoolExecutor(1)
    async with asyncio.TaskGroup() as tasks:
        start = tasks.create_task(control.start(REQUEST))
        await asyncio.sleep(0)
        # The only thread has done it when it does this; the loop has not seen it yet.
        control._threads.submit(int).result(30)
        await cancelled(start)
    await control.close()
    assert stub.calls("TerminateSession") == [{"SessionId": SESSION}]


async def test_a_start_that_fails_after_its_cancellation_leaves_nothing(
    identity, keys, stub, arrival
):
    control = SsmControl(identity)
    stub.held = {"StartSession"}
    stub.answer("StartSession", error("TargetNotConnected"))
    async with asyncio.TaskGroup() as tasks:
        start = tasks.create_task(control.start(REQUEST))
        await arrival()
        await cancelled(start)
    stub.release.set()
    await control.close()
    assert stub.calls("TerminateSession") == []


async def occupy(control, stub, arrival, tasks):
    """Keep every thread of ``control`` waiting for an answer."""
    stub.held = {"ResumeSession"}
    for _ in range(THREADS):
        tasks.create_task(control.resume(SESSION))
    for _ in range(THREADS):
        await arrival()


async def test_a_start_that_is_cancelled_in_the_queue_never_happens(
    control, stub, arrival
):
    async with asyncio.TaskGroup() as tasks:
        await occupy(control, stub, arrival, tasks)
        start = tasks.create_task(control.start(REQUEST))
        await asyncio.sleep(0)
        await cancelled(start)
        stub.release.set()
    await control.close()
    assert stub.calls("StartSession") == []
    assert stub.calls("TerminateSession") == []


async def test_settled_waits_until_the_sessions_asked_for_are_known(
    identity, keys, stub, arrival
):
    registry = ControlRegistry()
    control = registry.get(identity)
    await registry.settled()
    assert not registry.granted(SESSION)
    stub.held = {"StartSession"}
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(control.start(REQUEST))
        for _ in range(3):
            await arrival()
        settled = tasks.create_task(registry.settled())
        await asyncio.sleep(0)
        assert not settled.done()
        stub.held = set()
        stub.release.set()
        await settled
        assert registry.granted(SESSION)
    await control.terminate(SESSION)
    # The service may have listed it before its end.
    assert registry.granted(SESSION)
    assert not registry.granted("somebody-else's")
    await registry.close()


async def test_settled_waits_for_a_start_whose_caller_has_left_but_for_no_later_one(
    control, stub, arrival
):
    stub.held = {"StartSession"}
    async with asyncio.TaskGroup() as tasks:
        given_up = tasks.create_task(control.start(REQUEST))
        await arrival()
        settled = tasks.create_task(control.settled())
        await cancelled(given_up)
        await asyncio.sleep(0)
        assert not settled.done()
        assert not control.granted(SESSION)
        stub.release.set()
        async with asyncio.timeout(30):
            await settled
        assert control.granted(SESSION)


async def test_settled_does_not_wait_for_what_begins_later(control, stub, arrival):
    stub.held = {"StartSession"}
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(control.start(REQUEST))
        await arrival()
        settled = tasks.create_task(control.settled())
        await asyncio.sleep(0)
        release, stub.release = stub.release, threading.Event()
        later = tasks.create_task(control.start(REQUEST))
        await arrival()
        release.set()
        async with asyncio.timeout(30):
            await settled
        assert not later.done()
        stub.release.set()


async def test_only_the_latest_ten_thousand_sessions_are_remembered():
    ids = _RecentIds()
    for number in range(10_001):
        ids.add(f"s-{number}")
    assert "s-0" not in ids
    assert "s-1" in ids
    assert "s-10000" in ids


async def test_a_start_is_answered_when_it_returns(control, stub):
    told = []
    await control.start(REQUEST, answered=lambda: told.append("granted"))
    stub.answer("StartSession", error("TargetNotConnected"))
    with pytest.raises(TargetNotConnected):
        await control.start(REQUEST, answered=lambda: told.append("refused"))
    assert told == ["granted", "refused"]


async def test_a_start_that_nobody_waits_for_any_more_is_answered_when_it_really_is(
    control, stub, arrival
):
    stub.held = {"StartSession"}
    answered = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        start = tasks.create_task(control.start(REQUEST, answered=answered.set))
        await arrival()
        await cancelled(start)
        await asyncio.sleep(0)
        assert not answered.is_set()
        stub.release.set()
        async with asyncio.timeout(30):
            await answered.wait()


async def test_a_start_that_never_happens_is_answered_too(control, stub, arrival):
    answered = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        await occupy(control, stub, arrival, tasks)
        start = tasks.create_task(control.start(REQUEST, answered=answered.set))
        await asyncio.sleep(0)
        await cancelled(start)
        async with asyncio.timeout(30):
            await answered.wait()
        stub.release.set()
    await control.close()
    told = []
    with pytest.raises(LocalProtocolError, match="closed"):
        await control.start(REQUEST, answered=lambda: told.append("closed"))
    assert told == ["closed"]
    assert stub.calls("StartSession") == []


def test_a_start_may_outlive_its_loop(identity, keys, stub):
    async def abandon():
        stub.held = {"StartSession"}
        control = SsmControl(identity, close_timeout=0)
        told = []
        async with asyncio.TaskGroup() as tasks:
            start = tasks.create_task(
                control.start(REQUEST, answered=lambda: told.append("too late"))
            )
            await asyncio.to_thread(stub.arrived.acquire, timeout=30)
            await cancelled(start)
        await control.close()
        return control, told

    control, told = asyncio.run(abandon())
    stub.release.set()
    control._threads.shutdown()
    assert told == []


async def test_a_termination_that_is_cancelled_in_the_queue_still_happens(
    control, stub, arrival
):
    async with asyncio.TaskGroup() as tasks:
        await occupy(control, stub, arrival, tasks)
        end = tasks.create_task(control.terminate(SESSION))
        await asyncio.sleep(0)
        await cancelled(end)
        stub.release.set()
    await control.close()
    assert stub.calls("TerminateSession") == [{"SessionId": SESSION}]


async def test_closing_waits_for_a_termination_that_nobody_else_waits_for(
    control, stub, arrival
):
    stub.held = {"TerminateSession"}
    async with asyncio.TaskGroup() as tasks:
        end = tasks.create_task(control.terminate(SESSION))
        await arrival()
        await cancelled(end)
        closing = tasks.create_task(control.close())
        await asyncio.sleep(0)
        assert not closing.done()
        stub.release.set()


async def test_closing_does_not_wait_for_ever(identity, keys, stub, arrival):
    control = SsmControl(identity, close_timeout=0)
    stub.held = {"StartSession"}
    async with asyncio.TaskGroup() as tasks:
        start = tasks.create_task(control.start(REQUEST))
        await arrival()
        await cancelled(start)
    with structlog.testing.capture_logs() as lines:
        await control.close()
    assert [(line["event"], line["count"]) for line in lines] == [
        ("sessions.abandoned", 1)
    ]
    stub.release.set()
    await asyncio.to_thread(control._threads.shutdown)


async def test_a_late_session_that_cannot_be_terminated_is_reported(control, stub):
    stub.answer("StartSession", GRANT | {"StreamUrl": ""})
    stub.answer("TerminateSession", error("AccessDeniedException", "no"))
    with (
        structlog.testing.capture_logs() as lines,
        pytest.raises(ServiceUnavailable),
    ):
        await control.start(REQUEST)
    (line,) = lines
    assert line["event"] == "session.abandoned"
    assert line["session_id"] == SESSION
    assert line["reason"] == "TerminateSession failed: AccessDeniedException: no"


async def test_nothing_happens_after_closing(control):
    await control.close()
    await control.close()
    for call in (
        control.start(REQUEST),
        control.resume(SESSION),
        control.terminate(SESSION),
        control.describe(),
        control.sign_upgrade(STREAM),
    ):
        with pytest.raises(LocalProtocolError, match="closed"):
            await call


# The list of sessions.

STARTED = 1735787045.0
LISTED = {
    "SessionId": SESSION,
    "Target": TARGET,
    "Status": "Connected",
    "StartDate": STARTED,
    "DocumentName": "AWS-StartPortForwardingSession",
    "Owner": "arn:aws:sts::111122223333:assumed-role/Admin/alice",
    "Reason": "a test",
    "MaxSessionDuration": "60",
}


async def test_active_sessions_are_listed_page_by_page(control, stub):
    stub.answer(
        "DescribeSessions",
        {"Sessions": [LISTED], "NextToken": "more"},
        {"Sessions": [{"SessionId": "bob-1"}]},
    )
    assert await control.describe(owner="alice", target=TARGET) == [
        ActiveSession(
            session_id=SESSION,
            target=TARGET,
            owner="arn:aws:sts::111122223333:assumed-role/Admin/alice",
            reason="a test",
            status="Connected",
            document="AWS-StartPortForwardingSession",
            started_at=STARTED,
            max_duration=3600.0,
        ),
        ActiveSession("bob-1", "", "", "", "", "", 0.0, None),
    ]
    first, second = stub.calls("DescribeSessions")
    assert first == {
        "State": "Active",
        "MaxResults": 200,
        "Filters": [
            {"key": "Owner", "value": "alice"},
            {"key": "Target", "value": TARGET},
        ],
    }
    assert second == first | {"NextToken": "more"}


async def test_a_list_without_end_is_cut(control, stub):
    stub.answer("DescribeSessions", {"Sessions": [], "NextToken": "more"})
    assert await control.describe() == []
    assert len(stub.calls("DescribeSessions")) == 50


async def test_an_answer_without_a_list_is_an_empty_one(control, stub):
    stub.answer("DescribeSessions", {})
    assert await control.describe() == []


# Logins.


async def test_a_new_login_is_noticed_and_told(aws_files, stub):
    aws_files.write_keys("AKIAFIRST")
    control = SsmControl(Identity(region=REGION, endpoint_url=stub.url))
    healed = asyncio.Event()
    stub.answer("ResumeSession", error("ExpiredTokenException", "too old"))
    async with asyncio.TaskGroup() as tasks:
        attending = tasks.create_task(control.login.attend())
        with control.login.telling(healed.set):
            with pytest.raises(AwsError) as caught:
                await control.resume(SESSION)
            assert control.login.trouble is caught.value
            aws_files.write_keys("AKIASECOND")
            async with asyncio.timeout(60):
                await healed.wait()
        attending.cancel()
    assert control.login.trouble is None
    await control.close()


async def test_other_questions_are_asked_in_a_thread_as_well(control, stub):
    def look(account):
        return threading.current_thread().name, account.place

    name, place = await control.ask(look)
    assert name.startswith("aws")
    assert place is None


async def test_calls_that_trickle_hold_neither_their_callers_nor_threads(
    keys, stub, monkeypatch
):
    monkeypatch.setattr(Sender.__init__, "__defaults__", (0.3,))
    with OddServer(trickling(b"HTTP/1.1 200 OK\r\n\r\n")) as server:
        control = SsmControl(Identity(region=REGION, endpoint_url=server.url))
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(outcome_of(control.start(REQUEST)))
                for _ in range(THREADS + 1)
            ]
        # More than there are threads, so that at least one was used again.
        codes = {task.result().code for task in asked}
        assert codes == {"CallTooSlow"}
        await control.close()


async def test_of_a_list_of_sessions_without_end_some_are_enough(
    control, stub, monkeypatch
):
    monkeypatch.setattr(ssm, "SESSION_LIMIT", 5)
    listed = [{"SessionId": f"me-{number:017}"} for number in range(3)]
    stub.answer("DescribeSessions", {"Sessions": listed, "NextToken": "more"})
    assert len(await control.describe()) == 5
    assert len(stub.calls("DescribeSessions")) == 2
    monkeypatch.setattr(ssm, "LIST_TIMEOUT", 0.0)
    assert len(await control.describe()) == 3


@pytest.fixture
def pipe(aws_files):
    """A token in a pipe that nobody writes to; yields what puts keys in its place."""
    path = aws_files.config.with_name("token")
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    aws_files.config.write_text(
        "[default]\nrole_arn = arn:aws:iam::123456789012:role/r\n"
        f"web_identity_token_file = {path}\n"
    )

    def replace():
        aws_files.config.write_text("")
        aws_files.write_keys(ACCESS_KEY)

    yield replace
    path.unlink()  # or the next one would wait for somebody who opens it
    os.close(held)  # whoever reads from it sees its end
    for thread in threading.enumerate():
        if thread.name.startswith("aws"):
            thread.join(30)


async def test_calls_that_wait_for_a_file_are_given_up_and_hold_up_no_later_ones(
    identity, stub, pipe, monkeypatch
):
    monkeypatch.setattr(ssm, "PATIENCE", 0.2)
    control = SsmControl(identity)
    answered = []
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(
                outcome_of(control.start(REQUEST, answered=lambda: answered.append(1)))
            )
            for _ in range(THREADS + 1)
        ]
    assert {task.result().code for task in asked} == {"NoResult"}
    assert "look at the files" in asked[0].result().advice
    assert len(answered) == THREADS + 1
    await control.settled()
    pipe()
    monkeypatch.setattr(ssm, "PATIENCE", 30.0)
    assert await control.start(REQUEST) == Grant(SESSION, Secret(TOKEN), STREAM)
    await control.close()
    assert len(stub.calls("StartSession")) == 1


async def test_so_many_threads_are_left_behind_and_no_more(identity, pipe, monkeypatch):
    monkeypatch.setattr(ssm, "PATIENCE", 0.05)
    monkeypatch.setattr(ssm, "STUCK_LIMIT", 2)
    control = SsmControl(identity)
    pools = [control._threads]
    for _ in range(THREADS):
        with pytest.raises(ServiceUnavailable, match=r"no result within 0\.05 s"):
            await control.resume(SESSION)
        pools.append(control._threads)
    assert len(set(pools)) == 2
    await control.close()


async def test_a_session_that_is_granted_after_it_was_given_up_is_ended(
    identity, keys, stub, arrival, monkeypatch
):
    control = SsmControl(identity)
    await control.resume(SESSION)  # what takes long the first time
    monkeypatch.setattr(ssm, "PATIENCE", 0.05)
    stub.held = {"StartSession"}
    with pytest.raises(ServiceUnavailable):
        await control.start(REQUEST)
    await arrival()
    monkeypatch.setattr(ssm, "PATIENCE", 30.0)
    # A link that is lost meanwhile is opened again.
    control.check_stream_url(STREAM)
    with structlog.testing.capture_logs() as lines:
        stub.release.set()
        await until(lambda: lines)
    assert [line["event"] for line in lines] == ["session.discarded"]
    assert stub.calls("TerminateSession") == [{"SessionId": SESSION}]
    await control.close()


async def outcome_of(call):
    try:
        return await call
    except AwsError as error:
        return error


@pytest.mark.parametrize(
    "field",
    [
        {"SessionId": "a b"},
        {"SessionId": "x" * 97},
        {"SessionId": 5},
        {"TokenValue": "a\r\nX: y"},
        {"TokenValue": ["t"]},
        {"StreamUrl": "wss://a b"},
        {"StreamUrl": None},
    ],
)
async def test_what_no_session_has_is_no_grant(control, stub, field):
    stub.answer("StartSession", GRANT | field)
    with pytest.raises(ServiceUnavailable) as caught:
        await control.start(REQUEST)
    assert caught.value.code == "IncompleteAnswer"
    assert caught.value.advice
    # A session that has an id is not left to the service.
    ended = [call["SessionId"] for call in stub.calls("TerminateSession")]
    assert ended == ([] if "SessionId" in field else [SESSION])


async def test_whatever_a_question_trips_over_is_an_aws_error(control):
    with pytest.raises(ServiceUnavailable) as caught:
        await control.ask(lambda account: account.no_such_thing)
    assert caught.value.code == "UnusableAnswer"
    assert "AttributeError" in caught.value.message


# Sharing.


async def test_one_identity_has_one_control_and_one_client(stub, keys, arrival):
    registry = ControlRegistry()
    controls = {
        registry.get(Identity(region=REGION, endpoint_url=stub.url)) for _ in range(50)
    }
    (control,) = controls
    async with asyncio.TaskGroup() as tasks:
        grants = [tasks.create_task(control.start(REQUEST)) for _ in range(50)]
    assert {task.result().session_id for task in grants} == {SESSION}
    client = control._account._connection.client("ssm")
    await control.resume(SESSION)
    assert control._account._connection.client("ssm") is client
    threads = [t for t in threading.enumerate() if t.name.startswith("aws")]
    assert len(threads) <= THREADS
    other = registry.get(Identity(region="us-east-1", endpoint_url=stub.url))
    assert other is not control
    await registry.close()
    with pytest.raises(LocalProtocolError):
        await control.start(REQUEST)


async def test_whoever_closes_all_says_how_long_it_may_take(keys, stub, arrival):
    registry = ControlRegistry(close_timeout=0)
    control = registry.get(Identity(region=REGION, endpoint_url=stub.url))
    stub.held = {"StartSession"}
    async with asyncio.TaskGroup() as tasks:
        start = tasks.create_task(control.start(REQUEST))
        await arrival()
        await cancelled(start)
    with structlog.testing.capture_logs() as lines:
        await registry.close()
    stub.release.set()
    assert [(line["event"], line["count"]) for line in lines] == [
        ("sessions.abandoned", 1)
    ]


# Secrets.


async def test_no_secret_is_printed_or_logged(control, stub, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    stub.answer("StartSession", GRANT | {"StreamUrl": STREAM + CELL})
    grant = await control.start(REQUEST)
    await control.sign_upgrade(grant.stream_url)
    await control.resume(SESSION)
    stub.answer("ResumeSession", error("ExpiredTokenException", SESSION_TOKEN))
    with pytest.raises(AwsError) as caught:
        await control.resume(SESSION)
    assert caught.value.__context__ is None
    shown = [repr(grant), repr(control), repr(caught.value), str(caught.value)]
    shown += [caplog.text, *capfd.readouterr()]
    assert "canary" not in "".join(shown)
