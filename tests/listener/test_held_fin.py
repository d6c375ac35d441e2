"""The end of a connection waits until it is known whose it is."""

import os
import socket

import pytest

from ssmtunneld.listener import held_fin, owner
from ssmtunneld.listener.owner import Peer, PeerPresence

needs_user = pytest.mark.skipif(
    not held_fin.keeps_user(), reason="this kernel forgets whose a closed socket was"
)


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def say_and_leave(listening, words=b"one line\n"):
    with socket.create_connection(listening.getsockname()) as client:
        client.sendall(words)


@needs_user
def test_the_owner_of_a_client_that_closed_at_once_is_known(listening):
    assert held_fin.hold(listening)
    say_and_leave(listening)
    accepted, peer = listening.accept()
    with accepted:
        found = owner.find_peer(accepted.getsockname(), peer)
        assert found == Peer(PeerPresence.GONE, os.getuid())


@needs_user
def test_what_was_sent_is_there_at_once_and_its_end_follows(listening):
    assert held_fin.hold(listening)
    say_and_leave(listening)
    accepted, _ = listening.accept()
    with accepted:
        assert accepted.recv(100) == b"one line\n"
        accepted.setblocking(False)
        with pytest.raises(BlockingIOError):
            accepted.recv(1)
        held_fin.release(accepted)
        accepted.settimeout(30.0)
        assert accepted.recv(1) == b""


@needs_user
def test_a_listener_that_holds_nothing_any_more_lets_ends_in(listening):
    assert held_fin.hold(listening)
    held_fin.release(listening)
    say_and_leave(listening)
    accepted, _ = listening.accept()
    with accepted:
        accepted.settimeout(30.0)
        assert accepted.recv(100) == b"one line\n"
        assert accepted.recv(1) == b""


def test_releasing_what_is_not_held_is_harmless(listening):
    if not held_fin.keeps_user():
        pytest.skip("nothing is ever held on this kernel")
    held_fin.release(listening)


def test_nothing_is_held_at_a_unix_socket():
    with socket.socket(socket.AF_UNIX) as sock:
        assert not held_fin.hold(sock)


def test_nothing_is_held_where_it_cannot_be(listening):
    listening.close()
    assert not held_fin.hold(listening)


@pytest.mark.parametrize(
    ("release", "keeps"),
    [("6.17.0-1-generic", True), ("7.0", True), ("6.12.43", False), ("4.4.0", False)],
)
def test_kernels_that_forget_users_are_known(monkeypatch, release, keeps):
    monkeypatch.setattr(held_fin.platform, "release", lambda: release)
    monkeypatch.setattr(held_fin.sys, "platform", "linux")
    assert held_fin.keeps_user.__wrapped__() is keeps


def test_other_systems_hold_nothing(monkeypatch):
    monkeypatch.setattr(held_fin.sys, "platform", "darwin")
    assert not held_fin.keeps_user.__wrapped__()
