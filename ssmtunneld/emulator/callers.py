"""Callers of the API by access key, and STS's answer about them (GetCallerIdentity).

Signatures of API calls are not verified: the key's name is enough to be somebody.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from ssmtunneld.emulator.settings import EmulatorSettings

_CREDENTIAL: Final = re.compile(
    r"\bCredential=(?P<key>[^/,\s]{1,128})/(?:[0-9]+/(?P<region>[a-z0-9-]{1,30})/)?"
)
_DEFAULT_REGION: Final = "eu-west-1"
_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):(?:iam|sts)::(?P<account>[0-9]{12}):(?P<path>[\w+=,.@/-]{1,200})"
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
    """The owner of the sessions that they start."""
    name: str
    """Prefix of the ids of these sessions."""
    key: str = ""
    """The access key; empty if the request is not signed."""
    region: str = _DEFAULT_REGION
    """The region that the request is signed for."""

    @property
    def account(self) -> str:
        """The account that they belong to."""
        match = _ARN.fullmatch(self.arn)
        return match["account"] if match else ""

    @property
    def partition(self) -> str:
        """The partition that they belong to, such as ``aws-cn``."""
        match = _ARN.fullmatch(self.arn)
        return match["partition"] if match else "aws"

    def context(self) -> dict[str, str]:
        """Return what a policy can ask about them, by its condition key."""
        found = {
            "aws:userid": user_id(self.arn),
            "aws:PrincipalArn": self.arn,
            "aws:PrincipalAccount": self.account,
            "aws:RequestedRegion": self.region,
        }
        if ":user/" in self.arn:
            found["aws:username"] = self.name
        return found


def is_identity(arn: str) -> bool:
    """Say whether ``arn`` can be somebody: an IAM user's, an assumed role's."""
    return _ARN.fullmatch(arn) is not None


def user_id(arn: str) -> str:
    """Return the unique id of somebody: a user's own, or a role's and a name."""
    if ":user/" in arn:
        return f"AIDA{sha256(arn.encode()).hexdigest()[:17].upper()}"
    return f"AROA:{_name(arn)}"


def _name(arn: str) -> str:
    return re.split("[:/]", arn)[-1]


def caller_of(headers: Mapping[str, str], settings: EmulatorSettings) -> Caller:
    """Return who sends a request with ``headers``, looked up without regard to case."""
    match = _CREDENTIAL.search(headers.get("Authorization", ""))
    key = match["key"] if match else ""
    region = (match and match["region"]) or _DEFAULT_REGION
    arn = settings.identities.get(key)
    if arn is None:
        return Caller(settings.owner, settings.caller, key, region)
    return Caller(arn, _name(arn), key, region)


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
    return _ANSWER.format(
        arn=escape(caller.arn), user=escape(user_id(caller.arn)), account=caller.account
    )
