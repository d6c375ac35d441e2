"""The agent of one session: handshake, then a plugin (protocol 4 and 5, A columns)."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from random import Random
from typing import Final

from ssmtunneld.base.log import EventLog
from ssmtunneld.emulator.agent.basic import BasicPlugin
from ssmtunneld.emulator.agent.mux import MuxPlugin
from ssmtunneld.emulator.agent.pacing import Pacer
from ssmtunneld.emulator.agent.port import (
    Destination,
    Plugin,
    PluginFailed,
    ends_session,
)
from ssmtunneld.emulator.agent.reliability import Reliability
from ssmtunneld.emulator.faults import FaultPlan
from ssmtunneld.emulator.lane import Lane
from ssmtunneld.emulator.settings import PACE_INTERVAL, EmulatorSettings
from ssmtunneld.emulator.versions import AgentTraits
from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.protocol.message import (
    MAX_PAYLOAD,
    Message,
    MessageType,
    PayloadType,
    decode,
    decode_flag,
)
from ssmtunneld.protocol.payloads import (
    SESSION_TYPE,
    SUCCESS,
    ClientAction,
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    parse_acknowledgement,
)

_BATCH: Final = 64
"""Messages that are taken from the service at once."""

_ERROR_PREFIX: Final = "\n----------ERROR-------\n"
_HANDSHAKE_PREFIX: Final = "Encountered error while initiating handshake. "
_TIMED_OUT: Final = (
    "Handshake timed out. Please ensure that you have the latest version of the "
    "session manager plugin."
)


class Agent:
    """Plays one session's agent.

    Args:
        properties: The session document's, after substitution.
        settings: Versions, timers and pace.
        plan: The faults in force.
        up: Where the client's messages come from.
        down: Where the agent's messages go.
        random: Where message ids come from.
        log: Bound to the session.
        pacer: Wakes it when it rests.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        settings: EmulatorSettings,
        plan: FaultPlan,
        *,
        up: Lane,
        down: Lane,
        random: Random,
        log: EventLog,
        pacer: Pacer,
    ) -> None:
        self.plugin: Plugin | None = None
        self.client_version = ""
        self.ready = asyncio.Event()
        """The handshake is complete and the plugin takes data."""
        self._properties = properties
        self._settings = settings
        self._plan = plan
        self._up = up
        self._down = down
        self._random = random
        self._log = log
        self._pacer = pacer
        self.late_replies: list[bytes] = []
        """Acknowledgements that the client gets after channel_closed."""
        self._loop = asyncio.get_running_loop()
        self._traits = AgentTraits.of(settings.agent_version)
        self.away = False
        """Its own websocket is just being reconnected."""
        self._complete = False
        self._response: asyncio.Future[HandshakeResponse] = self._loop.create_future()
        self._unpaused = asyncio.Event()
        self._unpaused.set()
        self._recorded = asyncio.Event()
        self._drained = asyncio.Event()
        self._replies: list[bytes] = []
        offset = settings.wall_clock().timestamp() - self._loop.time()
        self.reliability = Reliability(random, offset, settings.agent_buffer)

    async def run(self) -> str:
        """Play until the session ends and return the words for the client.

        Cancelling ends it at once: every destination is closed.
        """
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._receive(), name="agent reader")
            timer = tasks.create_task(self._keep_time(), name="agent timer")
            output = await self._work()
            reader.cancel()
            timer.cancel()
        await self._thawed()
        return output

    def pause(self) -> None:
        """Take pause_publication from the service."""
        if self._traits.honours_pause:
            self.reliability.paused = True
            self._unpaused.clear()

    def resume(self) -> None:
        """Take start_publication, or anything that means as much (protocol 4.6)."""
        if self.reliability.paused:
            self.reliability.paused = False
            self._unpaused.set()

    def lose_websocket(self) -> None:
        """Reconnect: what is on its way is lost, and so is what is sent meanwhile."""
        self._up.clear()
        self._down.clear()
        self.resume()
        if not self.away:
            self.away = True
            self._loop.call_later(self._settings.agent_away_time, self._return)

    async def publishing(self) -> None:
        """Wait until the service no longer says pause; cancelling is safe."""
        await self._unpaused.wait()

    async def rest(self) -> None:
        """Do nothing for the millisecond that the agent sleeps after each message."""
        await self._pacer.rest(PACE_INTERVAL)

    async def send(self, payload_type: PayloadType, payload: bytes) -> None:
        """Send one sequenced message; waits while the service takes no more."""
        batch = self.reliability.send(payload_type, payload, self._loop.time())
        self._recorded.set()
        await self._put(batch)

    async def send_output(self, data: bytes) -> None:
        """Send ``data`` cut into messages of at most 1024 bytes; waits likewise."""
        now = self._loop.time()
        batch: list[bytes] = []
        for start in range(0, len(data), MAX_PAYLOAD):
            piece = data[start : start + MAX_PAYLOAD]
            batch += self.reliability.send(PayloadType.OUTPUT, piece, now)
        self._recorded.set()
        await self._put(batch)

    async def _thawed(self) -> None:
        if self._plan.knobs.agent_freeze:
            await self._plan.until(lambda knobs: not knobs.agent_freeze)

    async def _put(self, batch: list[bytes]) -> None:
        await self._thawed()
        # Away, the agent's failed sends are logged and buffered (protocol 2.5).
        if batch and not self.away:
            await self._down.put(batch)

    def _return(self) -> None:
        self.away = False

    async def _work(self) -> str:
        try:
            response = await self._shake_hands()
            self.client_version = response.client_version
            destination = Destination(
                self._properties, self._traits, self._settings, self._plan
            )
            await destination.resolve()
            plugin = self._make_plugin(destination)
            await plugin.prepare()
            await asyncio.sleep(0)  # one turn, as the network would (protocol 5.4)
            self.plugin = plugin
            self.ready.set()
            await plugin.run()
        except PluginFailed as failure:
            # One that panicked has nobody left to say a word.
            return f"{_ERROR_PREFIX}{failure}" if str(failure) else ""
        finally:
            self.plugin = None
        if self._traits.honours_pause:
            await self._drain()
        return ""

    async def _shake_hands(self) -> HandshakeResponse:
        await self._plan.until(lambda knobs: not knobs.handshake_stall)
        started = self._loop.time()
        action = ClientAction(
            SESSION_TYPE,
            {"SessionType": "Port", "Properties": dict(self._properties)},
        )
        request = HandshakeRequest(self._traits.version, (action,))
        await self.send(PayloadType.HANDSHAKE_REQUEST, request.encode())
        try:
            async with asyncio.timeout(self._settings.handshake_timeout):
                response = await self._response
        except TimeoutError:
            raise PluginFailed(_HANDSHAKE_PREFIX + _TIMED_OUT) from None
        for processed in response.actions:
            if processed.status != SUCCESS:
                raise PluginFailed(
                    f"{_HANDSHAKE_PREFIX}{processed.action_type} failed on client with "
                    f"status "
                    f"{processed.status} error: {processed.error}"
                )
        elapsed = int((self._loop.time() - started) * 1e9)
        # No await between these two: an answer must not find the gate still closed.
        self._complete = True
        complete = HandshakeComplete(elapsed).encode()
        await self.send(PayloadType.HANDSHAKE_COMPLETE, complete)
        return response

    def _make_plugin(self, destination: Destination) -> Plugin:
        session_type = self._properties.get("type", "")
        if self._traits.uses_mux(session_type, self.client_version):
            return MuxPlugin(
                self,
                destination,
                self._traits,
                keepalive=self._traits.uses_keepalive(self.client_version),
                settings=self._settings,
                plan=self._plan,
                log=self._log,
            )
        return BasicPlugin(
            self,
            destination,
            self._traits,
            redials=session_type == "LocalPortForwarding",
            pace=self._settings.pace,
            plan=self._plan,
        )

    async def _drain(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_time):
                while self.reliability.unacknowledged:
                    self._drained.clear()
                    await self._drained.wait()

    async def _keep_time(self) -> None:
        while True:
            await self._recorded.wait()
            await asyncio.sleep(self._settings.scan_interval)
            await self._put(self.reliability.resend(self._loop.time()))
            if not self.reliability.unacknowledged:
                self._recorded.clear()

    async def _receive(self) -> None:
        while True:
            batch = await self._up.get(_BATCH)
            await self._thawed()
            for data in batch:
                if not self.away:
                    await self._take(data)
            await self._flush()

    async def _flush(self) -> None:
        if self._replies:
            replies, self._replies = self._replies, []
            await self._put(replies)

    async def _take(self, data: bytes) -> None:
        try:
            message = decode(data, check_digest=self._plan.knobs.check_digest)
            if message.message_type == MessageType.ACKNOWLEDGE:
                self.resume()
                sequence = parse_acknowledgement(message.payload)
                self.reliability.on_acknowledgement(sequence, self._loop.time())
                if not self.reliability.unacknowledged:
                    self._drained.set()
            elif message.message_type == MessageType.INPUT:
                self.resume()
                await self._take_input(message)
        except RemoteProtocolError as error:
            self._log.info("emulator.message_refused", error=str(error))

    async def _take_input(self, message: Message) -> None:
        reliability = self.reliability
        if message.sequence < reliability.expected:
            reliability.statistics.repeated += 1
            self._acknowledge(message)
        elif message.sequence > reliability.expected:
            if reliability.hold(message):
                self._acknowledge(message)
        elif await self._process(message):
            if self._ends_session(message):
                self._acknowledge_last(message)
            else:
                self._acknowledge(message)
            reliability.advance()
            while (held := reliability.next_held()) is not None:
                if not await self._process(held):
                    break
                reliability.advance()

    def _acknowledge(self, message: Message) -> None:
        now = self._loop.time()
        self._replies.append(self.reliability.acknowledgement(message, now))

    def _ends_session(self, message: Message) -> bool:
        return (
            self._complete
            and message.payload_type == PayloadType.FLAG
            and ends_session(decode_flag(message.payload), self._traits)
        )

    def _acknowledge_last(self, message: Message) -> None:
        # The agent's end overtakes its acknowledgement in three of seven sessions, and
        # in one of these for good.
        order = self._plan.knobs.terminate_ack
        if order is None:
            order = self._random.choice(("never", *["after"] * 2, *["before"] * 4))
        if order == "before":
            self._acknowledge(message)
        elif order == "after":
            now = self._loop.time()
            self.late_replies.append(self.reliability.acknowledgement(message, now))

    async def _wait_for_room(self, plugin: Plugin) -> None:
        blocked_since = self._loop.time()
        await plugin.room()
        blocked_for = self._loop.time() - blocked_since
        if (
            self._traits.has_pong_deadline
            and blocked_for > self._settings.pong_deadline
        ):
            # No pong was processed meanwhile: what was not read is lost.
            self.lose_websocket()

    def _take_response(self, message: Message) -> None:
        # Whatever else comes before the handshake is complete is acknowledged and
        # thrown away (protocol 5.4).
        if message.payload_type == PayloadType.HANDSHAKE_RESPONSE:
            response = HandshakeResponse.parse(message.payload)
            if not self._response.done():
                self._response.set_result(response)

    async def _process(self, message: Message) -> bool:
        if not self._complete:
            self._take_response(message)
            return True
        if not self._traits.keeps_unready:
            # Such an agent loses what comes too early. No network is as fast as this
            # one, so it is given the time that it would have had.
            await self.ready.wait()
        plugin = self.plugin
        if plugin is None:
            return False
        if message.payload_type == PayloadType.FLAG:
            plugin.on_flag(decode_flag(message.payload))
            return True
        if message.payload_type != PayloadType.OUTPUT:
            return True
        if plugin.blocked:
            # The write into smux blocks the websocket loop: nothing more is read, not
            # even acknowledgements, until there is room (protocol 6.7).
            await self._flush()
            await self._wait_for_room(plugin)
        return plugin.write(message.payload)
