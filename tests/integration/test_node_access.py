"""Node access on request, from the request to the end of what was approved."""

import asyncio
import json
import stat
from contextlib import suppress

import pytest

from ssmtunneld.daemon.access_file import access_file
from ssmtunneld.emulator.access import ROLE, Decision
from ssmtunneld.emulator.session import StartRequest
from ssmtunneld.errors import AwsError, SsmtunneldError
from ssmtunneld.observe.status import TunnelState
from ssmtunneld.serve.control_socket import Place
from ssmtunneld.sessions import node_access
from tests.integration.test_operator import state_of, until
from tests.integration.world import (
    ACCESS_KEY,
    PATIENCE,
    TARGET,
    ask,
    configuration,
    connection,
    destination,
    echoes,
    emulator,
    port_of,
    running,
    tunnel,
)

OTHER = "i-0fedcba9876543210"
BY_REQUEST_ONLY = {
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "ssm:StartAccessRequest",
                "ssm:GetAccessToken",
                "ssm:DescribeSessions",
                "ssm:GetConnectionStatus",
            ],
            "Resource": "*",
        }
    ]
}
"""The caller's policy: it allows access requests, and no session without one."""


@pytest.fixture(autouse=True)
def _impatience(monkeypatch):
    """Look at requests as often as a test wants: its own patience is not the point."""
    monkeypatch.setattr(node_access, "FIRST_LOOK", 0.05)
    monkeypatch.setattr(node_access, "SHORTEST", 0.1)
    monkeypatch.setattr(node_access, "LONGEST", 0.3)


def service_of(**settings):
    """Return an emulator that lets its callers do nothing without a request."""
    return emulator(
        policies={"": BY_REQUEST_ONLY, ACCESS_KEY: BY_REQUEST_ONLY}, **settings
    )


def requested(name, **settings):
    """Return the table of a tunnel that needs a request, and holds nothing up."""
    return tunnel(name, access="request", required=False, **settings)


async def reaches(daemon, state, name="x"):
    """Return the status of a tunnel once it is in ``state``."""
    await until(lambda: state_of(daemon, name).state is state)
    return state_of(daemon, name)


async def await_reset(address):
    """Return once a new connection is reset, or fail: no byte may come before."""
    async with connection(address) as (reader, writer):
        writer.write(b"?")
        with suppress(ConnectionError):
            assert await reader.read() == b""


async def test_an_approval_brings_the_tunnel_up_with_its_keys(events):
    async with destination() as port, service_of(approval="manual") as service:
        text = configuration(service.endpoint_url, requested("x", port=port))
        async with running(text) as daemon:
            missing = await reaches(daemon, TunnelState.NEEDS_ACCESS)
            assert missing.advice == "run: ssmtunneld request x --reason TEXT"
            assert missing.lasting
            assert not missing.usable
            made = await daemon.request_access("x", "a broken index")
            waiting = await reaches(daemon, TunnelState.AWAITING_APPROVAL)
            assert made["id"] in waiting.reason
            assert waiting.access.request_id == made["id"]
            assert waiting.access.reason == "a broken index"
            assert not waiting.lasting
            (known,) = service.access.state()
            assert (known["target"], known["reason"]) == (TARGET, "a broken index")
            with pytest.raises(SsmtunneldError, match="awaits approval"):
                await daemon.request_access("x", "once more")
            service.access.decide(Decision.APPROVE)
            ready = await reaches(daemon, TunnelState.READY)
            assert ready.access.granted
            assert ready.access.request == "approved"
            assert await echoes(port_of(daemon, "x"))
            (session,) = service.sessions
            assert "SSM-JustInTimeAccessTokenRole" in session.request.owner
        # Its keys end their session, too.
        assert session.status.value == "Terminated"
    assert not events.find("session.abandoned")


async def test_the_keys_are_of_one_tunnel_alone(events):
    async with destination() as port, service_of() as service:
        text = configuration(
            service.endpoint_url,
            requested("x", port=port),
            requested("y", port=port),
            tunnel("z", port=port, required=False),
        )
        async with running(text) as daemon:
            await daemon.request_access("x", "why")
            await reaches(daemon, TunnelState.READY)
            assert state_of(daemon, "y").state is TunnelState.NEEDS_ACCESS
            # It may be trying again at this very moment.
            assert not (await reaches(daemon, TunnelState.WAITING, "z")).usable
            assert len(list(service.sessions)) == 1


