"""What a service manager is told, and what it passes on."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from ssmtunneld.ops.systemd import (
    LISTEN_FDS_START,
    Notifier,
    activated_sockets,
    watchdog_interval,
)


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


# A process of its own: in this one, descriptors 3 and up are taken.
_LAUNCHER = f"""
import os, sys
for index, descriptor in enumerate(map(int, sys.argv[2:])):
    os.dup2(descriptor, {LISTEN_FDS_START} + index)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
_SERVICE = """
import json, os
from ssmtunneld.ops.systemd import activated_sockets
environ = {
    "LISTEN_FDS": "6", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "web:web:db"
}
found = activated_sockets(environ, os.getpid())
names = {name: [s.getsockname()[1] for s in found[name]] for name in found}
every = [s for sockets in found.values() for s in sockets]
blocking = any(s.getblocking() or s.get_inheritable() for s in every)
try:
    os.fstat(5)
except OSError as error:
    closed = error.strerror
print(json.dumps([names, blocking, closed]))
"""


def test_sockets_are_found_by_their_names(tmp_path):
    with ExitStack() as stack:
        streams = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(3)
        ]
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        stack.enter_context(datagrams)
        file = stack.enter_context((tmp_path / "file").open("w"))
        # 3 and 4 are the web's; 5, the database's, is no stream; 6 has no name; 7 is
        # no socket; 8 is not open at all.
        passed = [*streams[:2], datagrams, streams[2], file]
        high = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 100) for each in passed]
        for descriptor in high:
            stack.callback(os.close, descriptor)
        result = subprocess.run(
            [sys.executable, "-c", _LAUNCHER, _SERVICE, *map(str, high)],
            capture_output=True,
            check=True,
            pass_fds=high,
        )
        ports = [stream.getsockname()[1] for stream in streams]
    names, blocking, closed = json.loads(result.stdout)
    assert names == {"web": ports[:2], "unknown": ports[2:]}
    assert not blocking
    assert closed == os.strerror(errno.EBADF)
