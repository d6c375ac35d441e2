"""From StartSession to the destination, with one session that is ended at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from ssmtunneld.base.random_bytes import RandomBytes
from ssmtunneld.config.probes import Probe
from ssmtunneld.doctor.report import Broken, Doubtful, Skipped
from ssmtunneld.doctor.throughput_data import FillingPort
from ssmtunneld.errors import (
    DestinationRefused,
    LinkError,
    SessionError,
    StreamError,
    TunnelError,
)
from ssmtunneld.observe.probe_protocols import Fault, converse
from ssmtunneld.protocol.channel import DataChannel
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.sessions.connect import Connector
from ssmtunneld.transport.basic_port import BasicPort
from ssmtunneld.transport.driver import Driver
from ssmtunneld.transport.mux_port import MuxPort
from ssmtunneld.transport.ports import Buffers
from ssmtunneld.transport.websocket import Liveness

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from ssmtunneld.aws.api.port import Control, Grant
    from ssmtunneld.base.log import EventLog
    from ssmtunneld.config import TunnelSettings
    from ssmtunneld.protocol.handshake import Terms
    from ssmtunneld.transport.link import Link

THROUGHPUT_MESSAGES: Final = 128
"""Of 1024 bytes: as much as takes an agent at its own pace 0.14 s, and a network that
is just good enough 1.3 s."""

_ROUND_TRIPS: Final = 3
_SILENT: Final = "the agent acknowledged nothing within {:g} s"
_RESTART_AGENT: Final = "restart or update the SSM agent of the target"
_COME_CLOSER: Final = (
    "use a target in a nearer region, or find what slows the network between this "
    "machine, the region and the target: VPN, proxy, Wi-Fi"
)
_CHECK_NETWORK: Final = (
    "find what loses or delays packets: VPN and its MTU, proxy, Wi-Fi, a target "
    "whose processor is busy"
)
_CHECK_DESTINATION: Final = (
    "check that the destination is up and reachable from the target: its security "
    "group, its port, its name there"
)


async def upgrade(
    control: Control,
    grant: Grant,
    tls: Callable[[], Awaitable[ssl.SSLContext]],
    log: EventLog,
    proxy: str | None = None,
) -> Link:
    """Return an open websocket for ``grant``.

    Cancelling is safe.

    Raises:
        Broken: There is none; says why.
    """
    try:
        connector = Connector(control, Liveness(), tls, log, proxy)
        return await connector.connect(grant)
    except TunnelError as error:
        advice = error.advice or (
            "check that websockets to this host get through, and any proxy between"
        )
        raise Broken(str(error), advice) from None


class DoctorChannel:
    """One session's data channel on one link.

    Args:
        wall_clock_ms: For what is sent.
    """

    def __init__(self, wall_clock_ms: Callable[[], int]) -> None:
        random_bytes = RandomBytes()
        self._channel = DataChannel(
            client_id=str(uuid4()),
            new_id=lambda: random_bytes.take(16),
            wall_clock_ms=wall_clock_ms,
        )
        self._driver = Driver(self._channel, self._opened)
        self._changed = asyncio.Event()
        self._terms: Terms | None = None
        self._port: FillingPort | BasicPort | None = None
        self._failure: TunnelError | None = None

    async def run(self, link: Link, grant: Grant) -> None:
        """Carry the session until it or its link ends. Cancelling drops the link."""
        try:
            await self._driver.run(link, grant.token)
        except (LinkError, SessionError) as error:
            self._failure = error
            if self._port is not None:
                self._port.fail(SessionError(str(error)))
            self._changed.set()

    async def shake_hands(self, patience: float) -> str:
        """Wait so many seconds for the agent; return what it is. Cancelling is safe.

        Raises:
            Broken: The agent is silent, or its handshake is unsupported.
        """
        try:
            async with asyncio.timeout(patience):
                await self._changed.wait()
        except TimeoutError:
            text = f"no message from the agent within {patience:g} s"
            raise Broken(text, _RESTART_AGENT) from None
        if self._terms is None:
            assert self._failure is not None, "neither terms nor a failure"
            advice = self._failure.advice or _RESTART_AGENT
            raise Broken(str(self._failure), advice)
        many = "many connections in a session" if self._terms.mux else "one connection"
        return f"agent {self._terms.agent_version}, {many}"

    async def reach(self, tunnel: TunnelSettings, patience: float) -> str:
        """Let the agent connect to the destination; return what that showed.

        Cancelling is safe. It can take ``patience`` seconds.

        Raises:
            Broken: It refuses, does not answer, or is something else.
            Skipped: An old agent does not say.
        """
        if not isinstance(self._port, MuxPort):
            raise Skipped("agents this old do not report whether they connected")
        probe = tunnel.probe or Probe("mysql" if tunnel.is_mysql else "tcp")
        stream = self._port.open_stream(counted=False)
        try:
            async with asyncio.timeout(patience):
                fault = await converse(probe, stream, tunnel.host or "localhost")
        except TimeoutError:
            fault = Fault(f"no answer within {patience:g} s")
        except DestinationRefused:
            # A document of one's own may be all that knows it.
            where = "it" if " " in tunnel.destination else tunnel.destination
            fault = Fault(f"the target could not connect to {where}")
        except StreamError as error:
            fault = Fault(str(error))
        finally:
            stream.abort()
        if fault is not None:
            raise Broken(fault.reason, fault.advice or _CHECK_DESTINATION)
        return f"it answers ({probe})"

    async def time_round_trip(self, patience: float, slow: float) -> str:
        """Return the time that a message takes to the agent and back, smoothed.

        Cancelling is safe.

        Args:
            patience: Seconds to wait for an answer.
            slow: Seconds from which on it is too long for comfort.

        Raises:
            Broken: The agent does not acknowledge what it is sent.
            Doubtful: It takes too long.
            Skipped: Nothing can be measured with an old agent.
        """
        if isinstance(self._port, FillingPort):
            try:
                async with asyncio.timeout(patience):
                    for _ in range(_ROUND_TRIPS):
                        await self._fill(self._port, 1)
            except TimeoutError:
                raise Broken(_SILENT.format(patience), _RESTART_AGENT) from None
        rtt = self._channel.statistics().rtt
        if rtt is None:
            raise Skipped(
                "not measured: agents this old answer nothing that was sent so far"
            )
        text = f"{rtt * 1000:.0f} ms to the agent and back"
        if rtt > slow:
            raise Doubtful(text, _COME_CLOSER)
        return text

    async def measure_throughput(self, patience: float, slow: float) -> str:
        """Return how fast the agent takes what has no destination.

        Cancelling is safe. The other way it cannot be measured: nobody sends.

        Args:
            patience: Seconds for all of it.
            slow: Bytes a second below which something is wrong.

        Raises:
            Broken: The session ended meanwhile, or the agent acknowledges nothing.
            Doubtful: It is slower than that.
            Skipped: Nothing can be measured with an old agent.
        """
        if not isinstance(self._port, FillingPort):
            raise Skipped(
                "not measured: agents this old accept only the connection's bytes"
            )
        loop = asyncio.get_running_loop()
        before, began = self._channel.statistics(), loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._fill(self._port, THROUGHPUT_MESSAGES)
        after, took = self._channel.statistics(), loop.time() - began
        if after.acknowledged == before.acknowledged:
            raise Broken(_SILENT.format(patience), _RESTART_AGENT)
        arrived = (after.acknowledged - before.acknowledged) * MAX_PAYLOAD
        rate = arrived / max(took, 1e-9)
        again = after.retransmitted - before.retransmitted
        text = f"{rate / 1000:.0f} kB/s to the agent"
        if again:
            text += f", {again} of {THROUGHPUT_MESSAGES} messages sent more than once"
        if rate < slow:
            raise Doubtful(text, _CHECK_NETWORK)
        return text

    async def _fill(self, port: FillingPort, messages: int) -> None:
        """Send so many messages that mean nothing, and wait for their acknowledgement.

        Raises:
            Broken: The session or its link has ended.
        """
        port.fill(messages)
        while port.left or self._channel.statistics().unacked:
            if self._failure is not None:
                raise Broken(str(self._failure), self._failure.advice or _CHECK_NETWORK)
            await port.turn()

    def _opened(self, terms: Terms) -> FillingPort | BasicPort:
        self._terms = terms
        self._port = (
            FillingPort(self._driver, Buffers())
            if terms.mux
            else BasicPort(self._driver, Buffers(), lambda: None, ends_with=False)
        )
        self._changed.set()
        return self._port
