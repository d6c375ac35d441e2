"""The composition root: start, readiness, networks, signals, and the end.

What needs a whole data path is in ``tests/integration``.
"""

import asyncio
import shutil
import socket

import pytest

from ssmtunneld.config import parse_config
from ssmtunneld.daemon import daemon as daemon_module
from ssmtunneld.daemon.daemon import Daemon
from ssmtunneld.daemon.instance_lock import control_socket
from ssmtunneld.daemon.process import ENDING_TIME
from ssmtunneld.daemon.size_file import size_file
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.serve.control_socket import Place
from ssmtunneld.serve.systemd import Notifier, ServiceManager
from ssmtunneld.sessions.message_sizes import AgentKind
from tests.integration import world
from tests.integration.world import configuration, emulator, running, statuses, tunnel


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
async def events():
    async with world.logging() as caught:
        yield caught


async def test_a_tunnel_that_is_not_required_does_not_delay_readiness(events):
    async with emulator(faults=("offline=i-01234567",)) as service:
        text = configuration(
            service.endpoint_url,
            tunnel("good", port=1),
            tunnel("optional", target="i-01234567", port=1, required=False),
            tunnel("on-demand", port=1, warm=0),
        )
        async with running(text) as daemon:
            assert daemon.ready.is_set()
            assert len(events.find("daemon.ready")) == 1
            assert events.find("session.ready", tunnel="optional") == []
            assert events.find("session.ready", tunnel="on-demand") == []
    assert [line["event"] for line in events.lines][-1] == "daemon.stopped"
    assert statuses(service) == ["Terminated"]


def answers(path):
    """Return whether a Unix socket at ``path`` accepts connections."""
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0


async def test_whoever_hears_that_it_is_ready_gets_an_answer(events, tmp_path):
    path, page = control_socket("0" * 12), tmp_path / "page"
    path.parent.mkdir(parents=True)
    found = []

    def look():
        found.append((answers(path), answers(page)))

    async with emulator() as service:
        text = configuration(
            service.endpoint_url, tunnel("x", port=1), http_listen=f"unix:{page}"
        )
        async with running(text, instance="0" * 12, when_ready=look):
            assert found == [(True, True)]
    names = [line["event"] for line in events.lines]
    for before in ("session.ready", "control.bound", "http.bound"):
        assert names.index(before) < names.index("daemon.ready"), before


@pytest.mark.parametrize("lasting", [True, False])
async def test_sizes_of_messages_are_kept_for_a_daemon_that_can_come_after(
    events, lasting
):
    kind = AgentKind("3.3.987.0", "ssmmessages.eu-west-1.amazonaws.com")
    text = tunnel("x", port=1, warm=0)
    async with running(text, instance="0" * 12, lasting=lasting) as daemon:
        sizes = daemon._context.message_sizes
        sizes.begin(kind, 4096)
        sizes.accept(kind, 4096)
    assert size_file("0" * 12).exists() is lasting


async def test_it_is_ready_also_where_nobody_can_ask_it(events):
    path = control_socket("0" * 12)
    path.mkdir(parents=True)  # where a socket should be
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        async with emulator() as service:
            text = configuration(
                service.endpoint_url, tunnel("x", port=1), http_listen=taken
            )
            async with running(text, instance="0" * 12):
                assert events.find("control.failed")
                assert events.find("http.failed")
                assert len(events.find("daemon.ready")) == 1


async def test_a_control_socket_that_somebody_removes_is_made_again(
    events, monkeypatch
):
    monkeypatch.setattr(daemon_module, "CONTROL_CHECK", 0.01)
    path = control_socket("0" * 12)
    renewed = []

    def renew():
        renewed.append(path.parent.exists())
        return len(renewed) != 1  # at first another daemon has it

    async with emulator() as service:
        text = configuration(service.endpoint_url, tunnel("x", port=1))
        async with running(text, instance="0" * 12, renew=renew):
            shutil.rmtree(path.parent)
            await events.wait_for("control.bound", count=2)
            assert answers(path)
            path.unlink()
            path.write_text("somebody else's")
            await events.wait_for("control.bound", count=3)
            assert answers(path)
    assert len(events.find("control.lost")) == 2
    (failed,) = events.find("control.failed")
    assert failed["reason"] == "another daemon runs this file"
    assert renewed == [False, False, True]


async def test_whoever_asks_is_answered_also_while_it_is_not_ready(events, tmp_path):
    path = control_socket("0" * 12)
    path.parent.mkdir(parents=True)
    async with emulator(faults=("offline=i-01234567",)) as service:
        text = configuration(
            service.endpoint_url, tunnel("dead", target="i-01234567", port=1)
        )
        async with running(text, instance="0" * 12, ready=False) as daemon:
            await events.wait_for("control.bound")
            assert answers(path)
            assert not daemon.ready.is_set()


async def test_a_tunnel_that_is_required_does(events):
    async with emulator(faults=("offline=i-01234567",)) as service:
        text = configuration(
            service.endpoint_url, tunnel("dead", target="i-01234567", port=1)
        )
        async with running(text, ready=False) as daemon:
            await events.wait_for("session.ended")
            assert not daemon.ready.is_set()


