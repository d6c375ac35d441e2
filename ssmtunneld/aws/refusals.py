"""What botocore raises, translated to what a tunnel does next (protocol 1.7).

Nothing of botocore's leaves this package: its exceptions carry whole requests, with
their signatures and session tokens, and their texts may quote them.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from ssmtunneld.aws.permissions import advise
from ssmtunneld.base.redaction import redact
from ssmtunneld.errors import (
    NAME_AUTHORITY,
    AccessDenied,
    AwsError,
    CredentialsUnusable,
    RequestRejected,
    ServiceUnavailable,
    ServiceUntrusted,
    SessionGone,
    TargetNotConnected,
    Throttled,
    TunnelError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmtunneld.secret import Secret

CLOCK_CODES: Final = frozenset(
    {
        "InvalidSignatureException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""The service refused a signature; a wrong clock is as likely as a wrong key."""

CREDENTIAL_CODES: Final = CLOCK_CODES | {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
"""The service refused the keys themselves: others may be accepted."""

_BY_CODE: Final[Mapping[str, type[AwsError]]] = {
    **dict.fromkeys(CREDENTIAL_CODES, CredentialsUnusable),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccessDeniedException",
            "AuthException",  # of EC2 Instance Connect
            "ForbiddenException",
            "NotAuthorized",
            "OptInRequired",
            "UnauthorizedException",
            "UnauthorizedOperation",
            # What botocore calls an answer without a body: a proxy's, or an endpoint's.
            "401",
            "403",
        ),
        AccessDenied,
    ),
    **dict.fromkeys(
        (
            "LimitExceededException",
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
            "429",
        ),
        Throttled,
    ),
    **dict.fromkeys(
        (
            "BadRequest",
            "BadRequestException",
            "InvalidDocument",
            "InvalidDocumentVersion",
            "InvalidFilterKey",
            "InvalidParameters",
            "InvalidTarget",
            "ParamValidationError",
            "SerializationException",
            "UnsupportedOperation",
            "ValidationError",
            "ValidationException",
        ),
        RequestRejected,
    ),
    "TargetNotConnected": TargetNotConnected,
    "InternalServerError": ServiceUnavailable,
    "InternalFailure": ServiceUnavailable,
    "ServiceUnavailable": ServiceUnavailable,
    "ServiceUnavailableException": ServiceUnavailable,
}

# By the name of the exception or of any of its bases, most special first as in its
# method resolution order: names that an older botocore lacks do no harm here.
_BY_EXCEPTION: Final[Mapping[str, type[AwsError]]] = {
    **dict.fromkeys(
        (
            "CredentialRetrievalError",
            "ConfigNotFound",
            "ConfigParseError",
            "InvalidConfigError",
            "LoginError",
            "MetadataRetrievalError",
            "MissingDependencyException",
            "NoAuthTokenError",
            "NoCredentialsError",
            "PartialCredentialsError",
            "ProfileNotFound",
            "RefreshWithMFAUnsupportedError",
            "SSOError",
            "TokenRetrievalError",
            "UnknownCredentialError",
        ),
        CredentialsUnusable,
    ),
    **dict.fromkeys(
        (
            "BaseEndpointResolverError",
            "EndpointProviderError",
            "InvalidEndpointConfigurationError",
            "InvalidProxiesConfigError",
            "ParamValidationError",
            "UnknownRegionError",
            "ValidationError",
        ),
        RequestRejected,
    ),
    **dict.fromkeys(
        ("ConnectionError", "HTTPClientError", "ResponseParserError", "OSError"),
        ServiceUnavailable,
    ),
    # botocore's answer to an endpoint_url that is none, and ours to other settings.
    "ValueError": RequestRejected,
}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What was being done: the material of good advice."""

    operation: str
    """``StartSession``, ..."""
    region: str
    """Empty if none could be found."""
    renewal: str
    """How a human makes these credentials valid again."""
    service: str = "ssm"
    """As IAM's actions begin."""
    profile: str = ""
    target: str = ""
    document: str = ""
    session_id: str = ""
    secrets: tuple[Secret, ...] = ()
    """What no message may contain."""


def translate(error: Exception, during: Circumstances) -> TunnelError:
    """Return what ``error`` means to a tunnel; raise it outside the except block.

    Raised inside, it would carry botocore's exception as its context, and that one
    carries the signed request.
    """
    if isinstance(error, ClientError):
        return _translate_answer(error, during)
    names = [base.__name__ for base in type(error).__mro__]
    kind = next((_BY_EXCEPTION[n] for n in names if n in _BY_EXCEPTION), AwsError)
    text = str(error)
    if "ResponseParserError" in names:
        text = text.partition("\n")[0]  # the rest is the answer: STS answers with keys
    if "SSLError" in names and "CERTIFICATE_VERIFY_FAILED" in text:
        kind = ServiceUntrusted
    message = _presentable(text, during.secrets)
    advice = _advice_for_exception(names, during)
    if not advice and kind is CredentialsUnusable:
        advice = during.renewal
    code = "InvalidSetting" if names[0] == "ValueError" else names[0]
    return kind(during.operation, code, message, advice)


