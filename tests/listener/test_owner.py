import os
import socket
import sys
from ipaddress import IPv4Address

import pytest

from ssmtunneld.listener import owner, process_table
from ssmtunneld.listener.owner import OwnerVisibility, Peer, PeerPresence
from tests.support.sockets import reset, socket_pair

NOBODY = 65534
OURS = Peer(PeerPresence.HELD, os.getuid())


@pytest.fixture(autouse=True)
def _fresh():
    """Forget what was tried out under another test's conditions."""
    owner.sight.cache_clear()
    owner.stranger.cache_clear()
    yield
    owner.sight.cache_clear()
    owner.stranger.cache_clear()


@pytest.fixture(params=["tcp4", "tcp6"])
def pair(request):
    ends = socket_pair(request.param)
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def _no_diagnosis(monkeypatch):
    monkeypatch.setattr(owner, "_NETLINK_SOCK_DIAG", 31)  # no such protocol
    monkeypatch.setattr(owner, "_idle", [])


@pytest.fixture
def _no_tables(monkeypatch, tmp_path):
    monkeypatch.setattr(owner, "TABLES", (tmp_path / "tcp", tmp_path / "tcp6"))


def names(sock):
    return sock.getsockname(), sock.getpeername()


def agree(local, peer):
    """Say whether the table shows the same socket as the diagnosis."""
    diagnosed = owner._diagnose(peer, local)
    return diagnosed is not None and owner._search(peer, local) == diagnosed


def test_a_connection_of_ours_is_ours(pair):
    assert owner.find_peer(*names(pair[0])) == OURS


def test_the_table_says_the_same_as_the_diagnosis(pair):
    assert agree(*names(pair[0]))


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
                assert owner.find_peer(local, peer) == OURS
                assert agree(local, peer)


def test_an_ipv6_socket_that_connects_to_an_ipv4_address_is_found():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.socket(socket.AF_INET6) as client:
            client.connect(("::ffff:127.0.0.1", port))
            accepted, _ = listening.accept()
            with accepted:
                local, peer = names(accepted)
                assert owner.find_peer(local, peer) == OURS
                assert agree(local, peer)


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
        assert owner.find_peer(local, peer) == Peer(PeerPresence.HELD, NOBODY)
        assert owner._search(peer, local).uid == NOBODY
        accepted.close()
        os.waitpid(child, 0)


def test_a_closed_client_belongs_to_nobody_and_not_to_root(pair):
    near, far = pair
    local, peer = names(near)
    assert not owner.peer_has_closed(local, peer)
    far.close()
    # The kernel may know whose it was, until our end has acknowledged its FIN.
    assert owner.find_peer(local, peer) in {
        Peer(PeerPresence.GONE),
        Peer(PeerPresence.GONE, os.getuid()),
    }
    assert owner.peer_has_closed(local, peer)


def test_a_client_that_has_reset_the_connection_is_gone(pair):
    near, far = pair
    local, peer = names(near)
    reset(far)
    assert owner.find_peer(local, peer) == Peer(PeerPresence.GONE)


def test_a_client_that_reset_before_it_was_accepted_is_gone():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reset(socket.create_connection(listening.getsockname()))
        accepted, peer = listening.accept()
        with accepted:
            found = owner.find_peer(accepted.getsockname(), peer)
            assert found == Peer(PeerPresence.GONE)


def test_who_listens_where_a_client_came_from_is_not_the_client(pair):
    local, _ = names(pair[0])
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert owner._diagnose(other.getsockname(), ("127.0.0.1", local[1])) is None


def test_a_client_that_only_said_its_last_word_has_not_closed(pair):
    near, far = pair
    far.shutdown(socket.SHUT_WR)
    assert not owner.peer_has_closed(*names(near))
    assert owner.find_peer(*names(near)) == OURS


def test_a_connection_that_is_not_there_any_more_is_gone(pair):
    local, peer = names(pair[0])
    nowhere = (peer[0], 1, *peer[2:])
    assert owner.find_peer(local, nowhere) == Peer(PeerPresence.GONE)
    assert not owner.peer_has_closed(local, nowhere)


def test_a_client_that_a_firewall_has_redirected_to_us_is_unknown(pair, monkeypatch):
    local, peer = names(pair[0])
    look = owner._look

    def see_our_end_only(own, other):
        return look(own, other) if own == local else None

    monkeypatch.setattr(owner, "_look", see_our_end_only)
    assert owner.find_peer(local, peer) == Peer(PeerPresence.UNKNOWN)


