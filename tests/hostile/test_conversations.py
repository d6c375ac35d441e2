"""Generated conversations of a hostile far side against channel, port and driver.

Everything is the real code but the network, the clock and the service. Whatever is
said, the session ends with an error that is one of ours, or goes on; nothing piles up,
nothing is left behind, and no text that is kept could hurt whoever shows it.

All run from one seed. ``SSMTUNNELD_HOSTILE_SEED`` chooses another, and
``SSMTUNNELD_FULL_SIZE`` has 50,000 of them instead of 3,000.
"""

import asyncio
import contextlib
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.uri import parse_uri

from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import (
    ChannelClosed,
    LinkError,
    LocalProtocolError,
    StreamError,
    TunnelError,
)
from ssmtunneld.protocol.channel import DataChannel
from ssmtunneld.protocol.inbound import MAX_EARLY, MAX_EARLY_BYTES
from ssmtunneld.smux.mux import MAX_SILENT
from ssmtunneld.transport.basic_port import BasicPort
from ssmtunneld.transport.connection import (
    LARGE_FRAME,
    MAX_FRAGMENTS,
    MAX_MESSAGE,
    RARE_BURST,
    RARE_RATE,
    Connection,
    explain,
)
from ssmtunneld.transport.driver import Driver
from ssmtunneld.transport.mux_port import MuxPort
from ssmtunneld.transport.outbox import CHOKE_SIZE
from ssmtunneld.transport.ports import Buffers
from ssmtunneld.transport.read_scheduler import ReadFairness
from ssmtunneld.transport.unsent import WRITE_BUFFER
from ssmtunneld.transport.websocket import Liveness, WebSocketLink
from tests.support.canary import leaks
from tests.support.clockwork import run_virtual, turns
from tests.support.fake_control import elapse
from tests.support.hostile import (
    ABORT,
    CANARY,
    CLOSE,
    FAR_DEEDS,
    HANG_UP,
    LEAVE_UNREAD,
    NEAR_DEEDS,
    OPEN,
    PAUSE,
    READ_AGAIN,
    SAYINGS,
    SEND,
    STOP_READING,
    Far,
    MemoryTransport,
)

COUNT = 50_000 if os.environ.get("SSMTUNNELD_FULL_SIZE") else 3000
SEED = int(os.environ.get("SSMTUNNELD_HOSTILE_SEED") or 12)

BUFFERS = Buffers(stream=64 << 10, session=256 << 10)
LONGEST = 400
"""Characters of any text that is kept: 300 of theirs, and ours around them."""
SLACK = 64 << 10
"""Bytes of one read, which is handled to its end."""


class Near:
    """Our side: one session's channel, driver and port, and its local clients."""

    def __init__(self, tasks):
        self.port = None
        self.ends = []
        self.transport = None
        self.fresh = False
        """True while the upgrade waits for its answer."""
        self.refused = 0
        self._tasks = tasks
        self._channel = DataChannel(
            client_id="client",
            new_id=lambda: os.urandom(16),
            wall_clock_ms=lambda: 1_700_000_000_000,
        )
        self.driver = Driver(self._channel, self._open_port)
        self._streams = []
        self._running = None
        self.far = Far(self._key)
        self.texts = []

    def _key(self):
        head = self.transport.head.decode()
        for line in head.split("\r\n"):
            name, _, value = line.partition(": ")
            if name.lower() == "sec-websocket-key":
                return value
        raise AssertionError(head)

    def _open_port(self, terms):
        self.texts += [terms.agent_version, terms.notice, *terms.properties.values()]
        self.texts += list(terms.properties)
        if terms.mux:
            self.port = MuxPort(self.driver, BUFFERS)
        else:
            ends_with = not terms.redials
            self.port = BasicPort(
                self.driver, BUFFERS, lambda: None, ends_with=ends_with
            )
        return self.port

    @property
    def over(self):
        """True if the session is over, not only its link."""
        return any(not isinstance(error, LinkError) for error in self.ends)

    async def connect(self):
        """Have a new link, whose upgrade waits for its answer."""
        if self._running is not None and not self._running.done():
            return
        protocol = ClientProtocol(
            parse_uri("ws://service.example/"), max_size=MAX_MESSAGE
        )
        connection = Connection(
            protocol,
            ping_interval=None,
            close_timeout=1,
            max_queue=None,
            write_limit=WRITE_BUFFER,
        )
        self.transport = MemoryTransport(connection)
        self._connection = connection
        self._linked_at = asyncio.get_running_loop().time()
        self._parsed = 0
        receive_data = protocol.receive_data

        def counting(data):
            self._parsed += len(data) < LARGE_FRAME
            receive_data(data)

        protocol.receive_data = counting
        self.fresh = True
        connection.connection_made(self.transport)
        self._running = self._tasks.create_task(self._run(connection))
        await turns()

    async def _run(self, connection):
        try:
            async with asyncio.timeout(15):
                await connection.handshake(None, None)
        except (WebSocketException, OSError, TimeoutError) as error:
            self.refused += 1
            self.texts.append(explain(error))
            connection.transport.abort()
            return
        link = WebSocketLink(connection, Liveness(), ReadFairness())
        try:
            await self.driver.run(link, Secret(CANARY))
        except TunnelError as error:
            self.ends.append(error)
            self.texts += [str(error), repr(error), error.advice]

    # Local clients.

    def act(self, deed):
        """Do what a local client might do."""
        if self.port is None:
            return
        if deed in (OPEN, LEAVE_UNREAD):
            with contextlib.suppress(LocalProtocolError):  # basic: there is one
                stream = self.port.open_stream()
                self._streams.append(stream)
                if deed == OPEN:
                    self._tasks.create_task(self._read(stream))
        elif self._streams:
            stream = self._streams[-1]
            if deed == SEND:
                self._tasks.create_task(self._send(stream))
            elif deed == CLOSE:
                self._tasks.create_task(stream.aclose())
            elif deed == ABORT:
                stream.abort()

    async def _read(self, stream):
        with contextlib.suppress(StreamError):
            while await stream.receive():
                pass

    async def _send(self, stream):
        with contextlib.suppress(StreamError):
            await stream.send(bytes(3000))

    # What must be true at every moment.

    def check(self):
        """Nothing has piled up."""
        channel = self._channel
        assert channel._inbound.early <= MAX_EARLY
        assert channel._inbound._early_bytes <= MAX_EARLY_BYTES
        assert len(channel._effects) == 0 or self.transport is None
        if isinstance(self.port, MuxPort):
            mux = self.port._mux
            assert mux.unread <= BUFFERS.session + 10 * SLACK
            assert len(mux._silent) <= MAX_SILENT
            assert len(mux._streams) <= len(self._streams)
        if self.transport is not None:
            assert self.transport.most <= WRITE_BUFFER + CHOKE_SIZE + 6 * SLACK
            assert len(self.transport.head) < SLACK
            assert len(self._connection._fragments) <= MAX_FRAGMENTS
            assert len(self._connection.arrived) == 0
            # The library takes long for each frame; the first one is the upgrade.
            lasted = asyncio.get_running_loop().time() - self._linked_at
            assert self._parsed <= 2 + RARE_BURST + RARE_RATE * lasted

    async def end(self):
        """End the session as its owner does, and look at what it leaves."""
        if self._running is not None:
            self._running.cancel()
        await turns()
        self._channel.close(ChannelClosed())
        if self.port is not None:
            self.port.fail(ChannelClosed())
        for stream in self._streams:
            stream.abort()
        await turns()

    def check_texts(self):
        """Whatever was kept is short, prints, and tells no secret."""
        self.texts.append(repr(self._channel.statistics()))
        for text in self.texts:
            assert text.isprintable(), repr(text)
            assert len(text) <= LONGEST, text
            assert leaks(text, CANARY) == []


