"""The HTTP listener's life: where its settings say, as long as they say so."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.base.log import get_log
from ssmtunneld.config.model import DaemonSettings
from ssmtunneld.serve.http_server import HttpServer, HttpServerSettings
from tests.integration.world import logging
from tests.serve.test_status_page import Subject, ask


@pytest.fixture
async def events():
    async with logging() as caught:
        yield caught


def settings(**table):
    return HttpServerSettings.of(DaemonSettings.model_validate(table))


@asynccontextmanager
async def running(chosen):
    front = HttpServer(Subject(), chosen, get_log())
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(front.run())
        yield front
        task.cancel()


async def test_it_listens_where_the_settings_say(events):
    chosen = settings(http_listen="127.0.0.1:0", http_hosts=["tunnels.example.com"])
    async with running(chosen) as front:
        bound = (await events.wait_for("http.bound"))["address"]
        await front.opened.wait()
        assert (await ask(bound, "/livez", host="Tunnels.example.com"))[0] == 200
        assert (await ask(bound, "/livez", host="example.com"))[0] == 421


async def test_it_follows_its_settings(events, tmp_path):
    async with running(settings()) as front:
        await front.opened.wait()  # there is nothing to open
        front.settings = settings(http_listen="127.0.0.1:0")
        first = (await events.wait_for("http.bound"))["address"]
        assert (await ask(first, "/livez"))[0] == 200
        front.settings = settings(http_listen="127.0.0.1:0")  # as before
        front.settings = settings(http_listen=f"unix:{tmp_path / 'second'}")
        second = (await events.wait_for("http.bound", count=2))["address"]
        assert (await ask(second, "/livez"))[0] == 200
        with pytest.raises(ConnectionRefusedError):
            await ask(first, "/livez")
        front.settings = settings()
        async with asyncio.timeout(30):
            while True:
                try:
                    await ask(second, "/livez")
                except ConnectionError:
                    break
    assert len(events.find("http.bound")) == 2