@pytest.mark.usefixtures("_no_diagnosis")
def test_a_client_elsewhere_is_not_looked_for_in_the_tables(monkeypatch):
    local, peer = ("192.0.2.1", 5432), ("192.0.2.2", 40000)
    assert owner.sight() is OwnerVisibility.SLOW
    monkeypatch.setattr(owner, "_search", None)  # would raise
    assert owner.find_peer(local, peer) == Peer(PeerPresence.UNKNOWN)
    assert not owner.is_local(local, peer)


def test_a_client_with_our_own_address_is_local():
    assert owner.is_local(("192.0.2.1", 5432), ("192.0.2.1", 40000))
    assert owner.is_local(("127.0.0.1", 5432), ("127.0.0.2", 40000))


def test_a_link_local_address_is_asked_for_on_its_interface():
    own, other = ("fe80::2%lo", 40000, 0, 7), ("fe80::1%lo", 5432, 0, 7)
    assert owner._question(own, other)[-12:-8] == (7).to_bytes(4, sys.byteorder)


def test_the_kernel_is_asked_about_one_connection_where_it_answers():
    assert owner.sight() is OwnerVisibility.CLEAR


@pytest.mark.usefixtures("_no_diagnosis")
def test_a_sandbox_without_diagnosis_is_slow_and_no_error(pair):
    assert owner.sight() is OwnerVisibility.SLOW
    assert not owner.peer_has_closed(*names(pair[0]))
    assert owner.find_peer(*names(pair[0])) == OURS  # from the table


@pytest.mark.usefixtures("_no_diagnosis", "_no_tables")
def test_a_sandbox_that_hides_everything_leaves_the_user_unknown(pair):
    assert owner.sight() is OwnerVisibility.HIDDEN
    assert owner.find_peer(*names(pair[0])) == Peer(PeerPresence.UNKNOWN)


def test_the_kernel_is_asked_through_one_socket(pair, monkeypatch):
    idle = []
    monkeypatch.setattr(owner, "_idle", idle)
    for _ in range(3):
        assert owner.find_peer(*names(pair[0])) == OURS
    (kernel,) = idle
    os.close(kernel)


def test_a_socket_that_failed_is_asked_no_more(pair, monkeypatch):
    assert owner.sight() is OwnerVisibility.CLEAR
    broken = os.open(os.devnull, os.O_RDONLY)  # so the question fails
    monkeypatch.setattr(owner, "_idle", [broken])
    assert owner.find_peer(*names(pair[0])).presence is not PeerPresence.HELD
    assert owner.find_peer(*names(pair[0])) == OURS
    os.close(owner._idle.pop())


def test_being_out_of_files_lets_nobody_in(pair, monkeypatch):
    def refuse(*_):
        raise OSError(24, "Too many open files")

    assert owner.sight() is OwnerVisibility.CLEAR
    monkeypatch.setattr(owner, "_diagnose", refuse)
    assert owner.find_peer(*names(pair[0])).presence is not PeerPresence.HELD


def test_a_machine_without_loopback_is_no_error(monkeypatch):
    def refuse(*_):
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(socket, "create_server", refuse)
    assert owner.sight() is OwnerVisibility.CLEAR


def test_a_platform_that_cannot_tell_says_so(monkeypatch):
    near, far = socket_pair()
    with near, far:
        monkeypatch.setattr(sys, "platform", "sunos5")
        assert owner.sight() is OwnerVisibility.ABSENT
        assert owner.find_peer(*names(near)) == Peer(PeerPresence.UNKNOWN)
        assert not owner.peer_has_closed(*names(near))
        assert owner.unix_peer_uid(near) is None


def map_users(monkeypatch, tmp_path, text):
    (tmp_path / "uid_map").write_text(text)
    monkeypatch.setattr(owner, "_UID_MAP", tmp_path / "uid_map")


def test_outside_of_user_namespaces_every_user_has_an_id(monkeypatch, tmp_path):
    map_users(monkeypatch, tmp_path, "         0          0 4294967295\n")
    assert owner.stranger() is None


def test_a_user_without_an_id_in_our_namespace_is_not_the_user_nobody(
    pair, monkeypatch, tmp_path
):
    map_users(monkeypatch, tmp_path, "         0       1000          1\n")
    overflow = tmp_path / "overflowuid"
    overflow.write_text(f"{os.getuid()}\n")  # as if we were seen from inside
    monkeypatch.setattr(owner, "_OVERFLOW", overflow)
    assert owner.stranger() == os.getuid()
    assert owner.find_peer(*names(pair[0])) == Peer(PeerPresence.HELD, None)


def test_a_system_without_user_namespaces_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(owner, "_UID_MAP", tmp_path / "missing")
    assert owner.stranger() is None


def test_a_unix_peer_is_known():
    near, far = socket_pair("unix")
    with near, far:
        assert owner.unix_peer_uid(near) == os.getuid()


def test_the_tables_are_optional(tmp_path):
    assert list(process_table.read_table(tmp_path / "missing")) == []
