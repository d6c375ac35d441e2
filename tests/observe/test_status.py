"""The state and reason of a tunnel, derived from its pool and its server."""

import json
from dataclasses import dataclass, replace

import pytest

from ssmtunneld.aws.access_requests import AccessStatus
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.secret import Secret
from ssmtunneld.config import TunnelSettings
from ssmtunneld.errors import (
    AccessDenied,
    AccessMissing,
    AddressInUse,
    ChannelClosed,
    CredentialsUnusable,
    DestinationRefused,
    LinkLost,
    LinkUntrusted,
    RequestRejected,
    ServiceUnavailable,
    TargetNotConnected,
    TargetNotFound,
    Unforeseen,
)
from ssmtunneld.listener.counters import ConnectionCounters, Refusal
from ssmtunneld.listener.server import ServerSettings
from ssmtunneld.observe.probe import ProbeStatus
from ssmtunneld.observe.status import (
    DOCUMENT_VERSION,
    RESUME_GRACE,
    StatusInputs,
    TunnelState,
    broken_status,
    daemon_status,
    disabled_status,
    tunnel_status,
)
from ssmtunneld.protocol.channel import DataChannel
from ssmtunneld.protocol.handshake import Terms
from ssmtunneld.sessions.counters import PoolSnapshot, SessionCounters
from ssmtunneld.sessions.node_access import AccessRequest
from ssmtunneld.sessions.policy import Phase, SessionView
from ssmtunneld.sessions.pooled_session import PooledSessionSnapshot
from ssmtunneld.version import __version__
from tests.observe.samples import daemon, defect, identity, tunnel

DENIED = AccessDenied("StartSession", "AccessDenied", "no", "ask for it")
UNREACHABLE = ServiceUnavailable("StartSession", "ConnectTimeoutError", "no answer")
REDIRECTED = ServiceUnavailable("StartSession", "302", "a portal", "log in to it")
REDIRECTED.passes = False
CHANNEL = DataChannel(client_id="c", new_id=bytes, wall_clock_ms=int).statistics()


def terms(*, mux=True):
    return Terms(agent_version="3.3.987.0", mux=mux, **_OTHER_TERMS)


_OTHER_TERMS = {
    name: False
    for name in Terms.__dataclass_fields__
    if name not in {"agent_version", "mux"}
}


def member(phase=Phase.READY, agreed=None, **view):
    shown = SessionView(number=1, phase=phase, since=5.0, **view)
    return PooledSessionSnapshot(shown, "s-1", 5.0, agreed, CHANNEL, CHANNEL.rtt)


@dataclass(frozen=True)
class Listening:
    """The attributes of a server that status reads."""

    bound: tuple
    last_refusal: Refusal | None = None
    settings = ServerSettings(linger=1.0, max_connections=5)
    queued = 3

    def statistics(self):
        return replace(ConnectionCounters().read(), last_refusal=self.last_refusal)


@dataclass(frozen=True)
class Access:
    """The attributes of an access that status reads: the request and its outcome."""

    outcome: str | None
    is_open: bool = False
    expires_at = 1_800_000_000.0

    @property
    def status(self):
        return None if self.outcome is None else AccessStatus(self.outcome)

    @property
    def request(self):
        if self.outcome is None:
            return None
        return AccessRequest("oi-0123456789ab", "i-1", "why", 1_700_000_000.4)

    @property
    def missing(self):
        if self.is_open:
            return None
        return AccessMissing(
            clean("no access"), "ask", pending=self.outcome == "pending"
        )


LOGIN = CredentialsUnusable("Login", "SSOError", "expired", "run: aws sso login")


