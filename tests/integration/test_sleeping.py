"""Bastions that sleep: started once for all who come, stopped only if by us."""

import asyncio
from contextlib import suppress

import pytest

from ssmtunneld.emulator.power import TAG_LIMIT
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.observe.status import TunnelState
from ssmtunneld.serve.control_socket import Place
from ssmtunneld.sessions import bastion, bastion_plan
from ssmtunneld.sessions.bastion_plan import Mark, write_mark
from tests.integration.test_node_access import await_reset
from tests.integration.test_operator import state_of, until
from tests.integration.world import (
    ask,
    configuration,
    connection,
    destination,
    echoes,
    emulator,
    port_of,
    running,
    tunnel,
)

BASTION = "i-0123456789abcdef0"


@pytest.fixture(autouse=True)
def _impatience(monkeypatch):
    """Look as often as a test wants: its own patience is not the point."""
    for name, seconds in {"POLL": 0.05, "PAUSE": 0.1, "LOOK": 0.2}.items():
        monkeypatch.setattr(bastion_plan, name, seconds)
    monkeypatch.setattr(bastion, "RETRY", 0.1)
    monkeypatch.setattr(bastion, "DOUBT", 0.0)


def service_of(**settings):
    """Return an emulator whose bastion is stopped."""
    defaults = {"stopped": frozenset({BASTION}), "boot_time": 0.2}
    return emulator(**{**defaults, **settings})


def sleeping(name="x", **settings):
    """Return the table of a tunnel by way of a bastion that sleeps."""
    return tunnel(name, target=BASTION, start_target=True, **settings)


def power(service):
    """Return what the emulator knows of the bastion."""
    return service.sessions.power.describe(BASTION)


def marks(service):
    """Return our tags of the bastion."""
    tags = power(service)["tags"]
    return [text for key, text in tags.items() if key.startswith("ssmtunneld:")]


async def reaches(daemon, state, name="x"):
    """Return the status of a tunnel once it is in ``state``."""
    await until(lambda: state_of(daemon, name).state is state)
    return state_of(daemon, name)


async def test_it_is_started_once_for_ten_clients_that_come_together(events):
    async with destination() as port, service_of() as service:
        text = configuration(
            service.endpoint_url, sleeping(port=port, stop_target_after="1h")
        )
        async with running(text) as daemon:
            asleep = await reaches(daemon, TunnelState.ASLEEP)
            assert asleep.usable
            assert asleep.sessions == ()
            assert asleep.bastion.state == "stopped"
            assert BASTION in asleep.reason
            local = port_of(daemon, "x")
            async with asyncio.TaskGroup() as tasks:
                clients = [tasks.create_task(echoes(local)) for _ in range(10)]
                waking = await reaches(daemon, TunnelState.WAKING)
                assert waking.usable
            assert all(client.result() for client in clients)
            ready = await reaches(daemon, TunnelState.READY)
            assert (ready.bastion.phase, ready.bastion.starts) == ("awake", 1)
            assert ready.bastion.started_by_us
            assert power(service)["starts"] == 1
            (mark,) = marks(service)
            assert "claim=" in mark
            assert "launch=" in mark
            assert "until=" in mark
    order = [line["event"] for line in events.lines if "bastion." in line["event"]]
    assert order[:2] == ["bastion.claimed", "bastion.started"]


async def test_a_connection_sees_no_other_error_while_it_waits(events):
    async with destination() as port, service_of() as service:
        text = configuration(service.endpoint_url, sleeping(port=port))
        async with running(text) as daemon:
            assert await echoes(port_of(daemon, "x"))
            assert not marks(service)  # it is not stopped, so nobody need know
        assert power(service)["stops"] == 0
    assert not events.find("session.ended")


