"""The way through a running daemon: which tunnel, and where it listens."""

import asyncio
import os
import socket

import pytest

from ssmtunneld.listener.relay import ConnectionOutcome
from ssmtunneld.ssh.daemon_route import carry, connect, find_listener, split_address
from ssmtunneld.ssh.stdio import Stdio

TARGET = "i-0123456789abcdef0"


def tunnel(**changes):
    return {
        "target": TARGET,
        "destination": "localhost:22",
        "usable": True,
        "listen": ["127.0.0.1:2222", "unix:/run/x"],
        **changes,
    }


def test_a_tunnel_to_the_same_place_is_found():
    others = [tunnel(target="i-0fffffffffffffff0"), tunnel(destination="db:22")]
    found = find_listener([*others, tunnel()], TARGET, 22)
    assert found == "127.0.0.1:2222"


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "mi-0123456789abcdef0"},
        {"destination": "localhost:23"},
        {"destination": "10.0.0.5:22"},
        {"usable": False},
        {"listen": []},
    ],
)
def test_a_tunnel_elsewhere_or_out_of_order_is_not(changes):
    assert find_listener([tunnel(**changes)], TARGET, 22) is None


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:2222", ("127.0.0.1", 2222)),
        ("[::1]:22", ("::1", 22)),
        ("0.0.0.0:22", ("127.0.0.1", 22)),
        ("[::]:22", ("::1", 22)),
    ],
)
def test_an_address_is_taken_apart(address, place):
    assert split_address(address) == place


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_bytes_go_both_ways_through_a_listener(kind, tmp_path):
    if kind == "tcp":
        server = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(tmp_path / "s"))
        server.listen()
        address = f"unix:{tmp_path / 's'}"
    ours, theirs = socket.socketpair()
    with server, ours, theirs:
        sock = connect(address)
        assert sock is not None
        far, _ = server.accept()
        with far:
            theirs.sendall(b"request")
            far.settimeout(30)
            stdio = Stdio(ours.fileno(), ours.fileno())
            async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
                joining = tasks.create_task(carry(sock, stdio))
                assert await asyncio.to_thread(far.recv, 100) == b"request"
                far.sendall(b"answer")
                far.close()
            transfer = joining.result()
    assert transfer.ending is ConnectionOutcome.COMPLETED
    assert (transfer.sent, transfer.received) == (7, 6)


def test_a_listener_that_has_gone_is_none(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    assert connect(address) is None
    assert connect(f"unix:{tmp_path / 'none'}") is None
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names are enough
