"""The websocket endpoint: what the client sees of the message gateway service."""

import asyncio
import struct
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

from aiohttp import WSMessage, WSMsgType, web

from ssmtunneld.base.bounded_reads import BoundedReads
from ssmtunneld.base.log import EventLog
from ssmtunneld.emulator.callers import caller_of
from ssmtunneld.emulator.faults import Direction, FaultPlan, MessageLimit
from ssmtunneld.emulator.lane import give_way
from ssmtunneld.emulator.permissions import Permissions
from ssmtunneld.emulator.registry import Registry
from ssmtunneld.emulator.session import Session, reset
from ssmtunneld.emulator.settings import EmulatorSettings
from ssmtunneld.emulator.signature import SignatureRefused, verify_signature
from ssmtunneld.emulator.versions import compare_versions
from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.protocol.payloads import OpenDataChannel

PATH_PREFIX: Final = "/v1/data-channel/"
_BATCH: Final = 8
"""Messages that are written to a client at once. With 64, other clients waited 2 ms;
the throughput is the same."""
_READ_SIZE: Final = 8192
"""Bytes of one read: about 25 acknowledgements, or 7 full messages."""
_POLICY: Final = 1008
_UNSUPPORTED: Final = 1003
_TOO_BIG: Final = 1009
HEADER_SIZE: Final = 120
"""Bytes of a client's message before its payload (protocol 3)."""
_NEW_URL_SINCE: Final = "1.2.835.0"
"""Official clients before this resume with their first URL for ever (protocol 1.6)."""
_CLOSE_TIMEOUT: Final = 2.0
"""Seconds that a client has to answer our close frame."""


