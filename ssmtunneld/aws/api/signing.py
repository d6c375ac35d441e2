"""Signature version 4 of the websocket's upgrade request, as the Go SDK computes it.

AWS's own client is written in Go, so Go's canonical query is the one known to be
accepted (protocol 2.1). It decodes the query and encodes it again, which turns a raw
``+`` into ``%20``; botocore signs the text as it stands, so it cannot be used here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from ssmtunneld.base.ports import SCHEME_PORTS

if TYPE_CHECKING:
    from ssmtunneld.base.secret import Secret

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SERVICE: Final = "ssmmessages"
_EMPTY_BODY: Final = hashlib.sha256(b"").hexdigest()
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def is_presigned(url: str) -> bool:
    """Tell whether ``url`` carries its signature itself (protocol 1.6)."""
    keys = (pair.partition("=")[0] for pair in urlsplit(url).query.split("&"))
    return any(key.lower().startswith("x-amz-") for key in keys)


def upgrade_headers(
    url: str,
    *,
    access_key: str,
    secret_key: Secret,
    session_token: Secret | None,
    region: str,
    now: datetime,
) -> dict[str, str]:
    """Return the headers that sign ``GET url``; the values are secrets in part.

    Args:
        url: The URL that will be dialled, unchanged.
        access_key: The id of the key, which is not a secret.
        secret_key: The key.
        session_token: Goes with temporary keys.
        region: The region whose service will check the signature.
        now: With a time zone; the service tolerates a few minutes of error.
    """
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {"host": host_header(url), "x-amz-date": stamp}
    if session_token is not None:
        signed["x-amz-security-token"] = session_token.reveal()
    scope = f"{stamp[:8]}/{region}/{_SERVICE}/aws4_request"
    request = _digest(canonical_request(url, signed))
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{request}"
    key = f"AWS4{secret_key.reveal()}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    headers = {
        "Authorization": f"{_ALGORITHM} Credential={access_key}/{scope}, "
        f"SignedHeaders={';'.join(signed)}, Signature={_hmac(key, text).hex()}",
        "X-Amz-Date": stamp,
    }
    if session_token is not None:
        headers["X-Amz-Security-Token"] = session_token.reveal()
    return headers


def host_header(url: str) -> str:
    """Return the ``Host`` header of a request to ``url``, without a default port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = SCHEME_PORTS.get(parts.scheme)
    return host if parts.port in {None, default} else f"{host}:{parts.port}"


def canonical_request(url: str, signed: dict[str, str]) -> str:
    """Return the text whose digest is signed, for ``GET url``.

    Args:
        url: The URL that will be dialled.
        signed: Lower-case header names in alphabetical order, and their values.
    """
    parts = urlsplit(url)
    # The path is escaped once more, as by every service but S3: "@" becomes "%40",
    # and an escape that is already there "%25..".
    path = quote(parts.path or "/", safe="/~")
    headers = "".join(f"{name}:{value}\n" for name, value in signed.items())
    names = ";".join(signed)
    query = canonical_query(parts.query)
    return f"GET\n{path}\n{query}\n{headers}\n{names}\n{_EMPTY_BODY}"


def canonical_query(query: str) -> str:
    """Return ``query`` decoded, sorted and encoded again, as Go does it.

    Go's parser drops a pair that has a semicolon or a broken escape, and sorts what
    it decoded, not what it encodes.
    """
    pairs = [
        tuple(unquote_to_bytes(half.replace("+", " ")) for half in (key, value))
        for key, _, value in (pair.partition("=") for pair in query.split("&") if pair)
        if ";" not in key + value and not _BROKEN_ESCAPE.search(f"{key}={value}")
    ]
    return "&".join(
        f"{quote(key, safe='-_.~')}={quote(value, safe='-_.~')}"
        for key, value in sorted(pairs)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
