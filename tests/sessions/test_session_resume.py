import json

import pytest

from ssmtunneld.errors import (
    AccessDenied,
    CredentialsUnusable,
    LinkLost,
    LinkRefused,
    LinkUnreachable,
    ServiceUnavailable,
    SessionGone,
    StreamReset,
    Throttled,
)
from ssmtunneld.sessions.policy import Phase
from ssmtunneld.sessions.session import (
    SAME_TOKEN_ATTEMPTS,
)
from tests.sessions.rig import (
    SessionRig,
    check_alive,
    living_session,
    now,
    until,
)
from tests.support.clockwork import virtual
from tests.support.fake_control import (
    CONNECT,
    RESUME,
    START,
    Service,
    elapse,
)

LOST = LinkLost("reset by a test")
LOGGED_OUT = CredentialsUnusable(RESUME, "ExpiredToken", "expired", "run aws sso login")
DENIED = AccessDenied(RESUME, "AccessDeniedException", "no", "allow ssm:ResumeSession")
THROTTLED = Throttled(RESUME, "ThrottlingException", "Rate exceeded")


def tokens(rig: SessionRig) -> list[str]:
    """Return the tokens that introduced the session's links."""
    return [json.loads(wire.texts[0])["TokenValue"] for wire in rig.remote.wires]


@virtual
async def test_streams_survive_every_loss_and_each_link_has_a_token_of_its_own():
    async with living_session() as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        for number in range(5):
            await check_alive(stream, b"before")
            rig.remote.lose_wire()
            assert rig.session.phase is Phase.READY, "nobody knows yet"
            await until(lambda: rig.session.phase is Phase.RESUMING)
            await stream.send(b"while it is down")
            await rig.ready()
            assert await stream.receive() == b"while it is down"
            await check_alive(stream, b"after %d" % number)
        assert len(set(tokens(rig))) == 6
        assert rig.control.count(START) == 1
        assert rig.control.count(RESUME) == 5


@virtual
async def test_the_client_keeps_its_id_and_its_handshake_over_a_resume():
    async with living_session() as rig:
        await rig.ready()
        rig.remote.lose_wire()
        await until(lambda: len(rig.remote.wires) == 2)
        await rig.ready()
        first, second = (json.loads(w.texts[0]) for w in rig.remote.wires)
        assert first["ClientId"] == second["ClientId"]
        assert first["RequestId"] != second["RequestId"]
        assert len(rig.journal.lines("session.ready")) == 1
        assert len(rig.journal.lines("session.resumed")) == 1


@virtual
async def test_a_link_that_lived_is_replaced_without_a_pause():
    async with living_session() as rig:
        await rig.ready()
        await elapse(100)
        lost_at = now()
        rig.remote.lose_wire(LinkLost("Bye", 1000))
        await until(lambda: len(rig.remote.wires) == 2)
        await rig.ready()
        assert now() - lost_at < 0.5


@virtual
async def test_the_first_dials_use_the_token_that_there_is():
    async with living_session() as rig:
        rig.control.fail_next(CONNECT, *[LOST] * (SAME_TOKEN_ATTEMPTS - 1))
        await rig.ready()
        assert rig.control.count(CONNECT) == SAME_TOKEN_ATTEMPTS
        assert rig.control.count(RESUME) == 0


@virtual
async def test_after_some_dials_another_token_is_asked_for():
    async with living_session() as rig:
        rig.control.fail_next(CONNECT, *[LOST] * SAME_TOKEN_ATTEMPTS)
        await rig.ready()
        assert rig.control.count(RESUME) == 1


@virtual
async def test_a_token_that_is_refused_is_not_tried_again():
    async with living_session() as rig:
        rig.control.fail_next(CONNECT, LinkRefused(403, "ssmmessages.invalid"))
        await rig.ready()
        assert rig.control.count(CONNECT) == 2
        assert rig.control.count(RESUME) == 1


@virtual
async def test_a_session_that_cannot_connect_says_what_stands_in_the_way():
    async with living_session() as rig:
        refusal = LinkRefused(403, "ssmmessages.invalid")
        rig.control.fail(CONNECT, refusal)
        await until(lambda: rig.session.trouble is not None)
        changes = rig.changes
        assert rig.session.trouble is refusal
        assert "ssmmessages:OpenDataChannel" in refusal.advice
        assert changes > 0, "and the pool is told"
        rig.control.heal()
        await rig.ready()
        assert rig.session.trouble is None