class _Ended(Exception):
    """A client's websocket is to end in this way."""

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Gateway:
    """Serves ``GET /v1/data-channel/<session>``.

    Args:
        registry: Where sessions are found.
        settings: Whether to check signatures, and the timers.
        plan: The faults in force.
        log: Where refusals are noted.
        permissions: Who may open which channel.
    """

    def __init__(
        self,
        registry: Registry,
        settings: EmulatorSettings,
        plan: FaultPlan,
        log: EventLog,
        *,
        permissions: Permissions,
    ) -> None:
        self._permissions = permissions
        self._registry = registry
        self._settings = settings
        self._plan = plan
        self._log = log

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Upgrade and play one websocket; the aiohttp handler."""
        # In a black hole not even the upgrade is answered.
        await self._plan.until(lambda knobs: not knobs.blackhole)
        session, refusal = self._admit(request)
        if session is None:
            self._log.info("emulator.upgrade_refused", status=refusal)
            return web.json_response({"message": "refused"}, status=refusal)
        websocket = web.WebSocketResponse(
            timeout=_CLOSE_TIMEOUT,
            autoping=False,
            autoclose=False,
            compress=False,
            max_msg_size=0,
            writer_limit=0,
        )
        transport = request.transport
        if transport is None:
            return websocket  # gone already
        with session.greeting(transport):
            try:
                await websocket.prepare(request)
            except ConnectionError:
                return websocket  # gone just now, which is nobody's mistake
            opened = await self._opens(websocket, session, request)
        if opened:
            if session.recorder is not None:
                session.recorder.note("open")
            await ClientLink(websocket, transport, session, self._plan).run()
        return websocket

    def _admit(self, request: web.Request) -> tuple[Session | None, int]:
        fault = self._plan.api_error("upgrade")
        if fault is not None:
            return None, int(fault) if fault.isdecimal() else 403
        if self._settings.require_signature:
            try:
                verify_signature(request.raw_path, request.headers, self._settings)
            except SignatureRefused as refused:
                self._log.info("emulator.signature_refused", reason=str(refused))
                return None, 403
        path, _, query = request.raw_path.partition("?")
        session = self._registry.get(unquote(path.removeprefix(PATH_PREFIX)))
        if session is None or session.over:
            return None, 404
        # Byte for byte: a client that re-encodes its URL must be found out.
        if _cell_number(query) not in (session.cell_number, session.first_cell_number):
            return None, 400
        caller = caller_of(request.headers, self._settings)
        # Whoever does not sign is nobody, and the token must be enough.
        if caller.key and not self._permissions.may_open(caller, session):
            return None, 403
        return session, 0

    async def _opens(
        self, websocket: web.WebSocketResponse, session: Session, request: web.Request
    ) -> bool:
        try:
            message = await websocket.receive(self._settings.opener_timeout)
            while message.type is WSMsgType.PING:
                await websocket.pong(message.data)
                message = await websocket.receive(self._settings.opener_timeout)
            _check_opener(message, session, _cell_number(request.raw_path))
        except (RemoteProtocolError, TimeoutError) as error:
            # The codes of the real service are not known (protocol 2.2).
            self._log.info("emulator.opener_refused", reason=str(error))
            await websocket.close(code=_POLICY, message=str(error).encode())
            return False
        return True


def _cell_number(url: str) -> str:
    _, _, query = url.rpartition("?")
    role, _, cell = query.partition("&cell-number=")
    return cell if role == "role=publish_subscribe" else ""


def _check_opener(message: WSMessage, session: Session, cell_number: str) -> None:
    if message.type is not WSMsgType.TEXT:
        raise RemoteProtocolError("the first message is not text")
    opener = OpenDataChannel.parse(message.data)
    if opener.token != session.token or session.over:
        raise RemoteProtocolError("the token is stale or wrong")
    if (
        cell_number != session.cell_number
        and compare_versions(opener.client_version, _NEW_URL_SINCE) >= 0
    ):
        raise RemoteProtocolError("the cell number is stale")
    if len(opener.request_id) < 16:
        raise RemoteProtocolError("RequestId is too short")


class ClientLink:
    """One websocket of a client, after its first message.

    Args:
        websocket: Prepared, without automatic pongs and closes.
        transport: What it writes to.
        session: Whose client it is.
        plan: The faults in force.
    """

    def __init__(
        self,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
        session: Session,
        plan: FaultPlan,
    ) -> None:
        self._websocket = websocket
        self._transport = transport
        self._session = session
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        protocol = transport.get_protocol()
        assert isinstance(protocol, asyncio.Protocol)  # aiohttp's
        transport.set_protocol(BoundedReads(protocol, _READ_SIZE))
        self._opened = self._loop.time()
        self._workers: list[asyncio.Task[None]] = []
        self._ending: asyncio.Future[_Ended] = self._loop.create_future()

    async def run(self) -> None:
        """Carry messages both ways until the websocket ends."""
        self._session.attach(self)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._workers = [
                    tasks.create_task(self._read(), name="websocket reader"),
                    tasks.create_task(self._write(), name="websocket writer"),
                    tasks.create_task(self._age(), name="websocket age"),
                ]
                ended = await self._ending
        finally:
            self._session.detach(self)
        if self._session.recorder is not None:
            self._session.recorder.note("close", code=ended.code, reason=ended.reason)
        if ended.code is not None:
            await self._plan.until(lambda knobs: not knobs.blackhole)
            await self._websocket.close(code=ended.code, message=ended.reason.encode())

    def bye(self, reason: str) -> None:
        """Close with code 1000 and ``reason``."""
        self._end(_Ended(1000, reason))

    def cut(self) -> None:
        """Reset the TCP connection; what was not sent yet is lost."""
        reset(self._transport)
        self._end(_Ended())

    def _end(self, ended: _Ended) -> None:
        if not self._ending.done():
            self._ending.set_result(ended)
        # At once, lest a writer that is about to be replaced take another batch.
        for worker in self._workers:
            worker.cancel()

    async def _read(self) -> None:
        with suppress(ConnectionError):
            await self._take_messages()
        # Answers the client's close frame; without effect when the connection is gone.
        self._end(_Ended(1000))

    async def _take_messages(self) -> None:
        plan, receive = self._plan, self._websocket.receive
        while True:
            message = await receive()
            if message.type is WSMsgType.BINARY:
                await self._take_binary(message.data)
            elif message.type is WSMsgType.PING:
                if not plan.knobs.blackhole:
                    await self._websocket.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                self._end(_Ended(_UNSUPPORTED, "only one text message"))
                return
            elif message.type is not WSMsgType.PONG:
                return

    async def _take_binary(self, data: bytes) -> None:
        session, limit = self._session, self._plan.knobs.max_message
        if session.recorder is not None:
            session.recorder.message(Direction.UP, data)
        if limit is not None and len(data) - HEADER_SIZE > limit.size:
            self._refuse(limit)
            return
        session.note_input(data)
        session.up.offer(data)
        if session.up.full:
            await session.up.room()

    def _refuse(self, limit: MessageLimit) -> None:
        """Do what the service does with a message that is too large."""
        if limit.beyond == "closed":
            self._session.end()
        elif limit.beyond == "1009":
            self._end(_Ended(_TOO_BIG, "message too big"))

    async def _write(self) -> None:
        lane = self._session.down
        with suppress(ConnectionError):
            while True:
                batch = await lane.get(_BATCH)
                await self._plan.until(lambda knobs: not knobs.blackhole)
                # A batch is framed here and written at once: aiohttp would make a
                # system call of each message. The last goes through aiohttp, which
                # waits while the client is slow.
                if self._transport.is_closing():
                    return
                self._record(batch)
                if len(batch) > 1:
                    self._transport.write(b"".join(map(_frame, batch[:-1])))
                await self._websocket.send_bytes(batch[-1])
                if self._session.ended is not None and not len(lane):
                    self.bye("")
                await give_way()

    def _record(self, batch: list[bytes]) -> None:
        if self._session.recorder is not None:
            for data in batch:
                self._session.recorder.message(Direction.DOWN, data)

    async def _age(self) -> None:
        while True:
            knobs = self._plan.knobs
            cut, bye = knobs.cut_every, knobs.bye_every
            limits = [limit for limit in (cut, bye) if limit]
            deadline = self._opened + min(limits) if limits else None
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._plan.changed()
                    continue
            if cut and self._loop.time() >= self._opened + cut:
                self.cut()
            else:
                self.bye("Bye")
            return


def _frame(data: bytes) -> bytes:
    """Return an unmasked, unfragmented binary frame (RFC 6455 section 5.2)."""
    size = len(data)
    if size < 126:
        return struct.pack(">BB", 0x82, size) + data
    if size < 65536:
        return struct.pack(">BBH", 0x82, 126, size) + data
    return struct.pack(">BBQ", 0x82, 127, size) + data
