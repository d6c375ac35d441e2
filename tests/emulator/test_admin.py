"""The admin path."""

import json

import aiohttp
import pytest

from tests.emulator.reference import (
    INSTANCE,
    Client,
    connected,
    destination,
    echo,
    start,
)


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


async def answer(response):
    async with response as got:
        return got.status, await got.json()


async def test_the_state_shows_sessions_streams_and_counters_but_no_token(
    emulate, http
):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3, b"hello")
        await client.until(lambda: client.streams[3] == b"hello")
        status, state = await answer(
            http.get(f"{emulator.endpoint_url}/_emulator/state")
        )
    assert status == 200
    (session,) = state["sessions"]
    assert session["id"] == client.grant["SessionId"]
    assert session["status"] == "Connected"
    assert session["attached"] is True
    assert session["ready"] is True
    assert session["client_version"] == "1.2.764.0"
    assert session["streams"] == [{"stream_id": 3, "bytes_up": 5, "bytes_down": 5}]
    assert session["up"]["messages"] >= 2
    assert session["down"]["bytes"] > 0
    assert session["agent"]["sent"] >= 3
    assert client.grant["TokenValue"] not in json.dumps(state)


async def test_faults_are_read_replaced_added_and_cleared(emulate, http):
    emulator = await emulate("seed=4")
    url = f"{emulator.endpoint_url}/_emulator/faults"
    for change, body, specs in (
        (http.put, {"specs": ["drop=0.1"]}, ["drop=0.1"]),
        (
            http.post,
            {"specs": "delay=5ms,blackhole"},
            ["drop=0.1", "delay=5ms", "blackhole"],
        ),
        (http.put, ["duplicate=1"], ["duplicate=1"]),
    ):
        status, faults = await answer(change(url, json=body))
        assert (status, faults) == (200, {"specs": specs, "seed": 4, "offline": []})
        assert await answer(http.get(url)) == (200, faults)
    nothing = {"specs": [], "seed": 4, "offline": []}
    assert await answer(http.delete(url)) == (200, nothing)


async def test_an_agent_that_is_away_from_the_start_stays_away(emulate, http):
    emulator = await emulate(offline=frozenset({INSTANCE}))
    url = f"{emulator.endpoint_url}/_emulator/faults"
    for change, specs in (
        (http.put, ["drop=0.1"]),
        (http.post, ["delay=5ms"]),
        (http.delete, []),
    ):
        _, faults = await answer(change(url, json={"specs": specs}))
        assert faults["offline"] == [INSTANCE]
    specs = {"specs": [f"online={INSTANCE}"]}
    _, faults = await answer(http.post(url, json=specs))
    assert (faults["specs"], faults["offline"]) == ([], [])
    await start(emulator.endpoint_url, 80, target=INSTANCE)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"specs": ["drp=1"]}', "no fault named"),
        (b"{", "not JSON"),
        (b'{"specs": [1]}', "expected"),
        (b"7", "expected"),
    ],
)
async def test_a_mistake_is_answered_with_400(emulate, http, body, problem):
    emulator = await emulate()
    url = f"{emulator.endpoint_url}/_emulator/faults"
    status, text = await answer(http.post(url, data=body))
    assert status == 400
    assert problem in text["error"]


async def test_actions_can_be_done_to_one_session(emulate, http):
    emulator = await emulate()
    client = Client(await start(emulator.endpoint_url, 80))
    url = f"{emulator.endpoint_url}/_emulator/sessions/{client.grant['SessionId']}"
    async with client.on_link():
        await client.until_ready()
        assert (await answer(http.post(f"{url}/pause")))[1]["agent"]["paused"]
        status, session = await answer(http.post(f"{url}/close"))
        assert (status, session["id"]) == (200, client.grant["SessionId"])
        await client.until(lambda: client.closed)


@pytest.mark.parametrize("path", ["nobody/close", "{id}/dance"])
async def test_unknown_sessions_and_actions_are_not_found(emulate, http, path):
    emulator = await emulate()
    session_id = (await start(emulator.endpoint_url, 80))["SessionId"]
    path = path.format(id=session_id)
    status, _ = await answer(
        http.post(f"{emulator.endpoint_url}/_emulator/sessions/{path}")
    )
    assert status == 404
