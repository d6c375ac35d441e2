"""Messages to the service manager, and their order."""

import asyncio
import socket

import pytest

from ssmtunneld.daemon import service_notifier
from ssmtunneld.daemon.service_notifier import ServiceNotifier
from ssmtunneld.serve.systemd import Notifier, ServiceManager

PATIENCE = 30.0


class Scene:
    """A notifier, and the end of the socket that hears it."""

    def __init__(self, address, watchdog):
        self.alive = True
        self.words = "all is well"
        self.broken = False
        self.heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.heard.bind(address)
        self.heard.setblocking(False)
        self.channel = Notifier(address)
        self.notifier = ServiceNotifier(
            ServiceManager(self.channel, watchdog, {}),
            describe=self._say,
            alive=lambda: self.alive,
            monotonic_us=lambda: 42,
        )

    def _say(self):
        if self.broken:
            raise ZeroDivisionError
        return self.words

    async def next(self):
        """Return the next message."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            return (await loop.sock_recv(self.heard, 4096)).decode()

    async def hear(self, word):
        """Return the next message with ``word`` in it."""
        while word not in (message := await self.next()):
            pass
        return message

    def silent(self):
        """Return whether no further message has arrived by now."""
        try:
            self.heard.recv(4096)
        except BlockingIOError:
            return True
        return False

    def close(self):
        self.channel.close()
        self.heard.close()


@pytest.fixture
async def scene(tmp_path):
    made = []

    def make(watchdog=None):
        made.append(Scene(str(tmp_path / "notify"), watchdog))
        return made[0]

    yield make
    for one in made:
        one.close()


async def test_signs_of_life_come_as_often_as_they_are_wanted(scene):
    s = scene(watchdog=0.01)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(s.notifier.run())
        for _ in range(3):
            assert await s.next() == "WATCHDOG=1"
            assert await s.next() == "STATUS=all is well"
        running.cancel()


async def test_without_life_there_is_no_sign_but_a_look_soon_after(scene, monkeypatch):
    monkeypatch.setattr(service_notifier, "AGAIN", 0.01)
    s = scene(watchdog=3600.0)
    s.alive = False
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(s.notifier.run())
        for _ in range(3):
            assert await s.next() == "STATUS=all is well"
        s.alive = True
        await s.hear("WATCHDOG=1")
        running.cancel()


async def test_words_that_cannot_be_found_cost_no_sign_of_life(scene):
    s = scene(watchdog=0.01)
    s.broken = True
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(s.notifier.run())
        for _ in range(3):
            assert await s.next() == "WATCHDOG=1"
        s.notifier.ready()
        s.notifier.reloading()
        s.broken = False
        await s.hear("STATUS=all is well")
        running.cancel()
    found = s.notifier._defects.snapshot(asyncio.get_running_loop().time())
    assert [(d.compartment, d.count >= 4) for d in found] == [("notifier", True)]


async def test_a_reload_is_told_only_by_a_daemon_that_was_ready(scene):
    s = scene()
    s.notifier.reloading()
    s.notifier.reloaded()
    assert s.silent()
    s.notifier.ready()
    s.notifier.reloading()
    s.notifier.reloaded()
    ready = "READY=1\nSTATUS=all is well"
    assert await s.next() == ready
    assert await s.next() == "RELOADING=1\nMONOTONIC_USEC=42"
    assert await s.next() == ready


async def test_a_daemon_that_ends_asks_for_time_again_and_again(scene, monkeypatch):
    monkeypatch.setattr(service_notifier, "ENDING_INTERVAL", 0.01)
    s = scene(watchdog=3600.0)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(s.notifier.run())
        await s.hear("STATUS=")
        s.notifier.ending()
        assert await s.next() == "STOPPING=1\nEXTEND_TIMEOUT_USEC=20000000"
        for _ in range(3):
            assert await s.next() == "WATCHDOG=1"
            assert await s.next() == "STATUS=all is well"
            assert await s.next() == "EXTEND_TIMEOUT_USEC=20000000"
        running.cancel()


async def test_where_nobody_listens_nothing_is_done():
    notifier = ServiceNotifier(ServiceManager.none(), describe=_never, alive=_never)
    await notifier.run()
    notifier.ready()
    notifier.reloading()
    notifier.reloaded()
    notifier.ending()


def _never():
    raise AssertionError("asked for nobody")


def test_the_clock_is_the_one_that_systemd_compares_with():
    assert service_notifier._monotonic_us() > 0
