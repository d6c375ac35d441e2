"""Identification of clients: user, process, and what remains unknown."""

import os
import socket
import subprocess
import sys

import pytest

from ssmtunneld.listener import client as client_module
from ssmtunneld.listener import owner
from ssmtunneld.listener.client import Client, identify, tcp_client, unix_client
from ssmtunneld.listener.owner import OwnerVisibility, PeerPresence, find_peer
from ssmtunneld.listener.process_table import Process, process_of, user_name
from tests.support.sockets import reset

US = process_of(os.getpid())
ME = user_name(os.getuid())

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")

VISITOR = """\
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    sock.recv(1)
"""


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def accepted(sock, *, asked=False):
    """Return the client of a connection, as an accept loop would know it."""
    local, peer = sock.getsockname(), sock.getpeername()
    return tcp_client(local, peer, find_peer(local, peer) if asked else None)


@pytest.mark.parametrize("asked", [False, True])
def test_a_program_of_this_machine_is_found_by_its_connection(listening, asked):
    command = [sys.executable, "-c", VISITOR, str(listening.getsockname()[1])]
    with subprocess.Popen(command) as visitor:
        sock, _ = listening.accept()
        with sock:
            found = accepted(sock, asked=asked)
            assert found.uid == (os.getuid() if asked else None)
            identify([found])
            theirs = process_of(visitor.pid)
            sock.send(b"!")
    assert (found.uid, found.user) == (os.getuid(), ME)
    assert (found.pid, found.program) == (visitor.pid, theirs.program)


def test_the_client_of_a_unix_socket_is_known_at_once(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(str(tmp_path / "socket"))
            with listener.accept()[0] as sock:
                found = unix_client(sock)
    assert (found.uid, found.pid) == (os.getuid(), os.getpid())
    identify([found])
    assert (found.user, found.program) == (ME, US.program)


def test_a_unix_socket_that_tells_nothing_is_nobody():
    gone = socket.socket(socket.AF_UNIX)
    gone.close()
    assert unix_client(gone) == Client()


def test_a_client_that_has_gone_keeps_what_was_known_of_it(listening):
    with socket.create_connection(listening.getsockname()):
        sock, _ = listening.accept()
        found = accepted(sock, asked=True)
    sock.close()
    identify([found])
    assert (found.user, found.pid, found.program) == (ME, None, "")


def test_everybody_is_looked_for_together_and_once(listening, monkeypatch):
    looks = []

    def look(inodes):
        looks.append(inodes)
        return {inode: Process(7, "psql") for inode in inodes}

    monkeypatch.setattr(client_module, "find_processes", look)
    clients = [Client(uid=os.getuid(), inode=inode) for inode in (77, 78, 79)]
    identify(clients)
    identify(clients)
    assert looks == [{77, 78, 79}]
    assert {(c.pid, c.program, c.user) for c in clients} == {(7, "psql", ME)}


def test_a_client_that_has_gone_is_not_looked_for(monkeypatch):
    def never(*_):
        raise AssertionError("its socket is nowhere")

    monkeypatch.setattr(owner, "find_peer", never)
    monkeypatch.setattr(client_module, "find_processes", never)
    ends = ("127.0.0.1", 5432), ("127.0.0.1", 40000)
    gone = Client(uid=os.getuid(), inode=77, gone=True)
    unasked = Client(ends=ends, gone=True)
    of_unix = Client(uid=os.getuid(), pid=os.getpid(), gone=True)
    identify([gone, unasked, of_unix])
    assert (gone.user, gone.pid, unasked.settled) == (ME, None, True)
    assert of_unix.program == US.program, "its process may live on"


def test_one_that_goes_during_the_look_makes_nobody_look_through_all(monkeypatch):
    staying, leaving = (Client(uid=os.getuid(), inode=inode) for inode in (77, 78))

    def look_first(inodes):
        assert inodes == {77, 78}
        leaving.gone = True
        return {77: Process(7, "psql")}

    def never(*_):
        raise AssertionError("its socket is nowhere")

    monkeypatch.setattr(client_module, "find_recent", look_first)
    monkeypatch.setattr(client_module, "find_processes", never)
    identify([staying, leaving])
    assert (staying.program, leaving.program, leaving.settled) == ("psql", "", True)


@pytest.mark.parametrize("by_reset", [False, True])
def test_one_that_has_gone_unnoticed_makes_nobody_look_through_all(
    listening, monkeypatch, by_reset
):
    def never(*_):
        raise AssertionError("its socket is nowhere")

    client = socket.create_connection(listening.getsockname())
    sock, _ = listening.accept()
    with sock:
        found = accepted(sock, asked=True)
        assert found.inode
        if by_reset:
            reset(client)
        else:
            client.close()
        monkeypatch.setattr(client_module, "find_processes", never)
        identify([found])
    assert (found.user, found.pid, found.settled) == (ME, None, True)


def test_a_client_from_elsewhere_is_not_asked_for(monkeypatch):
    def never(*_):
        raise AssertionError("there is nobody to find")

    monkeypatch.setattr(owner, "find_peer", never)
    monkeypatch.setattr(client_module, "find_processes", never)
    found = tcp_client(("10.0.0.1", 5432), ("10.9.9.9", 40000), None)
    identify([found])
    assert (found.uid, found.user, found.pid, found.settled) == (None, "", None, True)


def test_it_does_not_look_through_the_table_of_all_connections(listening, monkeypatch):
    monkeypatch.setattr(owner, "sight", lambda: OwnerVisibility.SLOW)
    with socket.create_connection(listening.getsockname()):
        sock, _ = listening.accept()
        with sock:
            found = accepted(sock)
            identify([found])
    assert (found.uid, found.pid) == (None, None)


def test_a_socket_that_is_held_tells_its_inode(listening):
    with socket.create_connection(listening.getsockname()) as visitor:
        sock, peer = listening.accept()
        with sock:
            found = find_peer(sock.getsockname(), peer)
            assert found.presence is PeerPresence.HELD
            assert found.inode == os.fstat(visitor.fileno()).st_ino
