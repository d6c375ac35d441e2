"""Connections that end in time, and answers that end in size.

A timeout of a socket bounds each step of a conversation, not the whole: a far side that
sends a byte now and then, or ``100 Continue`` without end, holds a thread for ever.
Here one deadline bounds a call from the look-up of its name to the last byte of its
answer, and a limit what is read of it. Everything blocks, and is called in threads.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import io
import socket
import threading
import time
from collections import defaultdict
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Final, TypeVar

from typing_extensions import override

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.lookups import Address, begin_lookup
from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.threads import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

HEAD_LIMIT: Final = 64 * 1024
"""Bytes of an answer before its body, those of ``100 Continue`` included."""
BODY_LIMIT: Final = 1024 * 1024
"""Bytes of an answer's body: AWS's longest ones, pages of a list, have half of that."""
READ_SIZE: Final = 8 * 1024
"""Bytes that are read at a time. What of a body comes with its head is counted to the
head, so this must be well below its limit: Python 3.14 itself would read 128 KiB."""
CONNECT_TIMEOUT: Final = 5.0
"""Seconds for one address: a link that needs longer for a handshake is down."""
ERRAND_LIMIT: Final = 16
"""Greetings of one SOCKS proxy at a time. They cannot be broken off: what takes longer
than its caller waits goes on in a thread of its own."""

T = TypeVar("T")

_errands: Final[defaultdict[str, threading.BoundedSemaphore]] = defaultdict(
    lambda: threading.BoundedSemaphore(ERRAND_LIMIT)
)
"""The room for errands, by whom they ask: as many as the configuration names."""


def _ignore(_: object) -> None:
    """Do nothing."""


class TooLate(OSError):
    """A deadline has passed."""


class AnswerTooLong(http.client.HTTPException):
    """An answer is longer than its limit."""


class Deadline:
    """The end of a call's time: what it has connected is then cut from outside.

    Used as a context manager around the call. Whatever blocks on one of its sockets at
    the end, in whatever library, sees them closed by the peer.

    Args:
        seconds: How long the call may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # A thread has no event loop whose clock it could read.
        self._at = time.monotonic() + seconds  # noqa: TID251 - see above
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        """Begin.

        Raises:
            NoThread: The system allows none that would keep the time.
        """
        start(self._timer)
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the sockets, as they are."""
        self._timer.cancel()
        with self._lock:
            for opened in self._sockets:
                opened.close()
            self._sockets.clear()

    @property
    def left(self) -> float:
        """Seconds that are left; 0 once it has passed."""
        return max(0.0, self._at - time.monotonic())  # noqa: TID251 - see above

    @property
    def has_passed(self) -> bool:
        """True once it has passed."""
        return self.left == 0

    def watch(self, opened: socket.socket) -> socket.socket:
        """Return ``opened``, which is cut when the deadline passes.

        Raises:
            TooLate: It has passed; ``opened`` is closed.
        """
        # A second handle on the connection: wrapping the first one in TLS takes its
        # file descriptor away.
        with self._lock:
            if not self.has_passed:
                self._sockets.append(opened.dup())
                return opened
        opened.close()
        raise TooLate(f"no connection within {self.seconds:g} s")

    def _cut(self) -> None:
        with self._lock:
            for opened in self._sockets:
                with contextlib.suppress(OSError):  # it was closed meanwhile
                    opened.shutdown(socket.SHUT_RDWR)


def dial(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Return a connection to ``host``, which ends with the deadline.

    Raises:
        socket.gaierror: The name has no address.
        TooLate: There was no time for it.
        OSError: None of its addresses can be reached.
    """
    failure: OSError = socket.gaierror(socket.EAI_NONAME, "no address found")
    for family, kind, protocol, _, address in look_up(host, port, deadline):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(min(CONNECT_TIMEOUT, deadline.left) or CONNECT_TIMEOUT)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            deadline.watch(opened)
            opened.connect(address)
        except OSError as error:
            opened.close()
            failure = error
        else:
            opened.settimeout(deadline.seconds)
            return opened
    raise failure


