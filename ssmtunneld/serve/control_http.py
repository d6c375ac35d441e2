"""As much of HTTP/1.1 as the control socket needs, and no more.

One request and one answer for each connection. A library's server would be a tenth of
an idle daemon's memory, and has no way to send a descriptor with an answer.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from ssmtunneld.base.on_error import on_error
from ssmtunneld.listener.owner import unix_peer_uid

LARGEST_HEAD: Final = 8192
"""Bytes of a request's first line and headers."""
LARGEST_BODY: Final = 4096
"""Bytes of a request's body."""
REQUEST_TIMEOUT: Final = 10.0
"""Seconds for a request to arrive, and as many for its answer to be read."""
PARTING: Final = 1.0
"""Seconds for what is left of a request that was refused before its end: a socket that
is closed with unread data takes the answer with it."""
LIMIT: Final = 64
"""Connections whose request is read, or which ask for something that is at hand;
further ones wait in the kernel's backlog."""
GRACE: Final = 1.0
"""Seconds that a client may keep others waiting, once there are so many: to say what it
wants, or to read the answer."""
LONG_LIMIT: Final = 256
"""Requests under way that change something: a drain, for example, takes as long as it
takes, also when its client has left, and must not keep anybody from a look."""
EXHAUSTED_PAUSE: Final = 1.0
"""Seconds that accepting rests when the process is out of something."""

_PIECE: Final = 16384
_END_OF_HEAD: Final = b"\r\n\r\n"
_LOOK: Final = "GET"
"""The method that changes nothing, and is answered soon."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: As it came; ``GET`` for example.
        path: As it came, without a query.
        query: What followed it, decoded; of equal names the last one counts.
        body: The body.
        uid: The user at the other end; None where the platform cannot tell.
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    uid: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        status: HTTP's.
        document: Sent as JSON; a text is JSON already.
        passed: A socket that goes to the client with the answer (SCM_RIGHTS); ours is
            closed then.
    """

    status: int
    document: Mapping[str, Any] | str
    passed: socket.socket | None = None


class BadRequest(Exception):
    """A request that cannot be read.

    Attributes:
        status: The answer's.
    """

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


Handler = Callable[[Request | BadRequest], Awaitable[Answer]]
"""Answers a request, or what cannot be read as one. Must not raise."""


class _Place:
    """One of the connections that are served at once."""

    def __init__(self, room: asyncio.Semaphore) -> None:
        self._room: asyncio.Semaphore | None = room

    def leave(self, *_: object) -> None:
        """Leave it to the next one; idempotent."""
        room, self._room = self._room, None
        if room is not None:
            room.release()


