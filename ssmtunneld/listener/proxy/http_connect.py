"""HTTP CONNECT (RFC 9110 section 9.3.6). Bytes in, bytes out.

Nothing but CONNECT is served. A page in a browser can make it send any other
request to a local port, under any name (DNS rebinding); this one it cannot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ssmtunneld.config.destinations import Destination
from ssmtunneld.listener.proxy.protocol import SPEECH_LIMIT, ProxyProtocolError, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUEST: Final = re.compile(
    rb"(?P<method>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (?P<target>[!-~]+) HTTP/[0-9.]{1,4}"
)
_AUTHORITY: Final = re.compile(
    r"(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|([^\[\]:]+)):([0-9]{1,5})"
)
# A line, and the empty one that ends the header; CR can be missing (RFC 9112 2.2).
_LINE_END: Final = re.compile(rb"\r?\n")
_HEADER_END: Final = re.compile(rb"\n\r?\n")

_ANSWERS: Final[Mapping[Refusal, tuple[str, str]]] = {
    Refusal.FORBIDDEN: ("403 Forbidden", "this destination is not allowed"),
    Refusal.CROWDED: ("503 Service Unavailable", "too many destinations are in use"),
    Refusal.REFUSED: ("502 Bad Gateway", "the destination refused"),
    Refusal.LATE: ("504 Gateway Timeout", "no session was ready in time"),
    Refusal.FAILED: ("502 Bad Gateway", "the destination could not be reached"),
}


def _answer(status: str, text: str, *fields: str) -> bytes:
    body = f"{text}\n"
    head = [
        f"HTTP/1.1 {status}",
        *fields,
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        body,
    ]
    return "\r\n".join(head).encode()


class HttpConnect:
    """One client's side: a request and its header; see :class:`ProxyProtocol`.

    Attributes:
        destination: The destination that the client asks for, once it is known.
        remainder: The data behind the handshake.
    """

    __slots__ = ("_asked", "_heard", "destination", "remainder")

    def __init__(self) -> None:
        self.destination: Destination | None = None
        self.remainder = b""
        self._heard = b""
        self._asked: Destination | None = None

    def hear(self, data: bytes) -> bytes:
        """Take what the client said; there is nothing to answer before it is whole.

        Raises:
            Misspoken: It is not a CONNECT request, or its header is too long.
        """
        searched = max(0, len(self._heard) - 2)
        self._heard += data
        if self._asked is None:
            self._asked = self._read_request()
        end = _HEADER_END.search(self._heard, searched)
        size = len(self._heard) if end is None else end.end()
        if size > SPEECH_LIMIT:
            answer = _answer("431 Request Header Fields Too Large", "header too long")
            raise ProxyProtocolError("the client's header is too long", answer)
        if end is not None:
            self.remainder = self._heard[size:]
            self._heard = b""
            self.destination = self._asked
        return b""

    def late(self) -> bytes:
        """Return 408."""
        return _answer("408 Request Timeout", "the request took too long")

    def accept(self) -> bytes:
        """Return 200, without any field that would announce a body."""
        return b"HTTP/1.1 200 Connection established\r\n\r\n"

    def refuse(self, refusal: Refusal) -> bytes:
        """Return the fitting status and a sentence."""
        return _answer(*_ANSWERS[refusal])

    def _read_request(self) -> Destination | None:
        """Return what the first line asks for; None while it is not whole.

        The header is not waited for: a client without CONNECT sends nothing that
        matters.
        """
        end = _LINE_END.search(self._heard)
        if end is None:
            return None
        match = _REQUEST.fullmatch(self._heard, 0, end.start())
        if match is None:
            answer = _answer("400 Bad Request", "not an HTTP request")
            raise ProxyProtocolError("the client does not speak HTTP", answer)
        if match["method"] != b"CONNECT":
            answer = _answer(
                "405 Method Not Allowed", "only CONNECT is served", "Allow: CONNECT"
            )
            raise ProxyProtocolError(
                "the client asks for something other than CONNECT", answer
            )
        try:
            return _read_authority(match["target"].decode("ascii"))
        except ValueError as error:
            answer = _answer("400 Bad Request", "CONNECT needs host:port")
            raise ProxyProtocolError(f"the client's request {error}", answer) from None


def _read_authority(text: str) -> Destination:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise ValueError("names no host and port")
    return Destination.of(match[1] or match[2], int(match[3]))