def status(
    *members,
    trouble=None,
    warm=1,
    waiting=0,
    bound=("127.0.0.1:1",),
    listening=None,
    **how,
):
    counts = SessionCounters().read()
    pool = PoolSnapshot("db", members, waiting, trouble, 3.0, warm, counts)
    subject = StatusInputs(
        "db", "i-1", "localhost:22", True, pool, listening or Listening(bound), **how
    )
    return tunnel_status(subject, 10.0)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (status(member()), "ready"),
        (status(member(), member(Phase.RESUMING), trouble=DENIED), "ready"),
        (status(member(Phase.RESUMING), member(Phase.STARTING)), "resuming"),
        (status(member(Phase.STARTING)), "starting"),
        (status(), "starting"),
        (status(warm=0, waiting=1), "starting"),
        (status(warm=0), "idle"),
        (status(trouble=ChannelClosed("bye")), "retrying"),
        (status(trouble=LinkLost("cut")), "retrying"),
        (status(trouble=DENIED), "waiting"),
        (status(trouble=RequestRejected("StartSession", "X", "no")), "failed"),
        (status(member(), bound=()), "unbound"),
        (status(member(), login=LOGIN), "needs_login"),
        (status(warm=0, login=LOGIN), "needs_login"),
        (status(member(), bound=(), login=LOGIN), "unbound"),
        (status(member(), access=Access(None)), "needs_access"),
        (status(access=Access("pending")), "awaiting_approval"),
        (status(access=Access("approved")), "awaiting_approval"),
        (status(access=Access("rejected")), "access_rejected"),
        (status(member(), access=Access("revoked")), "access_revoked"),
        (status(member(), access=Access("expired")), "access_expired"),
        (status(member(), access=Access("approved", is_open=True)), "ready"),
        (status(member(), access=Access("rejected", is_open=True)), "ready"),
        (status(access=Access("expired"), login=LOGIN), "needs_login"),
        (status(access=Access("expired"), bound=()), "unbound"),
        (status(access=Access("expired"), paused=True), "paused"),
        (status(member(), defects=(defect("listener", restart_in=4.0),)), "retrying"),
        (status(member(), defects=(defect("listener"),)), "ready"),
        (status(member(), defects=(defect("probe", restart_in=4.0),)), "ready"),
        (status(trouble=Unforeseen("defect: TypeError at x.py:1")), "retrying"),
    ],
)
def test_a_tunnel_is_one_word(found, state):
    assert found.state == TunnelState(state)


@pytest.mark.parametrize(
    ("found", "usable"),
    [
        (status(member()), True),
        (status(warm=0), True),
        (status(warm=0, waiting=1), True),
        (status(member(Phase.STARTING), warm=0), True),
        (status(member(Phase.STARTING)), False),
        (status(), False),
        (status(trouble=ChannelClosed("bye")), False),
        (status(trouble=DENIED, warm=0), False),
        (status(trouble=RequestRejected("StartSession", "X", "no")), False),
        (status(member(), bound=()), False),
        (status(member(), login=LOGIN), True),
        (status(member(Phase.RESUMING), login=LOGIN), False),
        (status(login=LOGIN), False),
    ],
)
def test_a_tunnel_is_usable_if_a_connection_may_expect_to_be_served(found, usable):
    assert found.usable is usable


@pytest.mark.parametrize(
    ("found", "lasting"),
    [
        (status(member()), False),
        (status(trouble=ChannelClosed("bye")), False),
        (status(trouble=DENIED), True),
        (status(trouble=LinkUntrusted("host", "self-signed")), True),
        (status(trouble=TargetNotConnected("StartSession", "X", "no")), False),
        (status(trouble=TargetNotFound("DescribeInstances", "X", "no")), True),
        (status(trouble=RequestRejected("StartSession", "X", "no")), True),
        (status(trouble=UNREACHABLE), False),
        (status(trouble=REDIRECTED), True),
        (status(trouble=REDIRECTED, defects=(defect("pool", restart_in=4.0),)), False),
        (status(login=LOGIN), True),
        (status(bound=()), False),
        (status(unbound=AddressInUse("127.0.0.1:1", "in use")), True),
    ],
)
def test_a_reason_lasts_if_only_somebody_can_end_it(found, lasting):
    assert found.lasting is lasting


def test_a_tunnel_without_a_login_says_how_to_log_in():
    found = status(member(), login=LOGIN)
    assert found.reason == "Login failed: SSOError: expired"
    assert found.advice == "run: aws sso login"


@pytest.mark.parametrize(("since", "usable"), [(10.0, True), (0.1, True), (0.0, False)])
def test_one_that_resumes_is_usable_for_a_while(since, usable):
    view = SessionView(number=1, phase=Phase.RESUMING, since=since)
    old = SessionView(number=2, phase=Phase.RESUMING, since=-100.0)
    members = [
        PooledSessionSnapshot(v, "s", 0.0, None, CHANNEL, CHANNEL.rtt)
        for v in (old, view)
    ]
    assert RESUME_GRACE == 10.0
    found = status(*members)
    assert (found.state, found.usable) == ("resuming", usable)


