"""A path that swallows everything, without a word: noticed, and survived."""

import asyncio

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from ssmtunneld.config import TunnelSettings
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.errors import PeerUnresponsive
from ssmtunneld.transport import websocket
from ssmtunneld.transport.connection import Connection
from ssmtunneld.transport.read_scheduler import ReadFairness
from tests.chaos.client import Client, Errand, Outcome, rest
from tests.chaos.destination import Destination
from tests.chaos.household import household, until
from tests.support import clockwork

_CONFIGURATION = """
[defaults]
endpoint_url = "{endpoint}"
region = "eu-west-1"
target = "i-0123456789abcdef0"

[tunnels.only]
listen = "127.0.0.1:0"
port = {port}
ping_interval = "1s"
dead_peer_timeout = "3s"
"""


async def test_it_is_noticed_within_five_seconds_when_so_configured_and_survived(
    events, log_in
):
    destination = Destination()
    errand = Errand(1, up=600_000, echo=True, piece=2000, rest=0.002)
    async with destination.listening():
        text = _CONFIGURATION.replace("{port}", str(destination.port))
        settings = EmulatorSettings(pace=Pace.NONE, scan_interval=0.01)
        async with household(text, settings) as house, asyncio.TaskGroup() as tasks:
            client = Client(errand)
            running = tasks.create_task(client.run(house.ports[0]), name="client")
            async with asyncio.timeout(20):
                await until(lambda: client.result.received > 20_000)
            house.emulator.faults.apply(["blackhole"])
            async with asyncio.timeout(5):
                await until(lambda: events.counts["link.lost"])
            house.emulator.faults.clear()
            async with asyncio.timeout(60):
                await running
    # A spare session may have been there, and met the same.
    lost = {event["reason"] for event in events.last if event["event"] == "link.lost"}
    assert lost == {str(PeerUnresponsive(3.0))}
    assert client.result.outcome is Outcome.COMPLETE
    assert destination.defects == []
    assert events.counts["session.ended"] == 0
    assert house.left == []


@pytest.mark.parametrize(
    ("own", "limit"),
    [({}, 45.0), ({"ping_interval": "1s", "dead_peer_timeout": "3s"}, 5.0)],
    ids=["by default within 45 s", "when so configured within 5 s"],
)
@pytest.mark.parametrize("heard_for", [0.0, 0.4, 19.9, 20.0, 20.1, 61.0])
def test_silence_is_noticed_in_time_whenever_it_begins(own, limit, heard_for):
    tunnel = TunnelSettings.model_validate(
        {"name": "n", "listen": 5432, "target": "i-0123456789abcdef0", "port": 1, **own}
    )
    liveness = websocket.Liveness(tunnel.ping_interval, tunnel.dead_peer_timeout)
    silence = clockwork.run_virtual(_listen_to_silence(liveness, heard_for))
    assert 0 < silence <= limit


async def _listen_to_silence(liveness, heard_for):
    """Let a peer speak for a while; return how long its silence went unnoticed."""
    loop = asyncio.get_running_loop()
    connection = Connection(ClientProtocol(parse_uri("ws://127.0.0.1/")))
    assert isinstance(connection, ClientConnection)
    connection.protocol.state = State.OPEN
    connection.connection_made(_Nowhere())
    link = websocket.WebSocketLink(connection, liveness, ReadFairness())
    receiver = _Receiver()
    link.start(receiver)
    while (now := loop.time()) < heard_for:
        await rest(min(0.4, heard_for - now))
        connection.heard = loop.time()
        link.on_heard(100)
    silent_since = loop.time()
    error = await receiver.lost
    assert isinstance(error, PeerUnresponsive)
    return loop.time() - silent_since


class _Nowhere(asyncio.Transport):
    """A transport into a black hole."""

    def write(self, data):
        pass

    def set_protocol(self, protocol):
        pass

    def resume_reading(self):
        pass

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def is_closing(self):
        return False

    def abort(self):
        pass


class _Receiver:
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def on_messages(self, messages):
        raise AssertionError(messages)

    def on_writable(self):
        pass

    def on_lost(self, error):
        self.lost.set_result(error)