@pytest.mark.parametrize(
    "error",
    [LOGGED_OUT, DENIED, THROTTLED, ServiceUnavailable(RESUME, "500", "oops")],
    ids=lambda error: type(error).__name__,
)
@virtual
async def test_no_refusal_to_resume_ends_a_session_that_may_be_alive(error):
    async with living_session() as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        rig.control.fail(RESUME, error)
        rig.remote.lose_wire()
        await elapse(600)
        assert rig.session.phase is Phase.RESUMING
        assert rig.session.trouble is error
        rig.control.heal()
        await rig.ready()
        await check_alive(stream)
        assert rig.control.count(START) == 1
        assert rig.control.count(RESUME) < 600 / 3, "the backoff grows"


@virtual
async def test_a_service_out_of_reach_is_logged_once_until_it_is_reached_again():
    async with living_session() as rig:
        await rig.ready()
        for outage in range(2):
            unreachable = LinkUnreachable("ssmmessages.invalid", f"no route, {outage}")
            rig.control.fail(CONNECT, unreachable)
            rig.remote.lose_wire()
            await elapse(120)
            rig.control.heal()
            await rig.ready()
        reasons = [line["reason"] for line in rig.journal.lines("link.failed")]
        assert len(reasons) == 2
        assert len(rig.journal.lines("link.lost")) == 2


@virtual
async def test_resuming_is_given_up_when_the_service_would_have_ended_the_session():
    service = Service(idle_timeout=3600)
    async with living_session(service) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        rig.control.fail(RESUME, LOGGED_OUT)
        lost_at = now()
        rig.remote.lose_wire()
        await rig.over(patience=3600)
        assert isinstance(rig.error, SessionGone)
        assert "run aws sso login" in rig.error.advice
        assert 1200 <= now() - lost_at < 1230
        assert not rig.remote.alive, "its idle timeout may be longer than usual"
        with pytest.raises(StreamReset):
            await stream.receive()


@virtual
async def test_a_session_that_is_gone_cuts_its_streams():
    async with living_session() as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        rig.remote.forget()
        rig.remote.lose_wire()
        await rig.over()
        assert isinstance(rig.error, SessionGone)
        with pytest.raises(StreamReset):
            await stream.receive()


@virtual
async def test_a_session_that_was_never_ready_is_not_resumed_at_any_price():
    async with living_session() as rig:
        rig.control.fail(CONNECT, LOST)
        rig.control.fail(RESUME, DENIED)
        await rig.over()
        assert rig.error is DENIED
        assert now() < 10
        assert not rig.remote.alive, "another is as good, once this one is gone"


@virtual
async def test_links_that_are_cut_at_once_are_not_dialled_in_a_frenzy():
    async with living_session(Service(websocket_age=0.05)) as rig:
        await rig.ready()
        await elapse(600)
        assert rig.control.count(CONNECT) < 200


@virtual
async def test_a_dial_that_takes_long_to_fail_is_no_link_that_lived():
    async with living_session() as rig:
        await rig.ready()
        await elapse(10)
        rig.control.service.api_time = 1.1
        rig.control.fail(CONNECT, LOST)
        rig.remote.lose_wire()
        await elapse(600)
        assert rig.control.count(CONNECT) < 150


@virtual
async def test_a_changed_network_is_tried_at_once_and_with_short_pauses():
    async with living_session() as rig:
        await rig.ready()
        await elapse(10)
        rig.control.fail(RESUME, ServiceUnavailable(RESUME, "500", "oops"))
        rig.remote.lose_wire()
        await elapse(300)
        before = rig.control.count(RESUME)
        rig.session.retry_now()
        await elapse(1.5)
        assert rig.control.count(RESUME) >= before + 3
        rig.control.heal()
        rig.session.retry_now()
        await rig.ready(patience=1.0)


@virtual
async def test_a_throttled_resume_is_repeated_after_a_second_and_then_more_slowly():
    async with living_session() as rig:
        await rig.ready()
        await elapse(10)
        rig.control.fail(RESUME, THROTTLED)
        rig.remote.lose_wire()
        await until(lambda: rig.control.count(RESUME) == 1)
        await elapse(0.9)
        assert rig.control.count(RESUME) == 1
        await elapse(30)
        assert 2 <= rig.control.count(RESUME) <= 6
        rig.control.heal()
        await rig.ready(patience=60.0)


@virtual
async def test_a_check_finds_a_dead_link_long_before_the_dead_peer_timer():
    async with living_session() as rig:
        await rig.ready()
        rig.remote.wire.vanish()
        vanished_at = now()
        rig.session.check()
        await until(lambda: rig.session.phase is Phase.RESUMING)
        assert now() - vanished_at < 5.1
        await rig.ready()


@virtual
async def test_a_check_of_a_live_link_changes_nothing():
    async with living_session() as rig:
        rig.session.check()  # without a link there is nothing to check
        await rig.ready()
        rig.session.check()
        assert rig.remote.wire.checks == 1
        await elapse(60)
        assert rig.control.count(RESUME) == 0