def rtt_of(*pairs):
    """Return the tunnel's, given the traffic and the one of each session."""
    members = [replace(member(traffic=traffic), rtt=rtt) for traffic, rtt in pairs]
    return status(*members).rtt


@pytest.mark.parametrize(
    ("pairs", "rtt"),
    [
        ([], None),
        ([(9.0, None)], None),
        ([(1.0, 0.3), (2.0, 0.5), (9.0, None)], 0.5),
    ],
)
def test_the_round_trip_is_that_of_the_busiest_session(pairs, rtt):
    assert rtt_of(*pairs) == rtt


def test_a_daemon_is_ready_when_every_required_tunnel_is_usable():
    def whole(*tunnels, **how):
        return daemon_status(pid=7, config="", uptime=0, tunnels=tunnels, **how)

    down = status(trouble=DENIED)
    assert whole(status(member())).ready
    assert not whole(status(member()), down).ready
    assert whole(status(member()), replace(down, required=False)).ready
    assert not whole(status(member()), draining=True).ready


def test_what_stands_in_the_way_is_told_with_what_to_do_about_it():
    found = status(trouble=DENIED)
    assert (found.reason, found.advice) == (str(DENIED), "ask for it")
    assert found.retry_in == 3.0


def test_why_an_address_cannot_be_had_is_told():
    taken = AddressInUse("127.0.0.1:1", "in use", "sshd, pid 1")
    found = status(member(), trouble=DENIED, unbound=taken)
    assert (found.state, found.usable) == ("unbound", False)
    assert (found.reason, found.advice) == (str(taken), taken.advice)
    found = status(member(), unbound=PermissionError("port 22"))
    assert (found.reason, found.advice) == ("port 22", "")


def probed(ok, *, pending=False):
    return ProbeStatus("tcp", ok, pending, "" if ok else "no answer", "look", 1, 2.0)


@pytest.mark.parametrize(
    ("found", "state", "usable", "reason"),
    [
        (status(member(), probe=probed(True)), "ready", True, ""),
        (status(member(), probe=probed(None)), "ready", True, ""),
        (status(member(), probe=probed(False)), "unhealthy", False, "no answer"),
        (status(member(), probe=probed(None, pending=True)), "starting", False, ""),
        (status(warm=0, probe=probed(None)), "idle", True, ""),
        (status(trouble=DENIED, probe=probed(False)), "waiting", False, str(DENIED)),
    ],
)
def test_a_probe_that_fails_makes_a_tunnel_unusable(found, state, usable, reason):
    assert (found.state, found.usable, found.reason) == (state, usable, reason)
    assert found.probe.kind == "tcp"


def test_a_paused_tunnel_says_how_it_goes_on():
    found = status(member(), bound=(), paused=True)
    assert (found.state, found.usable) == ("paused", False)
    assert found.reason == "paused by an operator"
    assert found.advice == "run: ssmtunneld resume db"


def test_what_is_over_is_not_told_any_more():
    found = status(member(), trouble=DENIED)
    assert (found.reason, found.advice) == ("", "")


@pytest.mark.parametrize(
    ("agreed", "agent", "mode"),
    [
        (None, None, None),
        (terms(), "3.3.987.0", "mux"),
        (terms(mux=False), "3.3.987.0", "basic"),
    ],
)
def test_a_session_tells_its_agent_once_it_is_known(agreed, agent, mode):
    view = {"streams": 2, "traffic": 1234.6, "stalled": True, "retiring": True}
    (session,) = status(member(agreed=agreed, **view)).sessions
    assert (session.agent, session.mode) == (agent, mode)
    assert (session.number, session.session_id, session.phase) == (1, "s-1", "ready")
    assert (session.age, session.streams, session.rate) == (5.0, 2, 1235)
    assert session.stalled
    assert session.retiring
    assert session.rtt is None


def test_a_part_that_broke_is_the_reason_until_it_works_again():
    broken = defect("listener", restart_in=4.2)
    found = status(member(), defects=(defect("probe"), broken))
    assert found.reason == "defect: TypeError at observe/probe.py:7; restarted in 4 s"
    assert "report it" in found.advice
    assert not found.usable
    assert found.defects == (defect("probe"), broken)
    assert status(member(), defects=(defect("listener"),)).reason == ""


