"""SigV4 of the websocket upgrade, as the service verifies it (protocol 2.1)."""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote_plus

from ssmtunneld.emulator.settings import EmulatorSettings

SERVICE: Final = "ssmmessages"
_ALLOWED_SKEW: Final = timedelta(minutes=15)
_EMPTY_HASH: Final = sha256(b"").hexdigest()
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[^/,]+)/(?P<date>\d{8})/(?P<region>[^/,]+)"
    r"/(?P<service>[^/,]+)/aws4_request, *SignedHeaders=(?P<headers>[a-z0-9;-]+), *"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)


class SignatureRefused(Exception):
    """The upgrade is not signed, or not properly; says why."""


@dataclass(frozen=True, slots=True)
class _Claim:
    key: str
    date: str
    region: str
    service: str
    headers: tuple[str, ...]
    signature: str


def verify_signature(
    raw_path: str, headers: Mapping[str, str], settings: EmulatorSettings
) -> None:
    """Check the signature of an upgrade request.

    Args:
        raw_path: Path and query as they came.
        headers: The request's, looked up without regard to case.
        settings: The key; without a secret only form, service and date are checked.
            Other identities have other keys, and the same secret.

    Raises:
        SignatureRefused: Something is missing or wrong.
    """
    claim = _parse(headers.get("Authorization", ""))
    stamp = headers.get("X-Amz-Date", "")
    _check_date(claim, stamp, settings.signing_clock())
    if claim.service != SERVICE:
        raise SignatureRefused(f"signed for {claim.service}, not {SERVICE}")
    if not {"host", "x-amz-date"} <= set(claim.headers):
        raise SignatureRefused("host and x-amz-date must be signed")
    if settings.secret_key is None:
        return
    if claim.key not in {settings.access_key, *settings.identities}:
        raise SignatureRefused("the access key is unknown")
    expected = _sign(claim, stamp, raw_path, headers, settings.secret_key.reveal())
    if not hmac.compare_digest(expected, claim.signature):
        raise SignatureRefused("the signature does not match")


def canonical_query(query: str) -> str:
    """Return ``query`` as the Go SDK signs it: decoded (plus is a space), encoded."""
    pairs = []
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        pairs.append((_again(key), _again(value)))
    return "&".join(f"{key}={value}" for key, value in sorted(pairs))


def _again(text: str) -> str:
    return quote(unquote_plus(text), safe="-_.~")


def _parse(authorization: str) -> _Claim:
    match = _AUTHORIZATION.fullmatch(authorization.strip())
    if match is None:
        raise SignatureRefused("there is no AWS4-HMAC-SHA256 authorization")
    return _Claim(
        match["key"],
        match["date"],
        match["region"],
        match["service"],
        tuple(match["headers"].split(";")),
        match["signature"],
    )


def _check_date(claim: _Claim, stamp: str, now: datetime) -> None:
    try:
        signed = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise SignatureRefused("X-Amz-Date is missing or malformed") from None
    if abs(now - signed) > _ALLOWED_SKEW or not stamp.startswith(claim.date):
        raise SignatureRefused("the signature is expired or from the future")


def _sign(
    claim: _Claim, stamp: str, raw_path: str, headers: Mapping[str, str], secret: str
) -> str:
    path, _, query = raw_path.partition("?")
    lines = [
        f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in claim.headers
    ]
    canonical = "\n".join(
        (
            "GET",
            quote(path, safe="/-_.~"),
            canonical_query(query),
            "".join(lines),
            ";".join(claim.headers),
            _EMPTY_HASH,
        )
    )
    scope = f"{claim.date}/{claim.region}/{claim.service}/aws4_request"
    digest = sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (claim.date, claim.region, claim.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()
