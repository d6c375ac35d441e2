import os
import socket
import sys
from ipaddress import IPv4Address

import pytest

from ssmtunneld.listener import owner, proctable
from tests.support.sockets import socket_pair

NOBODY = 65534


@pytest.fixture(params=["tcp4", "tcp6"])
def pair(request):
    ends = socket_pair(request.param)
    yield ends
    for end in ends:
        end.close()


def names(sock):
    return sock.getsockname(), sock.getpeername()


def test_a_connection_of_ours_is_ours(pair):
    assert owner.peer_uid(*names(pair[0])) == os.getuid()


def test_the_table_says_the_same_as_the_diagnosis(pair):
    local, peer = names(pair[0])
    assert owner._search(local, peer) == owner._find(local, peer)


def test_an_ipv4_client_of_an_ipv6_socket_is_found():
    with socket.create_server(
        ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
    ) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listening.accept()
            with accepted:
                local, peer = names(accepted)
                assert peer[0] == "::ffff:127.0.0.1"
                assert owner.address_of(peer) == IPv4Address("127.0.0.1")
                assert owner.peer_uid(local, peer) == os.getuid()
                assert owner._search(local, peer) == owner._find(local, peer)


def test_an_ipv6_socket_that_connects_to_an_ipv4_address_is_found():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.socket(socket.AF_INET6) as client:
            client.connect(("::ffff:127.0.0.1", port))
            accepted, _ = listening.accept()
            with accepted:
                local, peer = names(accepted)
                assert owner.peer_uid(local, peer) == os.getuid()
                assert owner._search(local, peer) == owner._find(local, peer)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_users_connection_is_theirs():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        child = os.fork()
        if not child:
            os.setuid(NOBODY)
            client = socket.socket()
            client.connect(listening.getsockname())
            client.recv(1)  # until told to end
            os._exit(0)
        accepted, _ = listening.accept()
        local, peer = names(accepted)
        assert owner.peer_uid(local, peer) == NOBODY
        assert owner._search(local, peer).uid == NOBODY
        accepted.close()
        os.waitpid(child, 0)


def test_a_closed_client_belongs_to_nobody_and_not_to_root(pair):
    near, far = pair
    local, peer = names(near)
    assert not owner.peer_has_closed(local, peer)
    far.close()
    assert owner.peer_uid(local, peer) is None
    assert owner.peer_has_closed(local, peer)


def test_a_client_that_only_said_its_last_word_has_not_closed(pair):
    near, far = pair
    far.shutdown(socket.SHUT_WR)
    assert not owner.peer_has_closed(*names(near))
    assert owner.peer_uid(*names(near)) == os.getuid()


def test_a_connection_that_is_not_there_belongs_to_nobody(pair):
    local, peer = names(pair[0])
    nowhere = (peer[0], 1, *peer[2:])
    assert owner.peer_uid(local, nowhere) is None
    assert not owner.peer_has_closed(local, nowhere)


def test_a_client_elsewhere_is_not_looked_for_in_the_tables():
    local, peer = ("192.0.2.1", 5432), ("192.0.2.2", 40000)
    assert owner.peer_uid(local, peer) is None
    assert not owner.is_local(local, peer)


def test_a_client_with_our_own_address_is_local():
    assert owner.is_local(("192.0.2.1", 5432), ("192.0.2.1", 40000))
    assert owner.is_local(("127.0.0.1", 5432), ("127.0.0.2", 40000))


def test_a_link_local_address_is_asked_for_on_its_interface():
    local, peer = ("fe80::1%lo", 5432, 0, 7), ("fe80::2%lo", 40000, 0, 7)
    assert owner._question(local, peer)[-12:-8] == (7).to_bytes(4, sys.byteorder)


def test_a_sandbox_without_diagnosis_is_no_error(monkeypatch):
    monkeypatch.setattr(owner, "_NETLINK_SOCK_DIAG", 31)  # no such protocol
    near, far = socket_pair()
    with near, far:
        assert not owner.peer_has_closed(*names(near))
        assert owner.peer_uid(*names(near)) == os.getuid()  # from the table


def test_a_platform_that_cannot_tell_says_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "sunos5")
    near, far = socket_pair()
    with near, far:
        assert not owner.can_tell()
        assert owner._find(*names(near)) is None
        assert owner.unix_peer_uid(near) is None


def test_a_unix_peer_is_known():
    near, far = socket_pair("unix")
    with near, far:
        assert owner.unix_peer_uid(near) == os.getuid()


def test_the_tables_are_optional(tmp_path):
    assert list(proctable.read_table(tmp_path / "missing")) == []