def look_up(host: str, port: int, deadline: Deadline) -> list[Address]:
    """Return the addresses of ``host`` as ``socket.getaddrinfo`` does, at most eight.

    Raises:
        socket.gaierror: The name has none.
        OSError: There was no answer in time, or there is no thread to wait for it.
    """
    pending = begin_lookup(host, port)
    wait([pending], deadline.left)
    if not pending.done():
        raise TooLate(f"no answer within {deadline.seconds:g} s")
    return pending.result()


def in_time(
    work: Callable[[], T],
    deadline: Deadline,
    discard: Callable[[T], None] = _ignore,
    *,
    asked: str = "",
) -> T:
    """Return what ``work`` returns, or raise what it raises, unless it takes too long.

    For what cannot be broken off: it then goes on in a thread of its own.

    Args:
        work: What is done in the thread.
        deadline: How long it is waited for.
        discard: Called with what comes too late, in the thread.
        asked: Who answers: one that does not must not keep us from asking others.

    Raises:
        TooLate: It takes too long, or too much of that kind is under way.
        NoThread: The system allows no thread for it.
    """
    room = _errands[asked]
    if not room.acquire(timeout=deadline.left):
        raise TooLate(f"{ERRAND_LIMIT} other attempts are still pending")
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - raised again, where it is waited for
            outcome.set_exception(error)
        else:
            outcome.set_result(found)
        finally:
            room.release()

    with on_error(room.release):
        start(threading.Thread(target=run, name="errand", daemon=True))
    wait([outcome], deadline.left)
    if outcome.done():
        return outcome.result()

    def undo(late: Future[T]) -> None:
        if late.exception() is None:
            discard(late.result())

    outcome.add_done_callback(undo)
    raise TooLate(f"no answer within {deadline.seconds:g} s")


class _Meter(io.RawIOBase):
    """Reads a connection, so many bytes of it and no more."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.left = HEAD_LIMIT

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        self.left -= count or 0
        if self.left < 0:
            raise AnswerTooLong
        return count

    @override
    def close(self) -> None:
        self._raw.close()
        super().close()


@contextlib.contextmanager
def _too_long() -> Iterator[None]:
    """Raise ``AnswerTooLong`` where ``http.client`` has met a limit of its own.

    It raises the base of its exceptions then, and for nothing else.
    """
    try:
        yield
    except http.client.HTTPException as error:
        if type(error) is http.client.HTTPException:
            raise AnswerTooLong from None
        raise


class BoundedResponse(http.client.HTTPResponse):
    """An HTTP answer of bounded size; reading more of it raises ``AnswerTooLong``.

    ``http.client`` bounds the length of a line and the number of headers; only late
    versions of Python bound that of interim answers and, with chunks, of trailers.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        buffered: Any = self.fp  # nothing has been read of it yet
        self._meter = _Meter(buffered.detach())
        self.fp = io.BufferedReader(self._meter, READ_SIZE)

    @override
    def begin(self) -> None:
        with _too_long():
            super().begin()
        # As much again for what stands between chunks.
        self._meter.left = HEAD_LIMIT + BODY_LIMIT

    @override
    def read(self, amt: int | None = None) -> bytes:
        with _too_long():
            return super().read(amt)


class BoundedConnection(http.client.HTTPConnection):
    """An HTTP connection whose answers are bounded."""

    response_class = BoundedResponse


def tunnel(opened: socket.socket, authority: str, headers: Mapping[str, str]) -> None:
    """Let the HTTP proxy at the other end of ``opened`` connect to ``authority``.

    Args:
        opened: A connection to the proxy.
        authority: ``host:port``.
        headers: Headers for the proxy; can be secret.

    Raises:
        OSError: It refuses, or is none; in words.
    """
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    answer = BoundedResponse(opened, method="CONNECT")
    try:
        opened.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer.begin()
        status, reason = answer.status, clean(answer.reason)
    except http.client.HTTPException as error:
        raise OSError(words_of_http(error)) from None
    finally:
        answer.close()
    if status != http.HTTPStatus.OK:
        raise OSError(f"the proxy answered {status} {reason}".rstrip())


def words_of_http(error: http.client.HTTPException) -> str:
    """Return what is wrong with an answer; nothing of the answer is quoted."""
    if isinstance(error, AnswerTooLong):
        return "the answer is too long"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    return f"the answer is not HTTP ({type(error).__name__})"
