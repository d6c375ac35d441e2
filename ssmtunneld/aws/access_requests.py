"""Just-in-time node access: requests, and the keys of those that were approved.

A person asks for a node with a reason (StartAccessRequest); a policy or another person
approves; GetAccessToken then has keys that start sessions to that node, for as long as
was approved (protocol Appendix E). The functions block, and belong into threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ssmtunneld.aws.api.access_keys import AccessKeys
from ssmtunneld.aws.api.answers import ACCESS_KEY, ACCESS_REQUEST_ID, TOKEN
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import ServiceUnavailable

if TYPE_CHECKING:
    from ssmtunneld.aws.api.answers import Answer
    from ssmtunneld.aws.client import AwsClient


class AccessStatus(StrEnum):
    """The state of a request."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The answer of GetAccessToken."""

    status: AccessStatus
    keys: AccessKeys | None = None
    """None unless the request is approved."""


def start_access_request(account: AwsClient, target: str, reason: str) -> str:
    """Ask for access to the node ``target``; return the request's id.

    Raises:
        AwsError: The service said no, or could not be asked.
    """
    answer = account.call(
        "StartAccessRequest",
        Reason=reason,
        Targets=[{"Key": "InstanceIds", "Values": [target]}],
    )
    request_id = answer.matching("AccessRequestId", ACCESS_REQUEST_ID)
    if not request_id:
        raise _incomplete("StartAccessRequest", "the request's ID is missing")
    return request_id


def get_access_token(account: AwsClient, request_id: str) -> AccessToken:
    """Return what has become of a request, with keys if it is approved.

    Raises:
        AwsError: The service said no, or could not be asked.
        RequestRejected: It does not know the request.
    """
    answer = account.call("GetAccessToken", AccessRequestId=request_id)
    said = answer.text("AccessRequestStatus").lower()
    try:
        status = AccessStatus(said)
    except ValueError:
        raise _incomplete("GetAccessToken", "the status is unknown") from None
    if status is not AccessStatus.APPROVED:
        return AccessToken(status)
    return AccessToken(status, _keys(answer.structure("Credentials")))


def _keys(answer: Answer) -> AccessKeys:
    access_key = answer.matching("AccessKeyId", ACCESS_KEY)
    secret = answer.matching("SecretAccessKey", TOKEN)
    token = answer.matching("SessionToken", TOKEN)
    expires_at = answer.moment("ExpirationTime")
    if not (access_key and secret and token and expires_at):
        raise _incomplete("GetAccessToken", "the credentials are incomplete")
    return AccessKeys(access_key, Secret(secret), Secret(token), expires_at)


def _incomplete(operation: str, why: str) -> ServiceUnavailable:
    return ServiceUnavailable(
        operation,
        clean("IncompleteAnswer"),
        clean(why),
        "check what answers there: a proxy, or a wrong endpoint_url",
    )
