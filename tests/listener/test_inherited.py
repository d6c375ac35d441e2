"""Inherited sockets are judged by their own address and mode, not by the file."""

import os
import socket
import sys
from contextlib import closing
from ipaddress import ip_network

import pytest

from ssmtunneld.config import TcpAddress
from ssmtunneld.errors import InheritedSocketRefused
from ssmtunneld.listener.inherited import check_inherited

LOCAL = (TcpAddress("127.0.0.1", 5432),)
NETWORK = (ip_network("10.0.0.0/8"),)


def check(sock, *, listen=LOCAL, allow=(), socket_mode=0o600):
    check_inherited(sock, listen=listen, allow=allow, socket_mode=socket_mode)


def tcp(host, family=socket.AF_INET):
    sock = socket.socket(family)
    sock.bind((host, 0))
    return closing(sock)


@pytest.fixture
def unix(tmp_path):
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(str(tmp_path / "socket"))
        yield sock, tmp_path / "socket"


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("127.0.1.2", socket.AF_INET),
        ("::1", socket.AF_INET6),
        ("::ffff:127.0.0.1", socket.AF_INET6),
    ],
)
def test_loopback_is_this_machines_own(host, family):
    with tcp(host, family) as sock:
        check(sock)


@pytest.mark.parametrize(
    ("host", "family", "shown"),
    [("0.0.0.0", socket.AF_INET, "0.0.0.0"), ("::", socket.AF_INET6, "[::]")],
)
def test_a_socket_for_other_machines_needs_allow(host, family, shown):
    with tcp(host, family) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(InheritedSocketRefused) as caught:
            check(sock)
        assert f"{shown}:{port} is not used: it is open to other" in str(caught.value)
        assert f"ListenStream=127.0.0.1:{port};" in caught.value.advice
        check(sock, allow=NETWORK)


@pytest.mark.parametrize(
    ("listen", "host"),
    [("::1", "[::1]"), ("localhost", "127.0.0.1"), ("127.0.1.2", "127.0.1.2")],
)
def test_the_line_to_write_has_the_files_own_address(listen, host):
    with tcp("::", socket.AF_INET6) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(InheritedSocketRefused) as caught:
            check(sock, listen=(TcpAddress(listen, 5432),))
    assert f"ListenStream={host}:{port};" in caught.value.advice


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602, 0o622, 0o777])
def test_a_unix_socket_that_others_may_write_to_is_refused(unix, mode):
    sock, path = unix
    path.chmod(mode)
    with pytest.raises(InheritedSocketRefused) as caught:
        check(sock)
    assert f"its mode is {mode:04o}, and socket_mode is 0600" in str(caught.value)
    assert caught.value.advice == "write in its unit: SocketMode=0600"
    check(sock, socket_mode=mode)


@pytest.mark.parametrize("mode", [0o600, 0o700, 0o644, 0o755])
def test_a_unix_socket_that_others_may_only_read_lets_nobody_in(unix, mode):
    sock, path = unix
    path.chmod(mode)
    check(sock)


def test_a_group_may_be_let_in_by_the_file_and_nobody_else(unix):
    sock, path = unix
    path.chmod(0o660)
    check(sock, socket_mode=0o660)
    path.chmod(0o666)
    with pytest.raises(InheritedSocketRefused):
        check(sock, socket_mode=0o660)


def test_a_unix_socket_that_has_been_removed_lets_nobody_in(unix):
    sock, path = unix
    path.unlink()
    check(sock)


def test_a_unix_socket_that_cannot_be_looked_at_is_refused(unix):
    sock, path = unix
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(InheritedSocketRefused, match="its mode is not known"):
        check(sock)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_name_has_no_mode_at_all():
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(f"\0ssmtunneld-inherited-{os.getpid()}")
        with pytest.raises(InheritedSocketRefused, match="abstract"):
            check(sock)


def test_another_kind_of_socket_is_refused():
    class Odd:
        family = -1

    with pytest.raises(InheritedSocketRefused, match="neither TCP nor Unix"):
        check(Odd())
