import asyncio
import os
import socket
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ssmtunneld.config import TcpAddress, UnixAddress
from ssmtunneld.errors import AddressForbidden, AddressInUse
from ssmtunneld.listener import held_fin, sockets
from ssmtunneld.listener.sockets import Listener, bind, name_of
from tests.support.turns import turns, until

COMMAND = Path("/proc/self/comm").read_text().strip()
US = f"{COMMAND}, pid {os.getpid()}"


async def bind_all(*addresses, mode=0o600):
    return await bind(addresses, socket_mode=mode)


@pytest.fixture
async def listeners():
    """Bind addresses, and close them after the test."""
    made = []

    async def make(*addresses, mode=0o600):
        bound = await bind_all(*addresses, mode=mode)
        made.extend(bound)
        return bound

    yield make
    for listener in made:
        listener.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_any_port_becomes_a_real_one(listeners, host):
    [listener] = await listeners(TcpAddress(host, 0))
    port = listener.socket.getsockname()[1]
    assert listener.name == str(TcpAddress(host, port))
    assert port
    socket.create_connection((host, port)).close()


async def test_localhost_is_both_loopback_addresses_with_one_port(listeners):
    first, second = await listeners(TcpAddress("localhost", 0))
    port = first.socket.getsockname()[1]
    assert first.name == f"127.0.0.1:{port}"
    assert second.name == f"[::1]:{port}"


async def test_all_ipv6_addresses_leave_ipv4_alone(listeners):
    [first] = await listeners(TcpAddress("0.0.0.0", 0))
    port = first.socket.getsockname()[1]
    [second] = await listeners(TcpAddress("::", port))
    assert second.name == f"[::]:{port}"


async def test_readable_returns_when_somebody_connects(listeners):
    [listener] = await listeners(TcpAddress("127.0.0.1", 0))
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(listener.readable())
        await turns(5)
        assert not waiting.done()
        with socket.create_connection(listener.socket.getsockname()):
            await waiting
    listener.socket.accept()[0].close()


async def test_waiting_can_be_cancelled_and_begun_again(listeners):
    [listener] = await listeners(TcpAddress("127.0.0.1", 0))
    for _ in range(3):
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(listener.readable())
            await turns(3)
            waiting.cancel()
    with socket.create_connection(listener.socket.getsockname()):
        await listener.readable()
    listener.socket.accept()[0].close()


async def test_a_connection_that_nobody_takes_does_not_keep_the_loop_busy(
    listeners, monkeypatch
):
    [listener] = await listeners(TcpAddress("127.0.0.1", 0))
    calls = 0
    told = Listener._on_readable

    def count(listener):
        nonlocal calls
        calls += 1
        told(listener)

    monkeypatch.setattr(Listener, "_on_readable", count)
    with socket.create_connection(listener.socket.getsockname()):
        await listener.readable()
        await turns(50)
        assert calls <= 3
        await listener.readable()  # it is still there, and seen again
    listener.socket.accept()[0].close()


async def test_closing_while_somebody_waits_frees_the_address_at_once(listeners):
    [listener] = await listeners(TcpAddress("127.0.0.1", 0))
    address = TcpAddress(*listener.socket.getsockname())
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(listener.readable())
        await turns(3)
        listener.close()
        listener.close()
        waiting.cancel()
        await listeners(address)


async def test_a_taken_port_names_its_holder():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = TcpAddress(*other.getsockname())
        with pytest.raises(AddressInUse) as caught:
            await bind_all(address)
    assert caught.value.address == str(address)
    assert caught.value.holder == US
    assert caught.value.advice == f"stop {US}, or choose another address"


