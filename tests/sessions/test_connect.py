import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from ssmtunneld.aws.api.port import Control, Grant
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import (
    CredentialsUnusable,
    LinkRefused,
    LinkUnreachable,
    RequestRejected,
)
from ssmtunneld.sessions.connect import Connector
from ssmtunneld.transport.websocket import Liveness
from tests.sessions.rig import Journal

LOGGED_OUT = CredentialsUnusable("OpenDataChannel", "ExpiredToken", "expired", "log in")


class Signer(Control):
    """The part of the control plane that a connector uses."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.error: CredentialsUnusable | None = None
        self.trusts = True

    async def sign_upgrade(self, url: str) -> Mapping[str, str]:
        if self.error is not None:
            raise self.error
        return self.headers

    def check_stream_url(self, url: str) -> None:
        if not self.trusts:
            raise RequestRejected("OpenDataChannel", "UntrustedStreamUrl", url)


class Door:
    """A websocket server that lets some requests in."""

    def __init__(self) -> None:
        self.refuses_signed = 0
        self.refuses_unsigned = 0
        self.seen: list[str | None] = []
        self.port = 0

    def judge(self, connection: ServerConnection, request: Request) -> Response | None:
        authorization = request.headers.get("Authorization")
        self.seen.append(authorization)
        status = self.refuses_signed if authorization else self.refuses_unsigned
        return connection.respond(status, "no\n") if status else None

    def grant(self, scheme: str = "ws") -> Grant:
        url = f"{scheme}://127.0.0.1:{self.port}/v1/data-channel/s-1"
        return Grant("s-1", Secret("token"), url)


async def hold(connection: ServerConnection) -> None:
    await connection.wait_closed()


@asynccontextmanager
async def open_door() -> AsyncIterator[Door]:
    door = Door()
    async with serve(hold, "127.0.0.1", 0, process_request=door.judge) as server:
        door.port = server.sockets[0].getsockname()[1]
        yield door


class Desk:
    """A connector and what it uses."""

    def __init__(
        self, headers: Mapping[str, str] | None = None, proxy: str | None = None
    ) -> None:
        self.signer = Signer(
            {"Authorization": "signed"} if headers is None else headers
        )
        self.journal = Journal()
        self.contexts = 0
        self.broken = False
        liveness = Liveness(open_timeout=5.0)
        self.connector = Connector(
            self.signer, liveness, self._context, self.journal.log, proxy
        )

    async def _context(self) -> ssl.SSLContext:
        self.contexts += 1
        if self.broken:
            raise ssl.SSLError("no certificate or crl found")
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def test_the_upgrade_is_signed():
    desk = Desk()
    async with open_door() as door:
        link = await desk.connector.connect(door.grant())
        link.abort()
        assert door.seen == ["signed"]
        assert desk.contexts == 0, "ws needs no TLS"


async def test_a_refused_signature_is_left_out_once_and_the_missing_action_is_named():
    desk = Desk()
    async with open_door() as door:
        door.refuses_signed = 403
        link = await desk.connector.connect(door.grant())
        link.abort()
        assert door.seen == ["signed", None]
        (line,) = desk.journal.lines("link.signature_refused")
        assert "ssmmessages:OpenDataChannel" in line["advice"]


async def test_a_refusal_with_and_without_signature_is_final():
    desk = Desk()
    async with open_door() as door:
        door.refuses_signed = door.refuses_unsigned = 403
        with pytest.raises(LinkRefused, match="HTTP 403"):
            await desk.connector.connect(door.grant())
        assert door.seen == ["signed", None]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param(None, 500, id="it is not about the signature"),
        pytest.param({}, 403, id="there was none"),
    ],
)
async def test_other_refusals_are_final_at_once(headers, status):
    desk = Desk(headers)
    async with open_door() as door:
        door.refuses_signed = door.refuses_unsigned = status
        with pytest.raises(LinkRefused, match=f"HTTP {status}"):
            await desk.connector.connect(door.grant())
        assert len(door.seen) == 1


async def test_without_usable_credentials_the_upgrade_is_tried_unsigned():
    desk = Desk()
    desk.signer.error = LOGGED_OUT
    async with open_door() as door:
        link = await desk.connector.connect(door.grant())
        link.abort()
        assert door.seen == [None]
        (line,) = desk.journal.lines("link.unsigned")
        assert line["advice"] == "log in"


async def test_the_token_goes_nowhere_else():
    desk = Desk()
    desk.signer.trusts = False
    async with open_door() as door:
        with pytest.raises(RequestRejected):
            await desk.connector.connect(door.grant())
        assert door.seen == []


async def test_wss_uses_the_context_that_was_given():
    desk = Desk()
    async with open_door() as door:
        with pytest.raises(LinkUnreachable):
            await desk.connector.connect(door.grant("wss"))
        assert desk.contexts == 1


async def test_a_file_of_certificates_that_broke_meanwhile_is_no_link():
    desk = Desk()
    desk.broken = True
    async with open_door() as door:
        with pytest.raises(LinkUnreachable, match="no certificate or crl found"):
            await desk.connector.connect(door.grant("wss"))


ELSEWHERE = Grant("s-1", Secret("token"), "ws://service.example/v1/data-channel/s-1")


async def test_a_proxy_that_does_not_lead_there_is_named():
    async with open_door() as door:  # it does not know CONNECT
        proxy = f"http://127.0.0.1:{door.port}"
        with pytest.raises(LinkUnreachable, match=f"through {proxy}: ") as caught:
            await Desk(proxy=proxy).connector.connect(ELSEWHERE)
    assert caught.value.host == "service.example"
    assert "HTTPS_PROXY" in caught.value.advice


async def test_a_proxy_that_makes_no_sense_is_said_without_its_password(monkeypatch):
    monkeypatch.setenv("http_proxy", "ftp://me:canary@proxy.example")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(LinkUnreachable, match="is not a proxy") as caught:
        await Desk().connector.connect(ELSEWHERE)
    assert "canary" not in str(caught.value)


async def test_this_machine_is_not_looked_for_behind_a_proxy():
    async with open_door() as door:
        link = await Desk(proxy="http://127.0.0.1:1").connector.connect(door.grant())
        link.abort()