async def test_a_connection_that_waits_is_served_by_the_approval(events):
    async with destination() as port, service_of(approval="manual") as service:
        text = configuration(service.endpoint_url, requested("x", port=port))
        async with running(text) as daemon:
            await daemon.request_access("x", "why")
            async with connection(port_of(daemon, "x")) as line:
                async with asyncio.TaskGroup() as tasks:
                    asking = tasks.create_task(ask(*line, b"hello"))
                    await until(lambda: state_of(daemon).waiting == 1)
                    service.access.decide(Decision.APPROVE)
                assert asking.result() == b"hello"


@pytest.mark.parametrize(
    ("decision", "state", "words"),
    [
        (Decision.REJECT, TunnelState.ACCESS_REJECTED, "was rejected"),
        (Decision.EXPIRE, TunnelState.ACCESS_EXPIRED, "has expired"),
        (Decision.REVOKE, TunnelState.ACCESS_REVOKED, "was revoked"),
    ],
)
async def test_a_connection_that_waits_in_vain_is_reset_at_once_with_the_reason(
    events, decision, state, words
):
    async with destination() as port, service_of(approval="manual") as service:
        settings = {"port": port, "connect_timeout": "10m"}
        text = configuration(service.endpoint_url, requested("x", **settings))
        async with running(text) as daemon:
            local = port_of(daemon, "x")
            # Nobody has asked: nothing is worth waiting for.
            await await_reset(local)
            made = await daemon.request_access("x", "why")
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
                tasks.create_task(await_reset(local))
                await until(lambda: state_of(daemon).waiting == 1)
                service.access.decide(decision)
            told = await reaches(daemon, state)
            assert words in told.reason
            assert made["id"] in told.last_refusal.reason
            assert words in told.last_refusal.reason
            assert told.last_refusal.advice == "run: ssmtunneld request x --reason TEXT"
            # And so is whoever comes later.
            await await_reset(local)
            # Asked again, it is another request.
            again = await daemon.request_access("x", "please")
            service.access.decide(Decision.APPROVE)
            assert again["id"] != made["id"]
            await reaches(daemon, TunnelState.READY)
            assert await echoes(local)


async def test_a_connection_outlives_the_access_that_it_began_with(events):
    settings = {"approval": "auto", "access_duration": 1.5}
    async with destination() as port, service_of(**settings) as service:
        text = configuration(service.endpoint_url, requested("x", port=port))
        async with running(text) as daemon:
            await daemon.request_access("x", "why")
            await reaches(daemon, TunnelState.READY)
            local = port_of(daemon, "x")
            async with connection(local) as line:
                assert await ask(*line, b"before") == b"before"
                near = daemon.connect(Place(TARGET, port), None)
                assert near is not None
                near.close()
                ended = await reaches(daemon, TunnelState.ACCESS_EXPIRED)
                assert "has expired" in ended.reason
                assert ended.advice == "run: ssmtunneld request x --reason TEXT"
                assert ended.connections == 1
                assert not ended.usable
                assert await ask(*line, b"after") == b"after"
                # But nobody new comes in by it, nor by way of the control socket.
                await await_reset(local)
                assert daemon.connect(Place(TARGET, port), None) is None
                await daemon.request_access("x", "more")
                await reaches(daemon, TunnelState.READY)
                assert await ask(*line, b"still") == b"still"
                assert await echoes(local)


async def test_a_request_survives_a_restart_and_its_file_has_no_keys(events, tmp_path):
    async with destination() as port, service_of(approval="manual") as service:
        text = configuration(service.endpoint_url, requested("x", port=port))
        async with running(text, instance="a") as daemon:
            made = await daemon.request_access("x", "why")
        file = access_file("a")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        service.access.decide(Decision.APPROVE)
        async with running(text, instance="a") as daemon:
            told = await reaches(daemon, TunnelState.READY)
            assert told.access.request_id == made["id"]
            assert await echoes(port_of(daemon, "x"))
        kept = json.loads(file.read_text())
        (entry,) = kept.values()
        assert set(entry) == {"id", "target", "reason", "asked_at"}
        # Another target has nothing to do with it.
        other = configuration(
            service.endpoint_url, requested("x", port=port, target=OTHER)
        )
        async with running(other, instance="a") as daemon:
            await reaches(daemon, TunnelState.NEEDS_ACCESS)