def held_alone(host):
    """Listen on one address of localhost at a port that is free on the other one."""
    families = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
    (other,) = families.keys() - {host}
    while True:
        held = socket.create_server((host, 0), family=families[host])
        address = other, held.getsockname()[1]
        try:
            socket.create_server(address, family=families[other]).close()
        except OSError:  # another program has that one
            held.close()
        else:
            return held


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_localhost_is_taken_if_one_of_its_addresses_is(host):
    with held_alone(host) as other:
        port = other.getsockname()[1]
        with pytest.raises(AddressInUse) as caught:
            await bind_all(TcpAddress("localhost", port))
    # The one that is taken, since that is what its holder must give back.
    assert caught.value.address == str(TcpAddress(host, port))
    assert caught.value.holder == US


async def test_if_one_address_fails_none_stays_bound(tmp_path):
    path = tmp_path / "socket"
    inherited = socket.create_server(("127.0.0.1", 0))
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = TcpAddress(*other.getsockname())
        with pytest.raises(AddressInUse):
            await bind_all(inherited, UnixAddress(path), taken)
    assert inherited.fileno() == -1
    assert not path.exists()


async def test_an_address_that_this_machine_does_not_have_is_explained():
    with pytest.raises(AddressInUse, match=r"192\.0\.2\.1:0: no interface") as caught:
        await bind_all(TcpAddress("192.0.2.1", 0))
    assert caught.value.holder == ""


@pytest.mark.parametrize(
    ("host", "is_said"), [("2001:db8::1", True), ("192.0.2.1", False)]
)
async def test_whoever_wants_ipv6_where_it_is_off_learns_that(
    host, is_said, monkeypatch
):
    monkeypatch.setattr(sockets, "_has_ipv6", lambda: False)
    with pytest.raises(AddressInUse) as caught:
        await bind_all(TcpAddress(host, 0))
    assert ("IPv6 is off" in str(caught.value)) is is_said


async def test_a_name_is_no_address():
    with pytest.raises(AddressInUse, match=r"db\.invalid:5432"):
        await bind_all(TcpAddress("db.invalid", 5432))


