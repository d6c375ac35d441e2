"""Who calls the API, by the access key, and what STS says of that (GetCallerIdentity).

Signatures of API calls are not verified: the key's name is enough to be somebody.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from ssmtunneld.emulator.settings import EmulatorSettings

_CREDENTIAL: Final = re.compile(r"\bCredential=(?P<key>[^/,\s]{1,128})/")
_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:(?:iam|sts)::(?P<account>[0-9]{12}):(?P<path>[\w+=,.@/-]{1,200})"
)
_ANSWER: Final = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
    "<GetCallerIdentityResult><Arn>{arn}</Arn><UserId>{user}</UserId>"
    "<Account>{account}</Account></GetCallerIdentityResult>"
    "<ResponseMetadata><RequestId>00000000-0000-4000-8000-000000000000</RequestId>"
    "</ResponseMetadata></GetCallerIdentityResponse>"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls."""

    arn: str
    """Who owns the sessions that they start."""
    name: str
    """What the ids of these sessions begin with."""


def is_identity(arn: str) -> bool:
    """Say whether ``arn`` can be somebody: an IAM user's, an assumed role's."""
    return _ARN.fullmatch(arn) is not None


def caller_of(headers: Mapping[str, str], settings: EmulatorSettings) -> Caller:
    """Return who sends a request with ``headers``, looked up without regard to case."""
    match = _CREDENTIAL.search(headers.get("Authorization", ""))
    arn = settings.identities.get(match["key"]) if match else None
    if arn is None:
        return Caller(settings.owner, settings.caller)
    return Caller(arn, re.split("[:/]", arn)[-1])


def asks_who(raw: bytes) -> bool:
    """Say whether ``raw`` is STS's question who the caller is, in its query protocol.

    Anything else of another service is not answered here.
    """
    try:
        form = parse_qs(raw[:4096].decode("ascii"))
    except ValueError:
        return False
    return form.get("Action") == ["GetCallerIdentity"]


def who(caller: Caller) -> str:
    """Return STS's answer, in XML."""
    match = _ARN.fullmatch(caller.arn)
    account = match["account"] if match else ""
    return _ANSWER.format(
        arn=escape(caller.arn), user=escape(f"AROA:{caller.name}"), account=account
    )