async def test_a_daemon_that_can_listen_nowhere_fails_without_a_session(events):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        text = configuration("http://127.0.0.1:9", tunnel("x", listen=taken, port=1))
        daemon = Daemon(parse_config(text, "test.toml", {}))
        with pytest.raises(SsmtunneldError, match="no tunnel can listen"):
            await daemon.run()
    assert [line["event"] for line in events.lines] == [
        "daemon.started",
        "listener.failed",
        "daemon.stopped",
    ]


async def test_a_cancelled_daemon_leaves_nothing_behind(events):
    tasks = asyncio.all_tasks()
    async with emulator() as service:
        text = configuration(service.endpoint_url, tunnel("x", port=1))
        daemon = Daemon(parse_config(text, "test.toml", {}))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(daemon.run(), name="daemon")
            await daemon.ready.wait()
            task.cancel()
        assert task.cancelled()
        assert statuses(service) == ["Terminated"]
    assert events.find("daemon.draining") == []
    assert asyncio.all_tasks() == tasks


async def test_a_new_network_is_a_reason_to_try_again_at_once(events):
    async with emulator(faults=("start-error=InvalidDocument*1",)) as service:
        text = configuration(service.endpoint_url, tunnel("x", port=1))
        async with running(text, ready=False) as daemon:
            await events.wait_for("session.ended")
            # A route may have come or gone: only a look at the links.
            daemon._on_network("route")
            assert statuses(service) == []
            daemon._on_network("sleep")
            await events.wait_for("session.ready")
            kinds = [line["kind"] for line in events.find("network.changed")]
            assert kinds == ["route", "sleep"]
    assert statuses(service) == ["Terminated"]


async def next_datagram(heard, word):
    """Return the next message to the service manager that has ``word`` in it."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(world.PATIENCE):
        while word not in (text := (await loop.sock_recv(heard, 65536)).decode()):
            pass
    return text


async def test_the_service_manager_is_told_how_we_are(events, tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        heard.setblocking(False)
        manager = ServiceManager(Notifier(address), 0.02, {"nobody": []})
        async with emulator(faults=("start-error=AccessDeniedException*1",)) as service:
            text = configuration(service.endpoint_url, tunnel("x", port=1))
            daemon = Daemon(parse_config(text, "test.toml", {}), manager=manager)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(daemon.run(), name="daemon")
                await next_datagram(heard, "WATCHDOG=1")
                trouble = await next_datagram(heard, "AccessDenied")
                assert trouble.startswith("STATUS=1 tunnel, 0 usable; x: StartSession")
                assert "allow ssm:StartSession" in trouble
                daemon._on_network("network")
                ready = await next_datagram(heard, "READY=1")
                assert ready == "READY=1\nSTATUS=1 tunnel, 1 usable"
                await next_datagram(heard, "WATCHDOG=1")
                daemon.stop()
                stopping = await next_datagram(heard, "STOPPING=1")
                assert stopping.endswith("EXTEND_TIMEOUT_USEC=20000000")
    assert [line["name"] for line in events.find("socket.unused")] == ["nobody"]
    manager.notifier.close()


def test_what_takes_long_at_the_end_is_told_before_it_is_cut():
    assert daemon_module.ABANDON_TIME < daemon_module.CLOSING_TIME < ENDING_TIME


TARGET = "i-0123456789abcdef0"


async def test_a_place_is_reached_through_the_tunnel_that_leads_there(events):
    async with world.destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url,
            tunnel("elsewhere", port=port, host="10.0.0.5"),
            tunnel("there", port=port),
        )
        async with running(text) as daemon:
            sock = daemon.connect(Place(TARGET, port), 7)
            assert sock is not None
            sock.settimeout(0)
            line = await asyncio.open_connection(sock=sock)
            assert await world.ask(*line, b"through") == b"through"
            found = {t.name: t.connections for t in daemon.snapshot().tunnels}
            assert found == {"elsewhere": 0, "there": 1}
            line[1].close()


async def test_a_place_that_no_tunnel_leads_to_at_once_is_not_reached(
    events, monkeypatch
):
    async with emulator(faults=("offline=i-01234567",)) as service:
        text = configuration(
            service.endpoint_url,
            tunnel("there", port=22),
            tunnel("dead", target="i-01234567", port=22, required=False),
        )
        async with running(text) as daemon:
            here = service.endpoint_url
            source = str(daemon._config.source.resolve())
            for place in (
                Place(TARGET, 23),
                Place("i-0fffffffffffffff0", 22),
                Place("i-01234567", 22),
                Place(TARGET, 22, endpoint="http://127.0.0.1:9"),
                Place(TARGET, 22, config="/another.toml"),
            ):
                assert daemon.connect(place, None) is None, place
            sock = daemon.connect(Place(TARGET, 22, f"{here}/", source), None)
            assert sock is not None
            sock.close()
            await daemon.pause("there")
            assert daemon.connect(Place(TARGET, 22), None) is None
            await daemon.resume("there")
            daemon.stop()
            assert daemon.connect(Place(TARGET, 22), None) is None