async def test_a_daemon_that_takes_another_one_s_place_has_all_that_was_its(events):
    free = asyncio.Event()

    async def claim():
        await free.wait()
        return "a"

    async with destination() as port, service_of(approval="manual") as service:
        text = configuration(service.endpoint_url, requested("x", port=port))
        async with running(text, instance="a") as daemon:
            made = await daemon.request_access("x", "why")
        service.access.decide(Decision.APPROVE)
        document = "AWS-StartPortForwardingSession"
        left = service.sessions.start(
            StartRequest(TARGET, document, {"portNumber": str(port)}, "of before [a/x]")
        )
        async with running(text, claim=claim) as daemon:
            await reaches(daemon, TunnelState.NEEDS_ACCESS)
            free.set()
            told = await reaches(daemon, TunnelState.READY)
            assert told.access.request_id == made["id"]
            assert await echoes(port_of(daemon, "x"))
            await until(lambda: left.over)
            await daemon.request_access("x", "more")
        ours = [s.request.reason for s in service.sessions if s is not left]
        assert ours
        assert all(reason.endswith(" [a/x]") for reason in ours)
        kept = json.loads(access_file("a").read_text())
        assert [entry["older"]["id"] for entry in kept.values()] == [made["id"]]


async def test_what_a_daemon_left_behind_is_ended_with_the_keys(events):
    async with destination() as port, service_of() as service:
        document = "AWS-StartPortForwardingSession"
        left = service.sessions.start(
            StartRequest(TARGET, document, {"portNumber": str(port)}, "of before [a/x]")
        )
        text = configuration(service.endpoint_url, requested("x", port=port))
        async with running(text, instance="a") as daemon:
            await daemon.request_access("x", "why")
            await reaches(daemon, TunnelState.READY)
            await until(lambda: left.over)
    assert events.find("session.orphaned")
    assert not events.find("session.abandoned")


async def test_keys_that_allow_no_port_forwarding_are_told_as_such(events):
    # As AWS's own policy for such keys is.
    shells = {
        "Effect": "Allow",
        "Action": "ssm:StartSession",
        "Resource": [
            "arn:aws:ec2:*:*:instance/*",
            "arn:aws:ssm:*:*:document/SSM-SessionManagerRunShell",
        ],
    }
    async with service_of(approval="manual") as service:
        text = configuration(service.endpoint_url, requested("x", port=1))
        async with running(text) as daemon:
            await daemon.request_access("x", "why")
            identities = service.settings.identities
            (key,) = [k for k, arn in identities.items() if ROLE in arn]
            service.permissions.set(key, {"Statement": shells})
            service.access.decide(Decision.APPROVE)
            told = await reaches(daemon, TunnelState.WAITING)
            assert told.access.granted
            assert told.lasting
            assert "document/AWS-StartPortForwardingSession" in told.reason
            assert ROLE in told.advice
            assert "none for port forwarding" in told.advice


async def test_a_denied_request_says_which_permission_is_missing(events):
    async with emulator(approval="auto") as service:
        service.permissions.deny(["ssm:StartAccessRequest"])
        text = configuration(service.endpoint_url, requested("x", port=1))
        async with running(text) as daemon:
            with pytest.raises(AwsError) as caught:
                await daemon.request_access("x", "why")
            assert "ssm:StartAccessRequest" in caught.value.advice
            assert TARGET in caught.value.advice
            assert "iam.md#access-on-request" in caught.value.advice


async def test_clients_that_name_their_destination_need_the_access_too(events):
    async with destination() as port, service_of() as service:
        text = configuration(
            service.endpoint_url,
            requested("x", mode="http-connect", destinations=[f"127.0.0.1:{port}"]),
        )
        async with running(text) as daemon:
            local = port_of(daemon, "x")
            opening = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode()
            await reaches(daemon, TunnelState.NEEDS_ACCESS)
            async with connection(local) as (reader, writer):
                writer.write(opening)
                assert b" 504 " in await reader.readuntil(b"\r\n")
            await daemon.request_access("x", "why")
            await reaches(daemon, TunnelState.IDLE)
            async with connection(local) as (reader, writer):
                writer.write(opening)
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                assert await ask(reader, writer, b"hello") == b"hello"


async def test_a_reload_keeps_a_request_unless_target_or_identity_change(
    events, tmp_path
):
    file = tmp_path / "test.toml"
    async with destination() as port, service_of() as service:

        def write(**settings):
            file.write_text(
                configuration(
                    service.endpoint_url, requested("x", port=port, **settings)
                )
            )
            return file.read_text()

        async with running(write(), source=str(file)) as daemon:
            made = await daemon.request_access("x", "why")
            await reaches(daemon, TunnelState.READY)
            write(keep_alive="1m")
            await daemon.reload()
            assert (await reaches(daemon, TunnelState.READY)).access.request_id == (
                made["id"]
            )
            write(target=OTHER)
            await daemon.reload()
            await reaches(daemon, TunnelState.NEEDS_ACCESS)