async def test_it_is_stopped_when_nobody_needs_it_and_started_again(events):
    async with destination() as port, service_of() as service:
        settings = sleeping(port=port, stop_target_after="300ms")
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            local = port_of(daemon, "x")
            async with connection(local) as line:
                assert await ask(*line, b"a") == b"a"
                # However long it lasts.
                await until(lambda: "until=" in marks(service)[0])
                assert await ask(*line, b"b") == b"b"
                assert power(service)["stops"] == 0
            await until(lambda: power(service)["state"] == "stopped")
            await until(lambda: not marks(service))
            assert (await reaches(daemon, TunnelState.ASLEEP)).bastion.stops == 1
            assert await echoes(local)
            assert power(service)["starts"] == 2
    # Its sessions were ended before the instance was.
    assert not events.find("session.ended")


async def test_what_others_have_started_is_used_and_not_stopped(events):
    async with destination() as port, service_of(stopped=frozenset()) as service:
        settings = sleeping(port=port, stop_target_after="100ms")
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            await reaches(daemon, TunnelState.READY)  # warm, as any other
            assert await echoes(port_of(daemon, "x"))
            looked = len(
                events.find("emulator.api_called", operation="DescribeInstances")
            )
            await until(
                lambda: (
                    len(
                        events.find(
                            "emulator.api_called", operation="DescribeInstances"
                        )
                    )
                    > looked + 3
                )
            )
            assert state_of(daemon).state is TunnelState.READY
            assert not marks(service)
        assert power(service)["stops"] == 0


async def test_the_end_of_a_daemon_is_the_end_of_what_only_it_needs(events):
    async with destination() as port, service_of() as service:
        settings = sleeping(port=port, stop_target_after="1h")
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            assert await echoes(port_of(daemon, "x"))
        assert power(service)["stops"] == 1


async def test_a_daemon_that_uses_it_too_keeps_it_from_being_stopped(events):
    async with destination() as port, service_of() as service:
        one = configuration(
            service.endpoint_url, sleeping(port=port, stop_target_after="1h")
        )
        other = configuration(
            service.endpoint_url, sleeping(port=port, stop_target_after="100ms")
        )
        async with running(other) as second, running(one) as first:
            assert await echoes(port_of(first, "x"))
            async with connection(port_of(second, "x")) as line:
                assert await ask(*line, b"a") == b"a"
                assert len(marks(service)) == 2
                first.stop()
                await until(lambda: events.find("daemon.stopped"))
                assert await ask(*line, b"b") == b"b"
                assert power(service)["stops"] == 0


async def test_a_daemon_after_a_crash_takes_over_the_duty(events, monkeypatch):
    async with destination() as port, service_of() as service:
        settings = sleeping(port=port, stop_target_after="300ms")
        text = configuration(service.endpoint_url, settings)

        async def nothing(_):
            """Die without a word."""

        with monkeypatch.context() as dying:
            dying.setattr(bastion.Bastion, "leave", nothing)
            async with running(text, instance="me") as daemon:
                assert await echoes(port_of(daemon, "x"))
        assert power(service)["state"] == "running"
        async with running(text, instance="me"):
            await until(lambda: power(service)["stops"] == 1)


async def test_a_shell_of_somebody_keeps_it_awake(events):
    async with destination() as port, service_of() as service:
        settings = sleeping(port=port, stop_target_after="300ms")
        plain = tunnel("shell", target=BASTION, port=port, required=False)
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            assert await echoes(port_of(daemon, "x"))
            async with running(configuration(service.endpoint_url, plain)) as somebody:
                await reaches(somebody, TunnelState.READY, "shell")
                await events.wait_for("bastion.kept", count=2)
                assert power(service)["stops"] == 0
            await until(lambda: power(service)["stops"] == 1)


async def test_who_may_not_start_it_is_told_what_to_allow(events):
    async with destination() as port, service_of() as service:
        service.permissions.deny(["ec2:StartInstances"])
        settings = sleeping(port=port)
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            await await_reset(port_of(daemon, "x"))
            status = await reaches(daemon, TunnelState.WAITING)
            assert "ec2:StartInstances" in status.advice
            assert f"instance/{BASTION}" in status.advice
            assert "iam.md#bastions-that-sleep" in status.advice
            assert status.lasting
            assert not status.usable
            service.permissions.forgive()
            assert await echoes(port_of(daemon, "x"))


