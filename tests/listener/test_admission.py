import os
from ipaddress import ip_network

import pytest

from ssmtunneld.listener.admission import Rejection, Verdict, judge
from tests.support.sockets import socket_pair

OFFICE = ip_network("192.0.2.0/24")
LOCAL = ("192.0.2.1", 5432)


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        ("192.0.2.77", None),
        ("::ffff:192.0.2.77", None),
        ("198.51.100.1", Verdict(Rejection.ADDRESS)),
        ("2001:db8::1", Verdict(Rejection.ADDRESS)),
    ],
)
def test_only_the_allowed_networks_may_connect(host, verdict):
    assert judge(LOCAL, (host, 40000), allow=[OFFICE], allow_uids=None) == verdict


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
        assert stranger == Verdict(Rejection.OWNER, me)


def test_a_local_client_whose_user_is_unknown_may_not_connect():
    near, far = socket_pair()
    with near:
        ends = near.getsockname(), near.getpeername()
        far.close()
        assert judge(*ends, allow=(), allow_uids={0}) == Verdict(Rejection.OWNER)
