"""From StartSession to the destination, with one session that is ended at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from ssmtunneld.config.probes import Probe
from ssmtunneld.doctor.report import Broken, Skipped
from ssmtunneld.entropy import Entropy
from ssmtunneld.errors import LinkError, SessionError, StreamError, TunnelError
from ssmtunneld.ops.dialogue import converse
from ssmtunneld.protocol.channel import DataChannel
from ssmtunneld.transport.driver import Driver
from ssmtunneld.transport.ports import Buffers, MuxPort, SinglePort
from ssmtunneld.transport.websocket import Liveness
from ssmtunneld.tunnel.connect import Connector

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from ssmtunneld.aws.control import Control, Grant
    from ssmtunneld.config import Tunnel
    from ssmtunneld.log import EventLog
    from ssmtunneld.protocol.handshake import Terms
    from ssmtunneld.transport.link import Link

_RESTART_AGENT: Final = "restart or update the SSM agent of the target"
_CHECK_DESTINATION: Final = (
    "check that the destination is up and reachable from the target: its security "
    "group, its port, its name there"
)


async def upgrade(
    control: Control,
    grant: Grant,
    tls: Callable[[], ssl.SSLContext],
    log: EventLog,
) -> Link:
    """Return an open websocket for ``grant``.

    Cancelling is safe.

    Raises:
        Broken: There is none; says why.
    """
    try:
        return await Connector(control, Liveness(), tls, log).connect(grant)
    except TunnelError as error:
        advice = error.advice or (
            "check that websockets to this host get through, and any proxy between"
        )
        raise Broken(str(error), advice) from None


class Line:
    """One session's data channel on one link.

    Args:
        wall_clock_ms: For what is sent.
    """

    def __init__(self, wall_clock_ms: Callable[[], int]) -> None:
        entropy = Entropy()
        self._channel = DataChannel(
            client_id=str(uuid4()),
            new_id=lambda: entropy.take(16),
            wall_clock_ms=wall_clock_ms,
        )
        self._driver = Driver(self._channel, self._opened)
        self._changed = asyncio.Event()
        self._terms: Terms | None = None
        self._port: MuxPort | SinglePort | None = None
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
            Broken: It says nothing, or what does not suit.
        """
        try:
            async with asyncio.timeout(patience):
                await self._changed.wait()
        except TimeoutError:
            text = f"the agent said nothing within {patience:g} s"
            raise Broken(text, _RESTART_AGENT) from None
        if self._terms is None:
            assert self._failure is not None, "something has changed"
            advice = self._failure.advice or _RESTART_AGENT
            raise Broken(str(self._failure), advice)
        many = "many connections in a session" if self._terms.mux else "one connection"
        return f"agent {self._terms.agent_version}, {many}"

    async def reach(self, tunnel: Tunnel, patience: float) -> str:
        """Let the agent connect to the destination; return what that showed.

        Cancelling is safe. It may take ``patience`` seconds.

        Raises:
            Broken: It refuses, does not answer, or is something else.
            Skipped: An old agent does not say.
        """
        if not isinstance(self._port, MuxPort):
            raise Skipped("agents as old as this do not say whether they connected")
        probe = tunnel.probe or Probe("tcp")
        stream = self._port.open_stream(counted=False)
        try:
            async with asyncio.timeout(patience):
                reason = await converse(probe, stream, tunnel.host or "localhost")
        except TimeoutError:
            reason = f"no answer within {patience:g} s"
        except StreamError as error:
            reason = str(error)
        finally:
            stream.abort()
        if reason:
            raise Broken(reason, _CHECK_DESTINATION)
        return f"it answers ({probe})"

    def measure(self) -> str:
        """Return the time to the agent and back.

        Raises:
            Skipped: Nothing was acknowledged yet.
        """
        rtt = self._channel.statistics().rtt
        if rtt is None:
            raise Skipped("nothing was measured")
        return f"{rtt * 1000:.0f} ms to the agent and back"

    def _opened(self, terms: Terms) -> MuxPort | SinglePort:
        self._terms = terms
        self._port = (
            MuxPort(self._driver, Buffers())
            if terms.mux
            else SinglePort(self._driver, Buffers(), lambda: None, ends_with=False)
        )
        self._changed.set()
        return self._port
