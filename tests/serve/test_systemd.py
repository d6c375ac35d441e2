"""Messages to a service manager, and the sockets that it passes on."""

import contextlib
import errno
import os
import socket
import sys
from contextlib import ExitStack

import pytest

from ssmtunneld.serve import systemd
from ssmtunneld.serve.systemd import (
    Notifier,
    ServiceManager,
    activated_sockets,
    watchdog_interval,
)

FIRST = 200
"""A number of a descriptor; this one and those behind it are free."""


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A socket that hears, and the address at which it is reached."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract names are Linux's")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.setblocking(False)
        if request.param == "path":
            address = str(tmp_path / "notify")
            heard.bind(address)
        else:
            address = f"@ssmtunneld-test-{os.getpid()}"
            heard.bind("\0" + address[1:])
        yield heard, address


def test_each_message_is_one_datagram_of_its_lines(manager):
    heard, address = manager
    notifier = Notifier(address)
    assert notifier.listening
    notifier.ready("all of\n3 tunnels   are ready")
    notifier.status("1 of 3")
    notifier.reloading(123_456)
    notifier.stopping(30.5)
    notifier.watchdog()
    notifier.close()
    assert not notifier.listening
    assert [heard.recv(1000).decode() for _ in range(5)] == [
        "READY=1\nSTATUS=all of 3 tunnels are ready",
        "STATUS=1 of 3",
        "RELOADING=1\nMONOTONIC_USEC=123456",
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=30500000",
        "WATCHDOG=1",
    ]
    notifier.watchdog()
    notifier.close()
    with pytest.raises(BlockingIOError):
        heard.recv(1000)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\ud800 and \x1b[31mred\u202e", "and red"),
        ("a" * 300_000, "a" * (systemd.STATUS_LIMIT - 1) + "…"),
        ("\0\nREADY=0\nSTATUS=x", "READY=0 STATUS=x"),
    ],
)
def test_whatever_stands_in_a_sentence_is_one_bounded_line(manager, text, shown):
    heard, address = manager
    notifier = Notifier(address)
    notifier.status(text)
    notifier.ready(text)
    assert heard.recv(65536).decode() == f"STATUS={shown}"
    assert heard.recv(65536).decode() == f"READY=1\nSTATUS={shown}"
    assert notifier.unsent == 0
    notifier.close()


def test_what_the_manager_does_not_take_is_counted(manager):
    heard, address = manager
    notifier = Notifier(address)
    with contextlib.suppress(AssertionError):
        for _ in range(100_000):
            notifier.watchdog()
            assert not notifier.unsent  # until its buffer is full
    assert notifier.unsent == 1
    heard.close()
    notifier.watchdog()
    assert notifier.unsent == 2
    notifier.close()


@pytest.mark.parametrize("address", [None, "", "notify", "vsock:1:2"])
def test_without_a_manager_nothing_is_said(address):
    notifier = Notifier(address)
    assert not notifier.listening
    notifier.ready("x")
    notifier.close()


def test_a_manager_that_is_not_there_stops_nobody(tmp_path):
    assert not Notifier(str(tmp_path / "nobody")).listening
    notifier = Notifier(None)
    notifier.watchdog()


def test_a_manager_that_has_gone_or_does_not_read_stops_nobody(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        notifier = Notifier(address)
        for _ in range(2000):  # far more than its buffer holds
            notifier.watchdog()
    notifier.watchdog()
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "1000000"}, 0.5),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_wants_half_of_its_time_and_only_from_us(environ, interval):
    assert watchdog_interval(environ, 42) == interval


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "43"},
        {"LISTEN_FDS": "one", "LISTEN_PID": "42"},
        {"LISTEN_FDS": "0", "LISTEN_PID": "42"},
    ],
)
def test_no_sockets_are_taken_that_were_not_meant_for_us(environ):
    assert activated_sockets(environ, 42) == {}


def test_sockets_are_found_by_their_names(tmp_path, monkeypatch):
    # In this process the descriptors from 3 on are taken.
    monkeypatch.setattr(systemd, "LISTEN_FDS_START", FIRST)
    with ExitStack() as stack:
        streams = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(3)
        ]
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        stack.enter_context(datagrams)
        file = stack.enter_context((tmp_path / "file").open("w"))
        # The first two are the web's; the database's is no stream; one has no name; one
        # is no socket; the last is not open at all.
        passed = [*streams[:2], datagrams, streams[2], file]
        for index, each in enumerate(passed):
            os.dup2(each.fileno(), FIRST + index)
        environ = {
            "LISTEN_FDS": "6",
            "LISTEN_PID": "42",
            "LISTEN_FDNAMES": "web:web:db",
        }
        found = activated_sockets(environ, 42)
        every = [sock for sockets in found.values() for sock in sockets]
        for sock in every:
            stack.enter_context(sock)
        ports = {name: [s.getsockname()[1] for s in found[name]] for name in found}
        web, other, unnamed = (stream.getsockname()[1] for stream in streams)
        assert ports == {"web": [web, other], "unknown": [unnamed]}
        assert not any(s.getblocking() or s.get_inheritable() for s in every)
        for closed in (2, 4, 5):
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                os.fstat(FIRST + closed)


def test_without_a_manager_there_is_nothing():
    manager = ServiceManager.none()
    assert not manager.notifier.listening
    assert (manager.watchdog, manager.sockets) == (None, {})


def test_a_manager_is_what_the_environment_tells(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "4000000"}
        manager = ServiceManager.of(environ, 42)
        assert manager.notifier.listening
        assert (manager.watchdog, manager.sockets) == (2.0, {})
        manager.notifier.close()
