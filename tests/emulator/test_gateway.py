"""The websocket endpoint: protocol 1.6, 2.1 to 2.5."""

import asyncio
import json
import uuid
from logging import WARNING

import pytest
from aiohttp import ClientConnectionResetError, web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from ssmtunneld.base.secret import Secret
from ssmtunneld.emulator.gateway import _frame
from tests.emulator.reference import (
    Client,
    call,
    connected,
    destination,
    echo,
    eventually,
    start,
)


async def opened(grant, first=None):
    """Open a websocket, send ``first`` and return the code and reason of its close."""
    async with connect(grant["StreamUrl"], compression=None) as link:
        if first is not None:
            await link.send(first)
        try:
            async with asyncio.timeout(10):
                while True:
                    await link.recv()
        except ConnectionClosed:
            return link.close_code, link.close_reason


async def refused(grant, headers=None):
    """Return the HTTP status with which an upgrade is answered."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(grant["StreamUrl"], additional_headers=headers):
            pass
    return caught.value.response.status_code


def opener(token, request_id=None, **version):
    return json.dumps(
        {
            "MessageSchemaVersion": "1.0",
            "RequestId": request_id or str(uuid.uuid4()),
            "TokenValue": token,
            "ClientId": "c",
            **version,
        }
    )


def go_signature(url, secret="emulator-secret"):
    address, _, query = url.removeprefix("ws://").partition("?")
    host, _, path = address.partition("/")
    cell = query.partition("cell-number=")[2]
    encoded = cell.replace("+", "%20").replace("/", "%2F").replace("=", "%3D")
    request = AWSRequest(
        method="GET",
        url=f"http://{host}/{path}?cell-number={encoded}&role=publish_subscribe",
    )
    request.headers["Host"] = host
    credentials = Credentials("AKIAEMULATOR00000000", secret)
    SigV4Auth(credentials, "ssmmessages", "eu-west-1").add_auth(request)
    return {name: request.headers[name] for name in ("Authorization", "X-Amz-Date")}


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (opener("wrong"), "token is stale or wrong"),
        (b"binary", "not text"),
        ("no json", "not a JSON document"),
        ("[]", "not an object"),
    ],
)
async def test_the_first_message_must_be_an_opener_with_the_token(
    emulate, first, reason
):
    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80)
    code, text = await opened(grant, first)
    assert code == 1008
    assert reason in text
    assert "wrong" not in text or grant["TokenValue"] not in text


async def test_a_request_id_has_at_least_16_characters(emulate):
    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80)
    assert (await opened(grant, opener(grant["TokenValue"], "short")))[0] == 1008


async def test_the_first_message_must_come_in_time(emulate):
    emulator = await emulate(opener_timeout=0.05)
    grant = await start(emulator.endpoint_url, 80)
    assert (await opened(grant))[0] == 1008


async def test_a_ping_before_the_first_message_is_answered(emulate):
    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80)
    async with connect(grant["StreamUrl"], compression=None) as link:
        await (await link.ping(b"keepalive"))
        await link.send(opener(grant["TokenValue"]))
        assert await link.recv()


async def test_text_after_the_first_message_is_refused(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        await client.send_raw("text")
        await client.until_lost()
        assert client.close_code == 1003


async def test_a_pong_that_nobody_asked_for_is_ignored(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        await client._link.pong(b"hello")
        await (await client.ping())


async def test_unknown_and_ended_sessions_are_not_found(emulate):
    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80)
    unknown = {"StreamUrl": grant["StreamUrl"].replace(grant["SessionId"], "nobody")}
    assert await refused(unknown) == 404
    await call(emulator.endpoint_url, "TerminateSession", SessionId=grant["SessionId"])
    assert await refused(grant) == 404


async def test_a_session_that_ends_before_the_first_message_is_refused(emulate):
    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80)
    async with connect(grant["StreamUrl"], compression=None) as link:
        emulator.close_session(grant["SessionId"])
        await link.send(opener(grant["TokenValue"]))
        with pytest.raises(ConnectionClosed):
            await link.recv()
        assert link.close_code == 1008


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("+", "%2B"),
        ("=", "%3D"),
        ("role=publish_subscribe&", ""),
        ("cell-number", "cell"),
    ],
)
async def test_the_url_must_come_back_byte_for_byte(emulate, old, new):
    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80)
    head, query, tail = grant["StreamUrl"].partition("?")
    assert await refused({"StreamUrl": head + query + tail.replace(old, new)}) == 400


async def _resumed(emulator, grant):
    session = grant["SessionId"]
    new = await call(emulator.endpoint_url, "ResumeSession", SessionId=session)
    assert new["TokenValue"] != grant["TokenValue"]
    assert new["StreamUrl"] != grant["StreamUrl"]
    return new


async def test_resume_rotates_token_and_cell_and_the_old_ones_are_stale(emulate):
    emulator = await emulate()
    old = await start(emulator.endpoint_url, 80)
    middle = await _resumed(emulator, old)
    new = await _resumed(emulator, middle)
    assert await refused(middle) == 400
    modern = opener(new["TokenValue"], ClientVersion="1.2.835.0")
    assert await opened(old, modern) == (1008, "the cell number is stale")
    mixed = {"StreamUrl": new["StreamUrl"]}
    assert (await opened(mixed, opener(old["TokenValue"])))[0] == 1008
    client = Client(new)
    async with client.on_link():
        await client.until_ready()


@pytest.mark.parametrize("version", [{}, {"ClientVersion": "1.2.764.0"}])
async def test_official_clients_before_1_2_835_may_keep_their_first_url(
    emulate, version
):
    emulator = await emulate()
    old = await start(emulator.endpoint_url, 80)
    new = await _resumed(emulator, await _resumed(emulator, old))
    async with connect(old["StreamUrl"], compression=None) as link:
        await link.send(opener(new["TokenValue"], **version))
        assert await link.recv(), "the handshake of the agent"


async def test_a_token_may_be_used_again_until_it_is_rotated(emulate):
    emulator = await emulate()
    client = Client(await start(emulator.endpoint_url, 80))
    for _ in range(2):
        async with client.on_link():
            await client.until_ready()
            await (await client.ping())


async def test_a_second_websocket_takes_over(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as first,
    ):
        second = Client(first.grant)
        async with second.on_link():
            await first.until_lost()
            assert first.close_code == 1000
            await (await second.ping())
            (state,) = emulator.state()["sessions"]
            assert (state["attached"], state["websockets"]) == (True, 2)
            assert state["status"] == "Connected"


async def test_messages_wait_for_a_client_that_is_away(emulate):
    emulator = await emulate(scan_interval=30.0)
    async with destination(echo) as port:
        client = Client(await start(emulator.endpoint_url, port))
        async with client.on_link():
            await client.until_ready()
            await client.open(3)
            await client.until(lambda: not client.unacknowledged)
        session = next(iter(emulator.sessions))
        await eventually(lambda: not session.attached)
        (view,) = session.agent.plugin.streams()
        session.agent.plugin.write(b"\1\2\3\0\3\0\0\0abc")
        await eventually(lambda: view.bytes_down == 3)
        assert emulator.state()["sessions"][0]["status"] == "Disconnected"
        async with client.on_link():
            await client.until(lambda: client.streams[3] == b"abc")


async def test_a_cut_loses_the_connection_without_a_close_frame(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        emulator.cut_websockets()
        await client.until_lost()
        assert client.close_code == 1006


async def test_a_cut_reaches_who_has_not_sent_the_first_message(emulate):
    """Such a client takes itself for connected: nobody else would tell it."""
    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80)
    async with connect(grant["StreamUrl"], compression=None) as link:
        emulator.cut_websockets()
        with pytest.raises(ConnectionClosed):
            await link.recv()
        assert link.close_code == 1006
    client = Client(grant)
    async with client.on_link():
        await client.until_ready()


async def test_who_leaves_a_black_hole_is_forgotten(emulate, caplog):
    emulator = await emulate("blackhole")
    grant = await start(emulator.endpoint_url, 80)
    with pytest.raises(TimeoutError):
        async with connect(grant["StreamUrl"], open_timeout=0.1):
            pass
    emulator.faults.clear()
    client = Client(grant)
    async with client.on_link():
        await client.until_ready()
    assert not caplog.records


@pytest.mark.parametrize(
    ("spec", "code", "reason"),
    [
        ("cut-every=50ms", 1006, ""),
        ("bye-every=50ms", 1000, "Bye"),
        ("bye-every=50ms,cut-every=1h", 1000, "Bye"),
        ("bye-every=1h,cut-every=50ms", 1006, ""),
    ],
)
async def test_websockets_of_an_age_end(emulate, spec, code, reason):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        emulator.admin.change([spec], replace=False)  # live ones too
        await client.until_lost()
        assert (client.close_code, client.close_reason) == (code, reason)
        emulator.faults.clear()
        await client.resume(emulator.endpoint_url)
        async with client.on_link():
            await (await client.ping())


async def test_bye_after_is_the_services_habit(emulate):
    emulator = await emulate(bye_after=0.1)
    client = Client(await start(emulator.endpoint_url, 80))
    async with client.on_link():
        await client.until_lost()
        assert (client.close_code, client.close_reason) == (1000, "Bye")


async def test_a_black_hole_answers_nothing_and_ends_nothing(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3, b"a")
        await client.until(lambda: client.streams[3] == b"a")
        emulator.admin.change(["blackhole", "bye"], replace=False)
        session = next(iter(emulator.sessions))
        pong = await client.ping()
        before = session.up.statistics.lost
        assert client.close_code is None
        emulator.admin.change(["blackhole=off"], replace=False)
        await client.until_lost()  # the Bye arrives late
        assert not pong.done() or pong.exception() is not None
        assert session.up.statistics.lost >= before


async def test_what_a_black_hole_swallowed_is_repeated(emulate):
    emulator = await emulate(scan_interval=0.01)
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        emulator.admin.change(["blackhole"], replace=False)
        session = next(iter(emulator.sessions))
        await client.open(3, b"again")
        pong = await client.ping()
        await eventually(lambda: session.up.statistics.lost)
        emulator.faults.clear()
        await client.until(lambda: client.streams[3] == b"again")
        assert not pong.done()


async def test_an_upgrade_in_a_black_hole_waits(emulate):
    emulator = await emulate()
    client = Client(await start(emulator.endpoint_url, 80))
    emulator.admin.change(["blackhole"], replace=False)
    async with asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(_ready(client))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not opening.done()
        emulator.faults.clear()


async def _ready(client):
    async with client.on_link():
        await client.until_ready()


@pytest.mark.parametrize(("spec", "status"), [("418", 418), ("AccessDenied", 403)])
async def test_an_upgrade_can_be_refused_so_many_times(emulate, spec, status):
    emulator = await emulate(f"upgrade-error={spec}*1")
    client = Client(await start(emulator.endpoint_url, 80))
    assert await refused(client.grant) == status
    await _ready(client)


async def test_a_signature_can_be_required_and_is_verified(emulate):
    emulator = await emulate(
        require_signature=True, secret_key=Secret("emulator-secret")
    )
    client = Client(await start(emulator.endpoint_url, 80))
    url = client.grant["StreamUrl"]
    assert await refused(client.grant) == 403
    assert await refused(client.grant, go_signature(url, "wrong")) == 403
    async with client.on_link(headers=go_signature(url)):
        await client.until_ready()


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536])
def test_frames_have_the_length_of_rfc_6455(size):
    frame = _frame(bytes(size))
    assert frame[0] == 0x82
    short = frame[1]
    if size < 126:
        assert short == size
    else:
        width = 2 if size < 65536 else 8
        assert short == (126 if width == 2 else 127)
        assert int.from_bytes(frame[2 : 2 + width]) == size
    assert frame.endswith(bytes(size))


async def test_a_client_that_closes_is_answered(emulate):
    emulator = await emulate()
    client = Client(await start(emulator.endpoint_url, 80))
    async with client.on_link():
        await client.until_ready()
    session = next(iter(emulator.sessions))
    await eventually(lambda: not session.attached)
    assert client._link.close_code == 1000


@pytest.mark.parametrize("beyond", ["closed", "1009", "silence"])
async def test_messages_may_have_a_largest_size(emulate, beyond):
    emulator = await emulate(f"max-message=2000:{beyond}")
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        client.repeats = False
        await client.open(3, bytes(2000 - 16))  # with both headers, just as large
        await client.until(lambda: len(client.streams[3]) == 2000 - 16)
        await client.open(5, bytes(2001 - 16))
        if beyond == "closed":
            await client.until(lambda: client.closed)
        elif beyond == "1009":
            await client.until_lost()
            assert client.close_code == 1009
        else:
            await (await client.ping())
            assert len(client.unacknowledged) == 1
            assert client.closed is None


async def test_a_client_that_leaves_while_it_is_answered_is_no_error(
    emulate, monkeypatch, caplog
):
    async def gone(*_):
        raise ClientConnectionResetError("Cannot write to closing transport")

    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80)
    with monkeypatch.context() as patch:
        patch.setattr(web.WebSocketResponse, "prepare", gone)
        with pytest.raises(InvalidMessage):
            await opened(grant)
    assert [r for r in caplog.records if r.levelno >= WARNING] == []
    assert (await opened(grant, opener("wrong")))[0] == 1008