async def test_nothing_is_started_that_could_not_be_marked(events):
    async with destination() as port, service_of() as service:
        service.permissions.deny(["ec2:CreateTags"])
        settings = sleeping(port=port, stop_target_after="1h")
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            await await_reset(port_of(daemon, "x"))
            assert (
                "ec2:CreateTags" in (await reaches(daemon, TunnelState.WAITING)).advice
            )
        assert power(service)["starts"] == 0


async def test_tags_of_daemons_that_never_came_back_leave_room_for_the_next(events):
    async with destination() as port, service_of() as service:
        launch = service.sessions.power.launched(BASTION).timestamp()
        left = write_mark(Mark("ci@runner", claim=launch, launch=float(int(launch))))
        keys = [f"ssmtunneld:{number:012}" for number in range(TAG_LIMIT)]
        service.sessions.power.write_tags(BASTION, dict.fromkeys(keys, left))
        settings = sleeping(port=port, stop_target_after="1h")
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            assert await echoes(port_of(daemon, "x"))
            (mark,) = marks(service)
            assert "until=" in mark


async def test_one_that_somebody_stops_is_found_asleep(events):
    async with destination() as port, service_of(stopped=frozenset()) as service:
        settings = sleeping(port=port)
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            await reaches(daemon, TunnelState.READY)
            service.sessions.power.stop(BASTION)
            await reaches(daemon, TunnelState.ASLEEP)
            with suppress(SsmtunneldError):
                assert await echoes(port_of(daemon, "x"))
            assert power(service)["starts"] == 1


async def test_socks_wakes_it_too(events):
    async with destination() as port, service_of() as service:
        settings = sleeping(
            mode="socks5", destinations=[f"localhost:{port}"], stop_target_after="1h"
        )
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            assert (await reaches(daemon, TunnelState.ASLEEP)).usable
            async with connection(port_of(daemon, "x")) as (reader, writer):
                writer.write(b"\x05\x01\x00")
                assert await reader.readexactly(2) == b"\x05\x00"
                name = b"localhost"
                writer.write(
                    b"\x05\x01\x00\x03"
                    + bytes([len(name)])
                    + name
                    + port.to_bytes(2, "big")
                )
                assert (await reader.readexactly(10))[:2] == b"\x05\x00"
                assert await ask(reader, writer, b"hello") == b"hello"
            assert power(service)["starts"] == 1


async def test_a_person_wakes_it_without_a_connection(events):
    async with destination() as port, service_of() as service:
        settings = sleeping(port=port, stop_target_after="1h")
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            await reaches(daemon, TunnelState.ASLEEP)
            assert await daemon.wake("x") == {"waking": True}
            await reaches(daemon, TunnelState.READY)
            assert await daemon.wake("x") == {"waking": False}
            assert power(service)["starts"] == 1
            assert await echoes(port_of(daemon, "x"))


async def test_it_is_woken_for_a_connection_that_ssh_will_make(events):
    async with destination() as port, service_of() as service:
        settings = sleeping(port=port)
        async with running(configuration(service.endpoint_url, settings)) as daemon:
            await reaches(daemon, TunnelState.ASLEEP)
            place = Place(BASTION, port)
            assert daemon.connect(place, None) is None
            assert daemon.wake_for(Place(BASTION, port + 1)) is None
            assert daemon.wake_for(place) == "x"
            await reaches(daemon, TunnelState.READY)
            assert daemon.wake_for(place) is None
            # A session that nobody waits for may still be on its way.
            await until(lambda: daemon.tunnels[0].usable)
            sock = daemon.connect(place, None)
            assert sock is not None
            sock.close()
