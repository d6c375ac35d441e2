"""One channel on successive links; the only place where effects meet the loop.

Nothing here awaits between feeding the channel and carrying out what it asks for, so
no lock is needed: state changes only between turns of the loop.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, Final, ParamSpec, assert_never
from uuid import uuid4

from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import (
    LinkError,
    LinkLost,
    RemoteProtocolError,
    SessionError,
)
from ssmtunneld.protocol.channel import ChannelStatistics, DataChannel
from ssmtunneld.protocol.events import (
    Closed,
    Deliver,
    DialFailed,
    Effect,
    Opened,
    SendOpener,
    Transmit,
)
from ssmtunneld.protocol.handshake import Terms
from ssmtunneld.protocol.message import Flag
from ssmtunneld.transport.channel_timing import ChannelTiming, Pauses
from ssmtunneld.transport.link import Link
from ssmtunneld.transport.outbox import Outbox
from ssmtunneld.transport.ports import Port

BURST: Final = 16
"""Messages sent in one turn of the loop: a third of a millisecond, in which no other
session can send."""
BURST_SIZE: Final = 64 << 10
"""Bytes of them, where messages are large: as many as the link takes at once."""
OPENING_TURNS: Final = 4
"""Turns of the loop for which a stream's beginning waits for its first data, some 20 us
altogether: the relay needs two to read what a client has sent with its connect."""


_P = ParamSpec("_P")


def _contained(
    callback: Callable[Concatenate["Driver", _P], None],
) -> Callable[Concatenate["Driver", _P], None]:
    """Make ``run`` raise what ``callback`` raises: a defect of this session only."""

    @wraps(callback)
    def call(self: "Driver", /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            callback(self, *args, **kwargs)
        except Exception as error:
            if self._ended is None or self._ended.done():
                raise  # run() has ended
            self._end(error)

    return call


class Driver:
    """One data channel on the loop.

    Args:
        channel: The channel, used by this driver only.
        open_port: Called once with the terms, when data may flow.
    """

    def __init__(
        self, channel: DataChannel, open_port: Callable[[Terms], Port]
    ) -> None:
        self._channel = channel
        self._open_port = open_port
        self._loop = asyncio.get_running_loop()
        self._port: Port | None = None
        self._link: Link | None = None
        self._ended: asyncio.Future[None] | None = None
        self._over: SessionError | None = None
        """The error that closed the channel, with a link or between two of them."""
        self._woken = self._late = False
        self._timer: asyncio.Handle | None = None
        # uvloop's handles do not all know their time: a deadline that is due is queued
        # like any callback.
        self._timer_at = 0.0
        self._awaited: tuple[int, Callable[[], None]] | None = None
        self._outbox = Outbox(self._send, self._end)
        self._reading = True
        self.delivered = 0
        """Messages that were delivered in order."""
        self.heard_at = self._loop.time()
        """Last time that anything came from the agent, acknowledgements included, or
        the link was a new one."""
        self._timing = ChannelTiming(self._loop.time())

    async def run(self, link: Link, token: Secret) -> None:
        """Use ``link`` until it is lost or the session is over. Never returns.

        Cancelling is safe: the link is dropped, the channel can be run on another.

        Raises:
            LinkError: The link was lost; the session can be resumed.
            SessionError: The session is over.
            Exception: A callback broke: a defect, which costs the session.
        """
        assert self._link is None, "one link at a time"
        self._link = link
        self._reading = True
        self.heard_at = self._loop.time()
        self._timing.on_link(self._loop.time(), resumed=self._port is not None)
        self._ended = self._loop.create_future()
        try:
            if self._over is not None:
                raise self._over
            self._channel.attach(str(uuid4()), token, self._loop.time())
            self._carry_out()
            link.start(self)
            await self._ended
        except LinkError:
            if self._over is None:
                raise
            # Closed in the turn in which the link was lost: nothing is to be resumed.
            raise self._over from None
        finally:
            self._ended = None
            self._link = None
            self._awaited = None
            self._channel.detach()
            link.abort()
            self._outbox.reset()
            self._cancel_timer()

    # Called by the session and the port.

    def wake(self) -> None:
        """Send what the port has, at the end of this turn of the loop.

        Frames that become ready in the same turn share a message (design D3).
        """
        if not self._woken and self._link is not None:
            self._woken = True
            self._loop.call_soon(self._on_wake)

    def wake_late(self) -> None:
        """Send what the port has a few turns later, or with the next wake before that.

        A stream's beginning and its first data, which is usually on its way from the
        client, then share a message (design D3): that is one less to send, and one
        acknowledgement less to wait for.
        """
        self._late = True
        self._loop.call_soon(self._on_late, OPENING_TURNS - 1)

    def _on_late(self, turns: int) -> None:
        if not self._late:
            return  # sent meanwhile
        if turns:
            self._loop.call_soon(self._on_late, turns - 1)
        else:
            self.wake()

    @_contained
    def _on_wake(self) -> None:
        self._woken = self._late = False
        self._carry_out()

    @_contained
    def send_flag(self, flag: Flag) -> None:
        """Send a flag, if the channel is open, behind all that was sent."""
        self._channel.send_flag(flag, self._loop.time())
        self._carry_out()

    def send_awaited(self, payload: bytes, arrived: Callable[[], None]) -> bool:
        """Send one message; call ``arrived`` once the agent has acknowledged it.

        One such message is awaited at a time. If the link is lost before, nothing is
        called.

        Returns:
            Whether it can be sent; if not, nothing is done.
        """
        if self._link is None or not self._channel.room:
            return False
        sequence = self._channel.send(payload, self._loop.time())
        self._awaited = sequence, arrived
        self.wake()
        return True

    @property
    def message_limit(self) -> int:
        """Bytes of payload that the service and the agent are known to take."""
        return self._channel.message_limit

    @message_limit.setter
    def message_limit(self, limit: int) -> None:
        self._channel.message_limit = limit

    def check(self, timeout: float) -> None:
        """Check within ``timeout`` seconds that the link is alive, or lose it."""
        if self._link is not None:
            self._link.check(timeout)

    def close(self, error: SessionError) -> None:
        """End the channel because of ``error``; ``run`` raises it."""
        self._channel.close(error)
        self._carry_out()

    def reading_changed(self) -> None:
        """Stop or start reading the link, as the port's congestion demands."""
        if self._link is None or self._port is None:
            return
        if self._port.congested or self._outbox.choked:
            if self._reading:
                self._reading = False
                self._link.pause()
        elif not self._reading:
            self._reading = True
            self._link.resume()

    @property
    def reading_stopped(self) -> bool:
        """True while the link is not read because local readers are slow."""
        return not self._reading

    @property
    def settled(self) -> bool:
        """True if all that was sent has arrived at the agent, and nothing is missing.

        If not, silence does not mean that the destination has nothing to send.
        """
        return self._link is not None and self._channel.settled

    @property
    def pauses(self) -> Pauses:
        """The pauses without anything that the service counts as input."""
        return self._timing.pauses(self._loop.time())

    @property
    def behind(self) -> float:
        """Seconds the agent has spent on repeating, or still needs: the greater."""
        return self._timing.behind(self._loop.time(), self.missing)

    @property
    def missing(self) -> int:
        """Missing messages: a later one has arrived."""
        return self._channel.missing

    @property
    def silent_for(self) -> float:
        """Seconds beyond a round trip for which nothing new was acknowledged.

        0.0 if nothing waits for an acknowledgement.
        """
        return self._channel.silent_for(self._loop.time())

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot of the channel."""
        return self._channel.statistics()

    # Called by the link.

    @_contained
    def on_messages(self, messages: Sequence[bytes]) -> None:
        """Feed what arrived to the channel and carry out what follows."""
        now = self.heard_at = self._loop.time()
        before = self.delivered
        try:
            for message in messages:
                self._channel.receive(message, now)
        except RemoteProtocolError as error:
            self._channel.close(error)
        delay = self._timing.read_delay(now)
        self._carry_out(patient=self._port is not None and not delay)
        if delay and self._link is not None:
            self._link.delay_reading(delay)
        delivered = self.delivered - before
        self._timing.on_arrival(now, delivered, early=self.missing > 0)
        if self._awaited is not None and self._over is None:
            self._look_for_awaited(*self._awaited)

    def _look_for_awaited(self, sequence: int, arrived: Callable[[], None]) -> None:
        if self._channel.is_acknowledged(sequence):
            self._awaited = None
            arrived()

    @_contained
    def on_writable(self) -> None:
        """Continue sending."""
        self._outbox.unchoke()
        self._carry_out()

    def on_lost(self, error: LinkError) -> None:
        """End :meth:`run`."""
        if isinstance(error, LinkLost):
            words = self._channel.words(error.reason)
            if words != error.reason:
                error = LinkLost(words, error.code)
        self._end(error)

    # Called by the timer.

    @_contained
    def _on_timer(self) -> None:
        self._timer = None
        if self._link is None or self._link.congested:
            # What is late is still queued in here: a repetition would only add to it.
            # on_writable() sets the timer again.
            return
        self._channel.on_deadline(self._loop.time())
        self._carry_out()

    def _arm_timer(self) -> None:
        deadline = self._channel.next_deadline()
        if self._timer is not None:
            # A timer that is early only looks again: cheaper than moving it each time.
            if deadline is None or deadline >= self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Carry out.

    def _carry_out(self, *, patient: bool = False) -> None:
        """Carry out what the channel asks for, then send what there is room for.

        Args:
            patient: Acknowledgements wait for other messages to go with.
        """
        self._apply_effects()
        link = self._link
        if link is None:
            return
        answers = len(self._outbox)
        if self._port is not None and not link.congested:
            self._pull(self._port)
            self._apply_effects()
        if patient and answers == len(self._outbox):
            self._outbox.hold()
        else:
            self._outbox.send(link)
        self._arm_timer()
        self.reading_changed()

    @_contained
    def _send(self) -> None:
        if self._link is not None:
            self._outbox.send(self._link)
            self.reading_changed()

    def _pull(self, port: Port) -> None:
        channel = self._channel
        now = self._loop.time()
        size = channel.choose_size()
        most = min(channel.room, BURST, BURST_SIZE // size)
        sent = 0
        while sent < most:
            payload = port.next_payload(size)
            if not payload:
                channel.note_dry()
                break
            channel.send(payload, now)
            sent += 1
        else:
            if channel.room:
                self.wake()  # the rest, after others have had their turn
        if sent:
            self._timing.on_sent(now)
        port.after_sending()

    def _apply_effects(self) -> None:
        while effects := self._channel.drain():
            try:
                self._apply_each(effects)
            except RemoteProtocolError as error:
                # The rest of these effects is dropped with the session, and with them
                # a Closed that may be among them: so what it asks for is done here.
                self._channel.close(error)
                self._channel.drain()
                self._close(error)

    def _apply_each(self, effects: list[Effect]) -> None:
        for effect in effects:
            # Nearly all are these two, and a match statement takes longer.
            if isinstance(effect, Transmit):
                self._outbox.add(effect.data)
            elif isinstance(effect, Deliver):
                self.delivered += 1
                self._opened_port.receive(effect.payload)
            else:
                self._apply_rare(effect)

    def _apply_rare(self, effect: SendOpener | Opened | DialFailed | Closed) -> None:
        match effect:
            case SendOpener(text):
                assert self._link is not None, "attached without a link"
                self._link.send_text(text)
            case Opened(terms):
                self._port = self._open_port(terms)
            case DialFailed():
                self._opened_port.dial_failed()
            case Closed(error):
                self._close(error)
            case _:
                assert_never(effect)

    @property
    def _opened_port(self) -> Port:
        assert self._port is not None, "data before the channel was open"
        return self._port

    def _close(self, error: SessionError) -> None:
        self._over = error
        # A refusal's answer, or the last acknowledgements, are worth sending.
        self._send()
        if self._port is not None:
            self._port.fail(error)
        self._end(error)

    def _end(self, error: Exception) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