def _translate_answer(error: ClientError, during: Circumstances) -> TunnelError:
    details = error.response.get("Error", {})
    code = details.get("Code") or "Unknown"
    message = _presentable(details.get("Message") or "no reason given", during.secrets)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = _kind(code, message, status)
    operation = error.operation_name
    if operation != during.operation:
        # A call that botocore made to get credentials: to STS, or to IAM Identity
        # Center. Whatever it was denied, it is the credentials that are missing.
        if not issubclass(kind, Throttled | ServiceUnavailable):
            kind = CredentialsUnusable
        denied = "not authorized to perform: sts:AssumeRole" in message
        advice = (
            advise(message, service="sts", operation=operation, region=during.region)
            if denied
            else during.renewal
        )
        return kind(operation, code, message, advice)
    if code == "DoesNotExistException" and during.session_id:
        return SessionGone(during.session_id, message)
    advice = _advice_for_answer(kind, code, message, during)
    return kind(operation, code, message, advice)


def _kind(code: str, message: str, status: int) -> type[AwsError]:
    if code in _BY_CODE:
        return _BY_CODE[code]
    if "Rate exceeded" in message:
        return Throttled
    # What nobody has seen before is tried again, with backoff: stopping a mapping for
    # good takes a reason that we understand.
    return ServiceUnavailable if status >= 500 else AwsError


def _advice_for_answer(
    kind: type[AwsError], code: str, message: str, during: Circumstances
) -> str:
    if kind is CredentialsUnusable:
        clock = ", and check this machine's clock" if code in CLOCK_CODES else ""
        return f"{during.renewal}{clock}"
    if kind is AccessDenied and code.isdecimal():
        return "check what answered: a proxy, or the policy of a VPC endpoint"
    if kind is AccessDenied:
        return advise(
            message,
            service=during.service,
            operation=during.operation,
            region=during.region,
            target=during.target,
            document=during.document,
        )
    if kind is TargetNotConnected:
        return _advice_for_target(during)
    if kind is RequestRejected and code.startswith("InvalidDocument"):
        return (
            f"check that document {during.document} exists in {during.region}, is of "
            "session type Port, and is spelled right"
        )
    if kind is RequestRejected:
        return "check target, host, port, document and parameters of this mapping"
    return ""


def _advice_for_target(during: Circumstances) -> str:
    whose = f" and the account of profile {during.profile}" if during.profile else ""
    where = f"{during.region}{whose}"
    if during.target.startswith("ecs:"):
        return (
            f"check that the task runs in {where}, was started with "
            "enableExecuteCommand, and has a task role that allows ssmmessages"
        )
    return (
        f"check that {during.target or 'the target'} runs, that its SSM agent is "
        f"online in {where}, and that its role has the policy "
        "AmazonSSMManagedInstanceCore"
    )


def _advice_for_exception(names: list[str], during: Circumstances) -> str:
    profile = during.profile or "default"
    quoted = shlex.quote(profile)  # it is to be pasted into a shell
    where = f" and that region {during.region} exists" if during.region else ""
    advice = {
        "NoCredentialsError": (
            f"log in or give keys to profile {profile} (aws configure sso --profile "
            f"{quoted}), or start ssmtunneld where credentials are to be had"
        ),
        "PartialCredentialsError": f"complete the keys of profile {profile}",
        "ProfileNotFound": (
            f"correct the name, or create it: aws configure sso --profile {quoted}"
        ),
        "ConfigParseError": "correct the AWS configuration file",
        "MissingDependencyException": "install it: pip install 'botocore[crt]'",
        "BaseEndpointResolverError": "set region, such as us-east-1",
        "UnknownRegionError": "correct region, such as us-east-1",
        "ValidationError": "correct region, such as us-east-1",
        "EndpointProviderError": (
            "check region, AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT"
        ),
        "ParamValidationError": (
            "check target, host, port, document and parameters of this mapping"
        ),
        "ProxyConnectionError": "check HTTPS_PROXY and NO_PROXY, or proxy",
        "SSLError": NAME_AUTHORITY,
        "EndpointConnectionError": f"check network and DNS{where}",
        "ConnectTimeoutError": (
            "check that HTTPS to this endpoint is open, or set HTTPS_PROXY"
        ),
        "ValueError": (
            "correct endpoint_url, ssmmessages_endpoint, ca_bundle or proxy, or their "
            "variables"
        ),
    }
    return next((advice[name] for name in names if name in advice), "")


def _presentable(message: str, secrets: tuple[Secret, ...]) -> str:
    """Return ``message`` on one line and without anything that must not be shown."""
    for value in (secret.reveal() for secret in secrets):
        # Real ones have 40 characters and more; an emulator's "test" is a word.
        if len(value) >= 16:
            message = message.replace(value, "***")
    message = redact(message)  # other spellings too, and pieces
    # A refused signature is explained by the whole signed request, token included.
    message = message.partition("The Canonical String for this request")[0]
    message = re.sub(r"(?<=://)[^/@\s]*@", "***@", message)  # a proxy's password
    message = re.sub(r"Signature=[0-9a-fA-F]{64}", "Signature=***", message)
    return " ".join(message.split())
