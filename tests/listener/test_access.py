import os
import socket
from ipaddress import ip_network

import pytest

from ssmtunneld.listener import held_fin, owner, process_table
from ssmtunneld.listener.access import (
    AccessDecision,
    Rejection,
    access_limitations,
    allowed_uids,
    judge,
)
from ssmtunneld.listener.owner import OwnerVisibility
from ssmtunneld.listener.process_table import user_name
from tests.support.sockets import socket_pair

OFFICE = ip_network("192.0.2.0/24")
LOCAL = ("192.0.2.1", 5432)
STRANGER = 4_000_000_000
"""A user id that nobody has."""


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        ("192.0.2.77", None),
        ("::ffff:192.0.2.77", None),
        ("198.51.100.1", AccessDecision(Rejection.ADDRESS)),
        ("2001:db8::1", AccessDecision(Rejection.ADDRESS)),
    ],
)
def test_only_the_allowed_networks_may_connect(host, verdict):
    assert judge(LOCAL, (host, 40000), allow=[OFFICE], allow_uids=None) == verdict


needs_user = pytest.mark.skipif(
    not held_fin.keeps_user(), reason="this kernel forgets whose a closed socket was"
)


def test_without_rules_everybody_may_connect():
    assert judge(LOCAL, ("203.0.113.9", 1), allow=(), allow_uids=None) is None


def test_a_client_elsewhere_has_no_user_to_look_at():
    peer = ("192.0.2.77", 40000)
    assert judge(LOCAL, peer, allow=[OFFICE], allow_uids={1000}) is None


def test_only_the_allowed_users_of_this_machine_may_connect():
    near, far = socket_pair()
    with near, far:
        ends = near.getsockname(), near.getpeername()
        me = os.getuid()
        assert judge(*ends, allow=(), allow_uids={me}) is None
        stranger = judge(*ends, allow=(), allow_uids={me + 1})
        assert stranger == AccessDecision(Rejection.OWNER, me)


def test_a_local_client_that_has_left_may_not_connect():
    near, far = socket_pair()
    with near:
        ends = near.getsockname(), near.getpeername()
        far.close()
        decision = judge(*ends, allow=(), allow_uids={STRANGER})
        # Whose it was is known until our end has acknowledged its last word.
        assert decision in {
            AccessDecision(Rejection.GONE),
            AccessDecision(Rejection.OWNER, os.getuid()),
        }


@needs_user
def test_a_local_client_that_has_left_may_connect_while_its_user_is_known():
    me = os.getuid()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert held_fin.hold(listening)
        socket.create_connection(listening.getsockname()).close()
        accepted, peer = listening.accept()
        with accepted:
            ends = accepted.getsockname(), peer
            assert judge(*ends, allow=(), allow_uids={me}) is None
            refused = AccessDecision(Rejection.OWNER, me)
            assert judge(*ends, allow=(), allow_uids={me + 1}) == refused


def test_a_local_client_whose_user_cannot_be_seen_may_not_connect(monkeypatch):
    near, far = socket_pair()
    with near, far:
        ends = near.getsockname(), near.getpeername()
        monkeypatch.setattr(owner, "sight", lambda: OwnerVisibility.HIDDEN)
        verdict = judge(*ends, allow=(), allow_uids={os.getuid()})
        assert verdict == AccessDecision(Rejection.OWNER)


def test_our_own_user_is_always_allowed():
    assert allowed_uids(()) == {os.geteuid()}
    assert allowed_uids((STRANGER,)) == {os.geteuid(), STRANGER}


def test_everybody_may_be_allowed():
    assert allowed_uids(("*",)) is None
    assert allowed_uids((STRANGER, "*")) is None


def test_where_users_cannot_be_told_apart_they_are_not(monkeypatch):
    monkeypatch.setattr(owner, "sight", lambda: OwnerVisibility.ABSENT)
    assert allowed_uids(()) is None


@pytest.mark.parametrize(
    ("sight", "words"),
    [
        (OwnerVisibility.ABSENT, "Unix socket"),
        (OwnerVisibility.HIDDEN, 'allow_users = ["*"]'),
        (OwnerVisibility.SLOW, "AF_NETLINK"),
    ],
)
def test_what_is_wrong_with_the_check_is_said_with_what_would_help(
    sight, words, monkeypatch
):
    monkeypatch.setattr(owner, "sight", lambda: sight)
    monkeypatch.setattr(owner, "stranger", lambda: None)
    (found,) = access_limitations(others=True)
    assert words in found.advice
    assert found.reason


def test_in_a_user_namespace_others_are_all_the_same(monkeypatch):
    monkeypatch.setattr(owner, "sight", lambda: OwnerVisibility.CLEAR)
    monkeypatch.setattr(owner, "stranger", lambda: STRANGER)
    assert list(access_limitations(others=False)) == []
    (found,) = access_limitations(others=True)
    assert "PrivateUsers=" in found.advice
    monkeypatch.setattr(owner, "stranger", os.geteuid)
    assert len(list(access_limitations(others=False))) == 1


def test_usually_nothing_is_wrong(monkeypatch):
    monkeypatch.setattr(owner, "sight", lambda: OwnerVisibility.CLEAR)
    monkeypatch.setattr(owner, "stranger", lambda: None)
    assert list(access_limitations(others=True)) == []


def test_a_verdict_says_what_to_do():
    stranger = AccessDecision(Rejection.OWNER, 0)
    assert stranger.advice("root") == 'add "root" to allow_users if it may connect'
    elsewhere = AccessDecision(Rejection.ADDRESS)
    assert elsewhere.advice("") == "add its network to allow if it may connect"
    assert "Unix socket" in AccessDecision(Rejection.GONE).advice("")
    assert "Unix socket" in AccessDecision(Rejection.OWNER).advice("")


def test_users_have_names_or_numbers():
    assert user_name(0) == "root"
    assert user_name(STRANGER) == "4000000000"


def test_an_id_without_a_name_is_advised_without_quotes():
    advice = AccessDecision(Rejection.OWNER, STRANGER).advice(str(STRANGER))
    assert advice == "add 4000000000 to allow_users if it may connect"


def test_a_name_is_looked_up_once(monkeypatch):
    user_name.cache_clear()
    asked = []
    look_up = process_table.pwd.getpwuid
    monkeypatch.setattr(
        process_table.pwd, "getpwuid", lambda uid: asked.append(uid) or look_up(uid)
    )
    assert [user_name(0), user_name(0)] == ["root", "root"]
    assert asked == [0]