def _bind_unprivileged(script):
    """Run ``script`` in a child that is not root; return what it printed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setuid(65534)
            text = script()
        except BaseException as error:  # noqa: BLE001 - shown by the parent's assert
            text = f"unexpected {error!r}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:  # noqa: PTH123 - a descriptor has no path
        text = pipe.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(
    int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 1024,
    reason="everybody may bind low ports here",
)
def test_a_low_port_without_the_privilege_says_what_would_help():
    error = PermissionError(13, "Permission denied")
    explained = asyncio.run(sockets._explain_tcp(TcpAddress("::1", 80), error))
    assert str(explained) == "cannot listen on [::1]:80: Permission denied"
    assert explained.advice == (
        "choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
    )

    def script():
        try:
            sockets._bind_tcp("127.0.0.1", 81)
        except sockets._CannotListen as refusal:
            return refusal.error.strerror
        return "bound"

    assert _bind_unprivileged(script) == "Permission denied"


def test_a_high_port_that_is_forbidden_has_another_reason():
    error = PermissionError(13, "Permission denied")
    explained = asyncio.run(sockets._explain_tcp(TcpAddress("::1", 8080), error))
    assert str(explained).endswith("[::1]:8080: Permission denied")
    assert explained.advice == "choose another address"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_a_unix_socket_has_its_mode_whatever_the_umask(listeners, tmp_path, mode):
    path = tmp_path / "socket"
    before = os.umask(0o077)
    try:
        [listener] = await listeners(UnixAddress(path), mode=mode)
    finally:
        os.umask(before)
    assert listener.name == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("way", [sockets.bind_by_descriptor, sockets.bind_by_umask])
def test_no_moment_is_left_in_which_others_could_connect(tmp_path, way):
    path = tmp_path / "socket"
    before = os.umask(0)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            way(sock, path, 0o600)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.umask(0) == 0
    finally:
        os.umask(before)


async def test_a_missing_folder_is_made_for_us_alone(listeners, tmp_path):
    folder = tmp_path / "run"
    await listeners(UnixAddress(folder / "socket"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_socket_that_nobody_listens_on_is_replaced(listeners, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    await listeners(UnixAddress(path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


async def test_a_socket_that_somebody_listens_on_is_not(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(AddressInUse, match="already in use") as caught:
            await bind_all(UnixAddress(path))
        assert caught.value.holder == US
    assert path.is_socket()


async def test_a_socket_of_another_kind_is_not_replaced_while_it_lives(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(AddressInUse):
            await bind_all(UnixAddress(path))


async def test_a_file_that_is_no_socket_is_never_removed(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(AddressInUse, match="is not a socket"):
        await bind_all(UnixAddress(path))
    assert path.read_text() == "data"


async def test_a_path_that_is_too_long_is_refused_with_the_limit(tmp_path):
    path = tmp_path / ("x" * 200)
    with pytest.raises(AddressInUse, match="longer than 10"):
        await bind_all(UnixAddress(path))


async def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AddressInUse, match="unix:"):
        await bind_all(UnixAddress(tmp_path / "file" / "sub" / "socket"))


def test_a_folder_that_we_may_not_write_is_explained():
    address = UnixAddress(Path("/run/x.sock"))
    error = PermissionError(13, "Permission denied")
    explained = asyncio.run(sockets._explain_unix(address, error))
    assert isinstance(explained, AddressForbidden)
    assert isinstance(explained, PermissionError), "as scripts may expect"
    assert explained.advice == "choose a folder that this user can write"
    assert "unix:/run/x.sock: Permission denied" in str(explained)


async def test_a_socket_that_cannot_listen_leaves_nothing_open(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sockets, "_bind_with_mode", fail)
    with pytest.raises(AddressInUse, match="No space left"):
        await bind_all(UnixAddress(tmp_path / "socket"))


async def test_closing_removes_the_socket(listeners, tmp_path):
    path = tmp_path / "socket"
    [listener] = await listeners(UnixAddress(path))
    listener.close()
    assert not path.exists()


async def test_closing_leaves_our_successors_socket_alone(listeners, tmp_path):
    path = tmp_path / "socket"
    [first] = await listeners(UnixAddress(path))
    path.rename(tmp_path / "old")
    await listeners(UnixAddress(path))
    first.close()
    assert path.is_socket()


async def test_closing_forgives_that_the_socket_is_gone(listeners, tmp_path):
    path = tmp_path / "socket"
    [listener] = await listeners(UnixAddress(path))
    path.unlink()
    listener.close()


async def test_an_inherited_socket_is_used_as_it_is(listeners, tmp_path):
    path = tmp_path / "activated"
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    [listener] = await listeners(made)
    assert listener.name == f"unix:{path}"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        await listener.readable()
    listener.close()
    assert path.is_socket()  # whoever made it will remove it


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_name_is_spelled_with_an_at_sign():
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        name = f"\0ssmtunneld-test-{os.getpid()}"
        sock.bind(name)
        assert name_of(sock, sock.getsockname()) == f"unix:@{name[1:]}"


async def test_any_port_is_drawn_again_when_ipv6_has_it_taken(monkeypatch):
    """Refuse the first two ports on IPv6, whichever ones the kernel chooses."""
    real, refused = sockets._listen, []

    def listen(host, port):
        if host == "::1" and len(refused) < 2:
            refused.append(port)
            raise OSError(98, "Address already in use")
        return real(host, port)

    monkeypatch.setattr(sockets, "_listen", listen)
    for listener in (bound := await bind_all(TcpAddress("localhost", 0))):
        listener.close()
    assert len(bound) == 2
    assert len(refused) == 2


async def test_a_machine_where_no_port_is_free_on_both_gives_up(monkeypatch):
    real = sockets._listen

    def listen(host, port):
        if host == "::1":
            raise OSError(98, "Address already in use")
        return real(host, port)

    monkeypatch.setattr(sockets, "_listen", listen)
    with pytest.raises(AddressInUse, match="no port is free on both"):
        await bind_all(TcpAddress("localhost", 0))


@pytest.mark.parametrize("number", [97, 99])
async def test_a_machine_without_ipv4_loopback_has_only_ipv6(monkeypatch, number):
    real = sockets._listen

    def listen(host, port):
        if host == "127.0.0.1":
            raise OSError(number, os.strerror(number))
        return real(host, port)

    monkeypatch.setattr(sockets, "_listen", listen)
    [listener] = await bind_all(TcpAddress("localhost", 0))
    assert listener.name.startswith("[::1]:")
    with pytest.raises(AddressInUse) as caught:
        await bind_all(TcpAddress("localhost", listener.socket.getsockname()[1]))
    assert caught.value.address == listener.name
    listener.close()


async def test_a_machine_without_loopback_misses_the_usual_one(monkeypatch):
    def listen(_host, _port):
        raise OSError(99, os.strerror(99))

    monkeypatch.setattr(sockets, "_listen", listen)
    with pytest.raises(AddressInUse, match=r"127\.0\.0\.1:1: no interface of this"):
        await bind_all(TcpAddress("localhost", 1))


@pytest.mark.parametrize("number", [97, 99])
async def test_a_machine_without_ipv6_has_only_the_other_localhost(monkeypatch, number):
    real = sockets._listen

    def listen(host, port):
        if host == "::1":
            raise OSError(number, os.strerror(number))
        return real(host, port)

    monkeypatch.setattr(sockets, "_listen", listen)
    [listener] = await bind_all(TcpAddress("localhost", 0))
    assert listener.name.startswith("127.0.0.1:")
    listener.close()


async def test_a_wake_up_after_the_wait_was_cancelled_is_harmless(listeners):
    [listener] = await listeners(TcpAddress("127.0.0.1", 0))
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(listener.readable())
        await turns(3)
        with socket.create_connection(listener.socket.getsockname()):
            waiting.cancel()
    await until(waiting.done)
    assert isinstance(listener, Listener)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_those_that_wait_to_be_accepted_are_counted(listeners, host):
    [listener] = await listeners(TcpAddress(host, 0))
    name = listener.socket.getsockname()[:2]
    assert listener.queued == 0
    clients = [socket.create_connection(name) for _ in range(3)]
    try:
        await until(lambda: listener.queued == 3)
        listener.socket.accept()[0].close()
        assert listener.queued == 2
    finally:
        for client in clients:
            client.close()
    listener.close()
    assert listener.queued == 0


async def test_where_the_system_does_not_tell_none_seem_to_wait(
    listeners, tmp_path, monkeypatch
):
    on_disk, on_tcp = await listeners(
        UnixAddress(tmp_path / "s"), TcpAddress("127.0.0.1", 0)
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        assert on_disk.queued == 0
    with socket.create_connection(on_tcp.socket.getsockname()):
        monkeypatch.setattr(sys, "platform", "darwin")
        assert on_tcp.queued == 0


async def test_ends_are_held_at_sockets_of_our_own_only():
    (own,) = await bind([TcpAddress("127.0.0.1", 0)], socket_mode=0o600)
    (others,) = await bind([socket.create_server(("127.0.0.1", 0))], socket_mode=0o600)
    try:
        for listener in (own, others):
            listener.hold_ends(wanted=True)
        assert (own.held, others.held) == (held_fin.keeps_user(), False)
        own.hold_ends(wanted=False)
        # Those that wait already may need to be released.
        assert own.held == held_fin.keeps_user()
    finally:
        own.close()
        others.close()


async def test_an_address_is_taken_while_somebody_listens_there(listeners, tmp_path):
    path = tmp_path / "s"
    assert not sockets.is_taken(UnixAddress(path))
    assert not sockets.is_taken(TcpAddress("127.0.0.1", 0))
    tcp, _ = await listeners(TcpAddress("127.0.0.1", 0), UnixAddress(path))
    taken = TcpAddress("127.0.0.1", tcp.socket.getsockname()[1])
    assert sockets.is_taken(taken)
    assert sockets.is_taken(UnixAddress(path))
    tcp.close()
    assert not sockets.is_taken(taken)
    assert sockets.is_taken(UnixAddress(path)), "asked about, not taken away"
