"""SOCKS 5 (RFC 1928): CONNECT without authentication. Bytes in, bytes out.

No authentication: the access rules decide before a byte is read.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NoReturn

from ssmtunneld.config.destinations import Destination
from ssmtunneld.listener.proxy.protocol import ProxyProtocolError, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION: Final = 5
_NO_AUTHENTICATION: Final = 0
_CONNECT: Final = 1

# Reply codes (RFC 1928 section 6).
_SUCCEEDED: Final = 0
_FAILURE: Final = 1
_NOT_ALLOWED: Final = 2
_HOST_UNREACHABLE: Final = 4
_REFUSED: Final = 5
_NO_SUCH_COMMAND: Final = 7
_NO_SUCH_ADDRESS: Final = 8

_CODES: Final[Mapping[Refusal, int]] = {
    Refusal.FORBIDDEN: _NOT_ALLOWED,
    Refusal.CROWDED: _FAILURE,
    Refusal.REFUSED: _REFUSED,
    Refusal.LATE: _HOST_UNREACHABLE,
    Refusal.FAILED: _FAILURE,
}
_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4
_SIZES: Final = {_IPV4: 4, _IPV6: 16}

_NO_METHOD: Final = bytes([_VERSION, 0xFF])
_SOCKS4_REFUSED: Final = bytes([0, 0x5B, 0, 0, 0, 0, 0, 0])


def _reply(code: int) -> bytes:
    # The address that the target connects from is not known here: all zeros.
    return bytes([_VERSION, code, 0, _IPV4, 0, 0, 0, 0, 0, 0])


class Socks5:
    """One client's side: a greeting, then a request; see :class:`ProxyProtocol`.

    Attributes:
        destination: The destination that the client asks for, once it is known.
        remainder: The data behind the handshake.
    """

    __slots__ = ("_greeted", "_heard", "destination", "remainder")

    def __init__(self) -> None:
        self.destination: Destination | None = None
        self.remainder = b""
        self._heard = b""
        self._greeted = False

    def hear(self, data: bytes) -> bytes:
        """Take what the client said; return what to answer at once.

        What is kept of it is bounded by the protocol: 262 bytes make a whole request.

        Raises:
            Misspoken: It is not SOCKS 5, or wants what is not offered.
        """
        self._heard += data
        answer = b""
        if not self._greeted:
            answer = self._take_greeting()
        if self._greeted:
            self._take_request(answer)
        return answer

    def late(self) -> bytes:
        """Return nothing: SOCKS has no message for it."""
        return b""

    def accept(self) -> bytes:
        """Return the reply of success."""
        return _reply(_SUCCEEDED)

    def refuse(self, refusal: Refusal) -> bytes:
        """Return the reply with the fitting code."""
        return _reply(_CODES[refusal])

    def _take_greeting(self) -> bytes:
        heard = self._heard
        if heard and heard[0] != _VERSION:
            _refuse_version(heard[0])
        if len(heard) < 2 or len(heard) < 2 + heard[1]:
            return b""
        size = 2 + heard[1]
        if _NO_AUTHENTICATION not in heard[2:size]:
            raise ProxyProtocolError("the client insists on authentication", _NO_METHOD)
        self._heard = heard[size:]
        self._greeted = True
        return bytes([_VERSION, _NO_AUTHENTICATION])

    def _take_request(self, unsent: bytes) -> None:
        """Read the request, if it is whole; ``unsent`` goes before any refusal."""
        heard = self._heard
        if len(heard) < 5:
            return
        version, command, _, kind, first = heard[:5]
        if version != _VERSION:
            raise ProxyProtocolError("the client's request is not SOCKS 5", unsent)
        if command != _CONNECT:
            reason = "the client asks for something other than CONNECT"
            raise ProxyProtocolError(reason, unsent + _reply(_NO_SUCH_COMMAND))
        if kind not in (_IPV4, _NAME, _IPV6):
            reason = "the client's request has an unknown type of address"
            raise ProxyProtocolError(reason, unsent + _reply(_NO_SUCH_ADDRESS))
        start = 5 if kind == _NAME else 4
        end = start + _SIZES.get(kind, first)
        if len(heard) < end + 2:
            return
        port = int.from_bytes(heard[end : end + 2])
        try:
            self.destination = Destination.of(_spell(kind, heard[start:end]), port)
        except ValueError as error:
            reason = f"the client's request {error}"
            raise ProxyProtocolError(reason, unsent + _reply(_FAILURE)) from None
        self.remainder = heard[end + 2 :]
        self._heard = b""


def _spell(kind: int, address: bytes) -> str:
    if kind == _IPV4:
        return str(IPv4Address(address))
    if kind == _IPV6:
        return str(IPv6Address(address))
    # Non-ASCII bytes become what no name may contain.
    return address.decode("ascii", "replace")


def _refuse_version(version: int) -> NoReturn:
    if version == 4:
        raise ProxyProtocolError(
            "the client speaks SOCKS 4: it needs SOCKS 5", _SOCKS4_REFUSED
        )
    if chr(version).isalpha():
        raise ProxyProtocolError(
            "the client does not speak SOCKS 5; is it an HTTP client?"
        )
    raise ProxyProtocolError("the client does not speak SOCKS 5")
