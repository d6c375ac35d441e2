"""How a mapping is, in one word, and why; from what its pool and its server show."""

import json

import pytest

from ssmtunneld.errors import (
    AccessDenied,
    ChannelClosed,
    LinkLost,
    RequestRejected,
)
from ssmtunneld.listener.server import Server, ServerSettings
from ssmtunneld.log import get_log
from ssmtunneld.ops.status import (
    DOCUMENT_VERSION,
    MappingState,
    Subject,
    daemon_status,
    mapping_status,
)
from ssmtunneld.protocol.channel import DataChannel
from ssmtunneld.protocol.handshake import Terms
from ssmtunneld.tunnel.member import MemberSnapshot
from ssmtunneld.tunnel.plan import Phase, SessionView
from ssmtunneld.tunnel.pool import PoolSnapshot
from ssmtunneld.version import __version__

DENIED = AccessDenied("StartSession", "AccessDenied", "no", "ask for it")
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
    return MemberSnapshot(shown, "s-1", 5.0, agreed, CHANNEL)


def server(*bound):
    made = Server(
        name="db",
        addresses=(),
        open_stream=None,
        settings=ServerSettings(linger=1.0, max_connections=1),
        log=get_log(),
    )
    made.bound = bound
    return made


def status(*members, trouble=None, warm=1, waiting=0, bound=("127.0.0.1:1",)):
    pool = PoolSnapshot("db", members, waiting, trouble, 3.0)
    subject = Subject("db", "i-1", "localhost:22", True, warm, pool, server(*bound))
    return mapping_status(subject, 10.0)


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
    ],
)
def test_a_mapping_is_one_word(found, state):
    assert found.state == MappingState(state)


def test_what_stands_in_the_way_is_told_with_what_to_do_about_it():
    found = status(trouble=DENIED)
    assert (found.reason, found.advice) == (str(DENIED), "ask for it")
    assert found.retry_in == 3.0


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


def test_the_document_is_json_with_a_version_of_its_own():
    whole = daemon_status(pid=7, config="/c.toml", uptime=1.26, mappings=(status(),))
    found = json.loads(json.dumps(whole.as_document()))
    (mapping,) = found.pop("mappings")
    assert found == {
        "version": DOCUMENT_VERSION,
        "program": __version__,
        "pid": 7,
        "config": "/c.toml",
        "uptime": 1.3,
    }
    assert (mapping["state"], mapping["listen"]) == ("starting", ["127.0.0.1:1"])
