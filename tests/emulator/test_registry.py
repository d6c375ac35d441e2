"""All sessions of one emulator."""

import pytest

from ssmtunneld.emulator import registry
from ssmtunneld.emulator.faults import Action
from tests.emulator.reference import INSTANCE, eventually, start


async def test_ended_sessions_are_forgotten_when_there_are_too_many(
    emulate, monkeypatch
):
    monkeypatch.setattr(registry, "HISTORY_LIMIT", 2)
    emulator = await emulate()
    ids = [(await start(emulator.endpoint_url, 80))["SessionId"] for _ in range(2)]
    emulator.close_session(ids[0])
    await eventually(lambda: emulator.sessions.get(ids[0]).ended)
    ids += [(await start(emulator.endpoint_url, 80))["SessionId"] for _ in range(2)]
    # The live ones stay, however many there are.
    assert [session.id for session in emulator.sessions] == ids[1:]


async def test_an_action_reaches_every_live_session(emulate):
    emulator = await emulate()
    for _ in range(3):
        await start(emulator.endpoint_url, 80)
    first = next(iter(emulator.sessions))
    first.end()
    assert emulator.sessions.do(Action.CLOSE) == 2
    assert all(session.over for session in emulator.sessions)


async def test_a_seed_repeats_ids_but_not_between_sessions(emulate):
    ids = []
    for seed in (1, 1, 2):
        emulator = await emulate(f"seed={seed}")
        ids.append(
            [(await start(emulator.endpoint_url, 80))["SessionId"] for _ in range(2)]
        )
    assert ids[0] == ids[1] != ids[2]
    assert ids[0][0] != ids[0][1]


async def test_without_a_seed_no_two_emulators_have_the_same_ids(emulate):
    grants = [await start((await emulate()).endpoint_url, 80) for _ in range(2)]
    assert grants[0]["SessionId"] != grants[1]["SessionId"]


async def test_targets_are_listed_once(emulate):
    emulator = await emulate()
    for _ in range(2):
        await start(emulator.endpoint_url, 80)
    assert emulator.sessions.known_targets() == [INSTANCE]


async def test_closing_an_unknown_session_is_an_error(emulate):
    emulator = await emulate()
    with pytest.raises(KeyError):
        emulator.close_session("nobody")