@pytest.mark.parametrize("last", [None, tunnel(accepted=7, sent=8)])
def test_a_tunnel_that_cannot_tell_how_it_is_keeps_its_counters(last):
    settings = TunnelSettings(
        name="db", listen=("127.0.0.1:1",), target="i-01234567", port=22
    )
    found = broken_status(settings, last, (defect("status"),))
    assert (found.name, found.state, found.usable) == ("db", "retrying", False)
    assert found.reason == "defect: TypeError at observe/probe.py:7"
    assert (found.accepted, found.sent) == ((7, 8) if last else (0, 0))
    assert found.destination == ("localhost:5432" if last else "localhost:22")


def test_the_document_is_json_with_a_version_of_its_own():
    whole = daemon_status(pid=7, config="/c.toml", uptime=1.26, tunnels=(status(),))
    found = json.loads(json.dumps(whole.as_document()))
    (tunnel,) = found.pop("tunnels")
    assert found == {
        "version": DOCUMENT_VERSION,
        "program": __version__,
        "pid": 7,
        "config": "/c.toml",
        "config_error": "",
        "uptime": 1.3,
        "draining": False,
        "identities": [],
        "defects": [],
        "audit": None,
        "groups": [],
    }
    assert (tunnel["state"], tunnel["listen"]) == ("starting", ["127.0.0.1:1"])


def test_a_token_cannot_take_the_name_of_a_tunnel():
    """Commands find tunnels by it; what others say of one has no token in it."""
    for text in ("orders-db-1", "night-shift-7"):
        Secret.token(text)
        Secret.token(f"i-7{text}9{text}")
    called = tunnel("orders-db-1", groups=("night-shift-7",), reason="orders-db-1")
    whole = daemon(called, identities=(identity(tunnels=("orders-db-1",)),))
    found = replace(whole, groups=("night-shift-7",)).as_document()
    (shown,) = found["tunnels"]
    assert (shown["name"], shown["groups"]) == ("orders-db-1", ("night-shift-7",))
    assert found["identities"][0]["tunnels"] == ("orders-db-1",)
    assert found["groups"] == ("night-shift-7",)
    assert shown["reason"] == "***"


@pytest.mark.parametrize(
    ("outcome", "lasting"),
    [
        (None, True),
        ("pending", False),
        ("rejected", True),
        ("revoked", True),
        ("expired", True),
    ],
)
def test_missing_access_says_what_to_do_and_whether_that_is_needed(outcome, lasting):
    found = status(member(), access=Access(outcome))
    assert (found.reason, found.advice) == ("no access", "ask")
    assert found.lasting is lasting
    assert not found.usable
    assert found.access.granted is False


def test_access_is_in_the_document():
    assert status(member()).access is None
    found = status(member(), access=Access("approved", is_open=True)).access
    assert found.granted
    assert (found.request_id, found.request) == ("oi-0123456789ab", "approved")
    assert (found.target, found.reason) == ("i-1", "why")
    assert (found.asked_at, found.expires_at) == (1_700_000_000, 1_800_000_000.0)
    nothing = status(access=Access(None)).access
    assert (nothing.request_id, nothing.request, nothing.asked_at) == (None,) * 3


def test_the_last_refusal_has_its_reason_and_its_age():
    listening = Listening(("127.0.0.1:1",), Refusal(DestinationRefused("closed"), 4.0))
    found = status(member(), listening=listening).last_refusal
    assert (found.reason, found.age) == (str(DestinationRefused("closed")), 6.0)
    assert found.advice == DestinationRefused("closed").advice
    unknown = status(member(), listening=Listening((), Refusal(None, 4.0)))
    assert unknown.last_refusal.reason == ""
    assert status(member()).last_refusal is None


def test_a_disabled_tunnel_has_its_settings_and_is_neither_required_nor_usable():
    settings = TunnelSettings.model_validate(
        {
            "name": "old",
            "listen": [5432],
            "target": "i-0182d91e",
            "port": 5432,
            "enabled": False,
            "groups": ["orders"],
        }
    )
    found = disabled_status(settings)
    assert (found.name, found.state) == ("old", TunnelState.DISABLED)
    assert (found.usable, found.required, found.enabled) == (False, False, False)
    assert (found.reason, found.listen, found.sessions) == ("", (), ())
    assert (found.target, found.destination) == ("i-0182d91e", "localhost:5432")
    assert found.groups == ("orders",)
    assert daemon(found).ready