class ControlServer:
    """Answers requests at a listening Unix socket.

    Args:
        listening: The socket; not closed here.
        answer: Answers each request.
        headers: Of every answer.
    """

    def __init__(
        self, listening: socket.socket, answer: Handler, headers: Mapping[str, str]
    ) -> None:
        self._listening = listening
        self._answer = answer
        self._headers = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        self._loop = asyncio.get_running_loop()
        self._requests: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(LIMIT)
        self._long_room = asyncio.Semaphore(LONG_LIMIT)
        self._idle: dict[asyncio.Task[None], float] = {}
        """Connections in which it is the client's turn, the oldest first, and when they
        have kept others waiting for long enough."""

    async def run(self, patience: float, end: asyncio.Event) -> None:
        """Serve until ``end``; requests that run then get ``patience`` seconds.

        Cancelling ends all of them at once.
        """
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(self._accept(tasks), name="control accept")
            await end.wait()
            accepting.cancel()
            if self._requests:
                await asyncio.wait(self._requests, timeout=patience)
            for request in self._requests:
                request.cancel()

    async def _accept(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(self._listening)
            except ConnectionAbortedError:
                continue
            except OSError:
                await asyncio.sleep(EXHAUSTED_PAUSE)
                continue
            with on_error(sock.close):
                await self._make_room()
            place = _Place(self._room)
            task = tasks.create_task(self._serve(sock, place), name="control request")
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)
            task.add_done_callback(place.leave)

    async def _make_room(self) -> None:
        """Take a place; if all are taken, from the oldest client that does nothing."""
        while self._room.locked():
            oldest, until = next(iter(self._idle.items()), (None, None))
            now = self._loop.time()
            if oldest is not None and until is not None and until <= now:
                del self._idle[oldest]
                oldest.cancel()
                break
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until or now + GRACE):
                    await self._room.acquire()
                    return
        await self._room.acquire()

    async def _serve(self, sock: socket.socket, place: "_Place") -> None:
        with sock:
            sock.settimeout(0)
            # Whoever asks may leave at any moment, or say nothing.
            with suppress(OSError, TimeoutError):
                await self._converse(sock, place)

    async def _converse(self, sock: socket.socket, place: "_Place") -> None:
        request = await self._listen(sock)
        if request is None:
            return
        if isinstance(request, BadRequest) or request.method == _LOOK:
            await self._reply(sock, request)
            return
        async with self._long_room:
            place.leave()
            await self._reply(sock, request)

    async def _listen(self, sock: socket.socket) -> Request | BadRequest | None:
        uid = unix_peer_uid(sock)
        try:
            with self._clients_turn():
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    return await self._read(sock, uid)
        except BadRequest as refused:
            return refused

    async def _reply(self, sock: socket.socket, request: Request | BadRequest) -> None:
        answer = await self._answer(request)
        with self._clients_turn():
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._send(sock, answer)
            if isinstance(request, BadRequest):
                await self._part(sock)

    @contextmanager
    def _clients_turn(self) -> Iterator[None]:
        """Note that the client, and nobody else, keeps this task waiting."""
        task = asyncio.current_task()
        assert task is not None, "called in a task"
        self._idle[task] = self._loop.time() + GRACE
        try:
            yield
        finally:
            self._idle.pop(task, None)

    async def _read(self, sock: socket.socket, uid: int | None) -> Request | None:
        """Return the request; None if the client leaves before it is whole.

        Raises:
            BadRequest: It is none, or too large.
        """
        came = b""
        while _END_OF_HEAD not in came:
            if len(came) > LARGEST_HEAD:
                raise BadRequest(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large"
                )
            more = await self._loop.sock_recv(sock, _PIECE)
            if not more:
                return None
            came += more
        head, _, body = came.partition(_END_OF_HEAD)
        method, target, length = _read_head(head)
        while len(body) < length:
            more = await self._loop.sock_recv(sock, _PIECE)
            if not more:
                return None
            body += more
        path, _, query = target.partition("?")
        return Request(
            method,
            path,
            dict(parse_qsl(query, keep_blank_values=True)),
            body[:length],
            uid,
        )

    async def _send(self, sock: socket.socket, answer: Answer) -> None:
        document = answer.document
        text = document if isinstance(document, str) else json.dumps(document)
        body = text.encode()
        phrase = HTTPStatus(answer.status).phrase
        head = (
            f"HTTP/1.1 {answer.status} {phrase}\r\n"
            "Content-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"Connection: close\r\n{self._headers}\r\n"
        )
        data = head.encode() + body
        if answer.passed is None:
            await self._loop.sock_sendall(sock, data)
            return
        with answer.passed as passed:
            # Nothing was sent before it, so there is room for so little.
            socket.send_fds(sock, [data], [passed.fileno()])

    async def _part(self, sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(PARTING):
            while await self._loop.sock_recv(sock, _PIECE):
                pass


def _read_head(head: bytes) -> tuple[str, str, int]:
    """Return method, target and the body's length.

    Raises:
        BadRequest: It is not a request, or its body is too large or of unknown length.
    """
    try:
        first, *lines = head.decode("ascii").split("\r\n")
        method, target, version = first.split(" ")
    except ValueError:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "no HTTP request") from None
    if not version.startswith("HTTP/1."):
        raise BadRequest(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.1 is spoken here"
        )
    fields = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): text.strip() for name, _, text in fields}
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isdecimal():
        raise BadRequest(HTTPStatus.LENGTH_REQUIRED, "the body needs a Content-Length")
    # Longer numbers are not even worth reading.
    if len(length) > len(str(LARGEST_BODY)) or int(length) > LARGEST_BODY:
        raise BadRequest(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than {LARGEST_BODY} bytes",
        )
    return method, target, int(length)