async def play(conversation):
    """Play one conversation; return how it ended."""
    loop = asyncio.get_running_loop()
    defects = []
    loop.set_exception_handler(lambda _, context: defects.append(context))
    async with asyncio.TaskGroup() as tasks:
        near = Near(tasks)
        for kind, number in conversation:
            await near.connect()
            await step(near, kind, number)
            await turns(4)
            near.check()
            if near.over:
                break
        await settle(near)
        near.check()
        await near.end()
    near.check_texts()
    assert defects == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return near


async def step(near, kind, number):
    transport, far = near.transport, near.far
    if kind == HANG_UP:
        transport.hang_up(ConnectionResetError("cut") if number % 2 else None)
    elif kind in (STOP_READING, READ_AGAIN):
        transport.take(takes=kind == READ_AGAIN)
    elif kind == PAUSE:
        await elapse([0.05, 1.0, 2.5, 25.0][number % 4])
    elif kind in NEAR_DEEDS:
        near.act(kind)
    else:
        if near.fresh and "upgrade" not in kind and number % 8:
            transport.say(far.say("upgrade", number))
        near.fresh = False
        transport.say(far.say(kind, number))


async def settle(near):
    """Let everything that was said arrive."""
    await turns(30)
    await elapse(0.5)
    await turns(30)


numbers = st.integers(0, 2**32)
sayings = st.tuples(st.sampled_from(SAYINGS), numbers)
deeds = st.tuples(st.sampled_from((*FAR_DEEDS, *NEAR_DEEDS)), numbers)
prefixes = st.sampled_from(
    [
        *[["hello"]] * 4,
        *[["hello", OPEN, SEND]] * 6,
        *[["documents"]] * 3,
        ["odd upgrade"],
        [],
    ]
)
conversations = st.builds(
    lambda prefix, number, rest: [*((kind, number) for kind in prefix), *rest],
    prefixes,
    numbers,
    st.lists(sayings | deeds, max_size=12),
)

reached = Counter()
"""Counts of outcomes: sessions opened, refused, resumed, alive, and by error."""


@pytest.mark.timeout(1800)
@seed(SEED)
@settings(
    max_examples=COUNT,
    deadline=None,
    database=None,
    derandomize=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(conversations)
def test_a_conversation_ends_with_an_error_of_ours_or_goes_on(conversation):
    near = run_virtual(play(conversation))
    reached["open"] += near.port is not None
    reached["refused"] += near.refused > 0
    reached["resumed"] += len(near.ends) > 1
    reached["alive"] += not near.ends
    reached.update(type(error).__name__ for error in near.ends)


def test_the_conversations_reach_every_kind_of_end():
    if not reached:
        pytest.skip("they were not played")
    for kind in (
        "open",
        "refused",
        "resumed",
        "alive",
        "LinkLost",
        "RemoteProtocolError",
        "ChannelClosed",
        "HandshakeFailed",
    ):
        assert reached[kind] >= COUNT // 500, reached
