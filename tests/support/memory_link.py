"""A link in memory: the test is the service at its other end."""

from collections.abc import Sequence

from ssmtunneld.errors import LinkError
from ssmtunneld.protocol.events import Transmit
from ssmtunneld.transport.link import Receiver
from tests.support.bench import described


class MemoryLink:
    """Implements :class:`~ssmtunneld.transport.link.Link`.

    What was sent is in ``texts`` and, one list for each call, in ``writes``. The test
    lets messages ``arrive``, makes the link ``congested`` and ``lose``s it.
    """

    def __init__(self) -> None:
        self.congested = False
        self.reading = True
        self.aborted = False
        self.checks: list[float] = []
        self.delays: list[float] = []
        self.texts: list[str] = []
        self.writes: list[list[bytes]] = []
        self._receiver: Receiver | None = None
        self._waiting: list[bytes] = []
        self._lost: LinkError | None = None

    # What the driver does.

    def start(self, receiver: Receiver) -> None:
        """Begin to deliver."""
        assert self._receiver is None, "a link is used once"
        self._receiver = receiver
        self._deliver()
        if self._lost is not None:
            self.lose(self._lost)

    def send_text(self, text: str) -> None:
        """Note one textual message."""
        if not self.aborted:
            self.texts.append(text)

    def send(self, messages: Sequence[bytes]) -> None:
        """Note binary messages."""
        if not self.aborted:
            self.writes.append(list(messages))

    def delay_reading(self, seconds: float) -> None:
        """Note it and read on: nothing is saved by waiting."""
        self.delays.append(seconds)

    def pause(self) -> None:
        """Deliver nothing until ``resume``."""
        assert self.reading, "paused twice"
        self.reading = False

    def resume(self) -> None:
        """Deliver what has waited."""
        assert not self.reading, "resumed without a pause"
        self.reading = True
        self._deliver()

    def check(self, timeout: float) -> None:
        """Note that a sign of life is asked for."""
        self.checks.append(timeout)

    def abort(self) -> None:
        """Deliver nothing any more."""
        self.aborted = True
        self._receiver = None

    # What the service does.

    def arrive(self, *messages: bytes) -> None:
        """Let messages arrive together."""
        self._waiting += messages
        self._deliver()

    def _deliver(self) -> None:
        if self._receiver is not None and self.reading and self._waiting:
            messages, self._waiting = self._waiting, []
            self._receiver.on_messages(messages)

    def relieve(self) -> None:
        """Take what was sent, so that the link is no longer congested."""
        self.congested = False
        if self._receiver is not None:
            self._receiver.on_writable()

    def lose(self, error: LinkError) -> None:
        """End the link; before ``start`` it is noticed then."""
        self._lost = error
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.on_lost(error)

    # What the test looks at.

    def sent(self) -> list[object]:
        """Return, and forget, what was sent, decoded."""
        writes, self.writes = self.writes, []
        return [described(Transmit(data)) for write in writes for data in write]
