"""Causes and cures: what AWS, or what stands in its place, says, and what to do then.

One row for each code of a service, each HTTP status without a code, and each exception
of botocore and of ours; ``errors.py`` looks them up. A tunnel's log, status, metrics
and ``doctor`` show what stands here. A row without a cure is one that nobody can do
anything about but wait, and says that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ssmtunneld.aws.api.boundary import FIND_OUT, NOT_AWS
from ssmtunneld.base.foreign import PAGE
from ssmtunneld.base.record import Record
from ssmtunneld.errors import (
    NAME_AUTHORITY,
    AccessDenied,
    AwsError,
    CredentialsUnusable,
    RequestRejected,
    ServiceUnavailable,
    ServiceUntrusted,
    TargetNotConnected,
    Throttled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class Cause(Record):
    """The meaning of an error code."""

    kind: type[AwsError]
    """The class of the error, which decides what a tunnel does next."""
    cure: str
    """Advice; ``errors.py`` fills in the names in braces."""
    cause: str = ""
    """The cause, where the service's message does not tell it."""
    pattern: str = ""
    """A pattern that the service's message must match; the first match counts."""
    code: str = ""
    """Our name for it, if another than the one that it is found by."""
    lasts: bool = False
    """True if it is not over in seconds by itself, although its kind can be."""

    def fits(self, message: str) -> bool:
        """Return whether this row is about ``message``."""
        return re.search(self.pattern, message) is not None


CLOCK_CODES: Final = (
    "InvalidSignatureException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
)
"""The service refused a signature; a wrong clock is as likely as a wrong key."""

_KEY_CODES: Final = (
    "AuthFailure",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
)
"""The service does not know the keys: perhaps its region is off for the account."""

CREDENTIAL_CODES: Final = frozenset(
    {
        *CLOCK_CODES,
        *_KEY_CODES,
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "TokenRefreshRequired",
    }
)
"""The service refused the keys themselves: other keys can be accepted."""

_OF_TUNNEL: Final = "check target, host, port, document and parameters of this tunnel"
# Said of tunnels, which wait and try again, and of commands, which end with it.
_WAIT: Final = (
    "wait, tunnels try again by themselves; if it persists, see "
    "https://health.aws.amazon.com"
)
_SLOW_DOWN: Final = (
    "wait, tunnels try again more slowly; if it persists, lower start_rate, or ask AWS "
    "for more {operation} calls a second"
)
MORE_THREADS: Final = (
    "wait, tunnels try again by themselves; if it persists, allow more threads"
)
_CHECK_PROXY: Final = "check HTTPS_PROXY and NO_PROXY, or proxy"
_ENABLE_REGION: Final = (
    "enable the service, or region {region}, for this account: aws account "
    "enable-region --region-name {region}"
)

# Load balancers of AWS answer with pages, as gateways and emulators do.
_FAILING: Final = (
    Cause(
        ServiceUnavailable,
        f"wait, tunnels try again by themselves; if it persists, {FIND_OUT}",
        pattern=f"^{PAGE}",
    ),
    Cause(ServiceUnavailable, _WAIT),
)

_UNUSABLE: Final = Cause(
    ServiceUnavailable,
    FIND_OUT,
    cause=NOT_AWS,
    code="UnusableAnswer",
    lasts=True,
)


_ENABLE_ACCESS: Final = Cause(
    AccessDenied,
    "enable just-in-time node access for this account and region {region} in the "
    'Systems Manager console, or remove access = "request" from the tunnel',
    pattern="(?i)just-in-time node access.* not enabled",
)
"""The code that this comes with is not documented."""


def _each(cause: Cause, *names: str) -> dict[str, tuple[Cause, ...]]:
    return dict.fromkeys(names, (cause,))


CODES: Final[Mapping[str, tuple[Cause, ...]]] = {
    **_each(Cause(CredentialsUnusable, "{renewal}"), *sorted(CREDENTIAL_CODES)),
    **_each(
        Cause(CredentialsUnusable, "{renewal}, and check this machine's clock"),
        *CLOCK_CODES,
    ),
    **_each(Cause(CredentialsUnusable, "{renewal}{opt_in}"), *_KEY_CODES),
    "AccessDeniedException": (_ENABLE_ACCESS, Cause(AccessDenied, "{policy}")),
    **_each(
        Cause(AccessDenied, "{policy}"),
        "AccessDenied",
        "AuthException",  # of EC2 Instance Connect
        "ForbiddenException",
        "NotAuthorized",
        "UnauthorizedException",
        "UnauthorizedOperation",
    ),
    **_each(
        Cause(AccessDenied, _ENABLE_REGION),
        "OptInRequired",
        "SubscriptionRequiredException",
    ),
    **_each(
        Cause(Throttled, _SLOW_DOWN),
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "429",
    ),
    **_each(
        Cause(
            Throttled,
            "{room}, or request a higher limit in Service Quotas",
            lasts=True,
        ),
        "LimitExceededException",
        "ServiceQuotaExceededException",
    ),
    **_each(
        Cause(
            RequestRejected,
            "check that document {document} exists in {region}, is of session type "
            "Port, and is spelled right",
        ),
        "InvalidDocument",
        "InvalidDocumentVersion",
    ),
    **_each(
        Cause(RequestRejected, _OF_TUNNEL),
        "BadRequest",
        "BadRequestException",
        "InvalidFilterKey",
        "InvalidParameters",
        "InvalidTarget",
        "ParamValidationError",
        "SerializationException",
        "UnsupportedOperation",
        "ValidationError",
    ),
    "ValidationException": (_ENABLE_ACCESS, Cause(RequestRejected, _OF_TUNNEL)),
    "ResourceNotFoundException": (
        _ENABLE_ACCESS,
        Cause(
            RequestRejected,
            "check its name, and that it is in {region} and in the account of profile "
            "{profile}",
            pattern="(?i)no cluster",  # of EKS
        ),
        Cause(
            RequestRejected,
            "check that the target exists in {region}, and ask again for access: "
            "requests are kept for a year",
        ),
    ),
    **_each(Cause(TargetNotConnected, "{reachable}"), "TargetNotConnected"),
    **_each(
        Cause(
            ServiceUnavailable,
            "wait, tunnels look again by themselves; if it persists, see the state of "
            "the instance in the EC2 console",
        ),
        "IncorrectInstanceState",
        "IncorrectState",
    ),
    **_each(
        Cause(
            ServiceUnavailable,
            "wait, tunnels try again by themselves; if it persists, give the instance "
            "another type, or reserve capacity for it",
        ),
        "InsufficientHostCapacity",
        "InsufficientInstanceCapacity",
    ),
    **_each(
        Cause(
            Throttled,
            "stop other instances, or request a higher limit in Service Quotas",
            lasts=True,
        ),
        "InstanceLimitExceeded",
        "VcpuLimitExceeded",
    ),
    **_each(
        Cause(
            RequestRejected,
            "remove tags from the instance, which has as many as it may have: ours "
            "says who started it",
        ),
        "TagLimitExceeded",
    ),
    **_each(
        Cause(TargetNotConnected, "check target, region and profile"),
        "InvalidInstanceID.Malformed",
        "InvalidInstanceID.NotFound",
    ),
    **_each(
        Cause(ServiceUnavailable, _WAIT),
        "InternalServerError",
        "InternalFailure",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    ),
    "500": _FAILING,
    "502": _FAILING,
    "503": _FAILING,
    "504": _FAILING,
    # botocore calls an answer without a code by its status. AWS has codes: it is
    # something else that answers, or an endpoint of a VPC.
    **_each(
        Cause(
            ServiceUnavailable,
            FIND_OUT,
            cause="calls to this API are redirected",
            lasts=True,
        ),
        "301",
        "302",
        "303",
        "307",
        "308",
    ),
    **_each(
        Cause(
            AccessDenied,
            "check what answered: a proxy, or the policy of a VPC endpoint",
        ),
        "401",
        "403",
    ),
    **_each(
        Cause(
            ServiceUnavailable,
            FIND_OUT,
            cause="the server does not implement this API",
            lasts=True,
        ),
        "400",
        "404",
        "405",
    ),
    **_each(
        Cause(
            ServiceUnavailable,
            "check the endpoint of this API; with an emulator's, use a target that it "
            "knows",
            cause="the server does not offer this call",
            lasts=True,
        ),
        "InvalidAction",
        "UnknownOperationException",
    ),
    **_each(
        Cause(
            ServiceUnavailable,
            "give user and password to HTTPS_PROXY, as USER:PASSWORD@ before its host",
            cause="the proxy requires authentication",
            lasts=True,
        ),
        "407",
    ),
}
"""By the service's code, or the status of an answer that has none."""

EXCEPTIONS: Final[Mapping[str, tuple[Cause, ...]]] = {
    **_each(
        Cause(CredentialsUnusable, "{renewal}"),
        "AccessEnded",
        "ConfigNotFound",
        "LoginError",
        "MetadataRetrievalError",
        "NoAuthTokenError",
        "RefreshWithMFAUnsupportedError",
        "SSOError",
        "TokenRetrievalError",
        "UnknownCredentialError",
    ),
    "CredentialRetrievalError": (
        Cause(
            CredentialsUnusable,
            "start ssmtunneld where credential_source has keys (an instance, a "
            "container, or AWS_ACCESS_KEY_ID), or use source_profile in profile "
            "{profile}",
            pattern="credential_source",
        ),
        Cause(CredentialsUnusable, "{renewal}"),
    ),
    "InvalidConfigError": (
        Cause(
            CredentialsUnusable,
            "correct source_profile in the AWS configuration, or create that profile",
            pattern="source_profile.*does not exist",
        ),
        Cause(CredentialsUnusable, "{renewal}"),
    ),
    **_each(
        Cause(
            CredentialsUnusable,
            "correct source_profile, which is circular from profile {profile}: it must "
            "end at a profile with keys",
        ),
        "InfiniteLoopConfigError",
    ),
    **_each(
        Cause(
            CredentialsUnusable,
            "set it again, without line ends or invisible characters",
        ),
        "KeysUnfit",
    ),
    **_each(
        Cause(
            CredentialsUnusable,
            "log in or give keys to profile {profile} (aws configure sso --profile "
            "{quoted_profile}), or {elsewhere}",
        ),
        "NoCredentialsError",
    ),
    **_each(
        Cause(CredentialsUnusable, "complete the keys of profile {profile}"),
        "PartialCredentialsError",
    ),
    **_each(
        Cause(
            CredentialsUnusable,
            "correct the name, or create it: aws configure sso --profile "
            "{quoted_profile}",
        ),
        "ProfileNotFound",
    ),
    **_each(
        Cause(CredentialsUnusable, "correct the AWS configuration file"),
        "ConfigParseError",
    ),
    **_each(
        Cause(
            CredentialsUnusable, "install it: pipx inject ssmtunneld 'botocore[crt]'"
        ),
        "MissingDependencyException",
    ),
    **_each(
        Cause(
            RequestRejected,
            "set region, such as us-east-1, or export AWS_REGION",
            cause="no region is set",
        ),
        "NoRegionError",
    ),
    **_each(
        Cause(RequestRejected, "set region, such as us-east-1"),
        "BaseEndpointResolverError",
    ),
    **_each(
        Cause(RequestRejected, "correct region, such as us-east-1"),
        "UnknownRegionError",
        "ValidationError",
    ),
    **_each(
        Cause(
            RequestRejected,
            "check region, AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT",
        ),
        "EndpointProviderError",
    ),
    **_each(Cause(RequestRejected, _OF_TUNNEL), "ParamValidationError"),
    **_each(
        Cause(
            RequestRejected,
            "correct endpoint_url, ssmmessages_endpoint, ca_bundle or proxy, or their "
            "variables",
            code="InvalidSetting",
        ),
        "SettingError",
    ),
    **_each(
        Cause(RequestRejected, _CHECK_PROXY),
        "InvalidEndpointConfigurationError",
        "InvalidProxiesConfigError",
    ),
    **_each(
        Cause(
            ServiceUnavailable,
            "give user and password to HTTPS_PROXY, as USER:PASSWORD@ before its host",
            lasts=True,
        ),
        "ProxyDemandsLogin",
    ),
    **_each(
        Cause(
            ServiceUnavailable,
            "let the proxy connect to AWS's endpoints, or name them in NO_PROXY if "
            "they can be reached without it",
            lasts=True,
        ),
        "ProxyForbids",
    ),
    **_each(
        Cause(ServiceUnavailable, _CHECK_PROXY, lasts=True), "ProxyConnectionError"
    ),
    **_each(
        Cause(
            ServiceUnavailable,
            "correct scheme or port of endpoint_url: an emulator without a certificate "
            "is http://",
            lasts=True,
        ),
        "NotTls",
    ),
    "SSLError": (
        Cause(ServiceUntrusted, NAME_AUTHORITY, pattern="CERTIFICATE_VERIFY_FAILED"),
        Cause(ServiceUnavailable, NAME_AUTHORITY, lasts=True),
    ),
    "EndpointConnectionError": (
        Cause(
            ServiceUnavailable,
            "start what should answer there, such as ssmtunneld emulator, or remove "
            "endpoint_url and AWS_ENDPOINT_URL_SSM",
            pattern=r"//(127\.[0-9.]+|localhost|\[::1\])[:/\"]",
            lasts=True,
        ),
        Cause(ServiceUnavailable, "check network and DNS{and_region}"),
    ),
    **_each(Cause(ServiceUnavailable, MORE_THREADS), "NoThread"),
    **_each(
        Cause(
            ServiceUnavailable,
            "check that HTTPS to this endpoint is open, or set HTTPS_PROXY",
        ),
        "ConnectTimeoutError",
    ),
    **_each(
        Cause(
            ServiceUnavailable,
            "wait, tunnels try again by themselves; if it persists, check what stands "
            "between here and AWS: VPN, proxy, firewall",
        ),
        "ConnectionError",
        "HTTPClientError",
        "OSError",
    ),
    **_each(
        Cause(ServiceUnavailable, FIND_OUT, lasts=True), "WebPage", "AnswerTooLarge"
    ),
    **_each(_UNUSABLE, "ResponseParserError"),
}
"""By the name of an exception or of any of its bases, most special first as in its
method resolution order: names that an older botocore lacks do no harm here."""

_UNKNOWN: Final = Cause(AwsError, "look up this code in the AWS documentation")


def cause_of_code(code: str, message: str, status: int) -> Cause:
    """Return what a service's answer means.

    Args:
        code: The service's own, or the status of an answer without one.
        message: The service's words.
        status: The HTTP status.
    """
    found = _first(CODES, code, message)
    if found is None and "Rate exceeded" in message:
        found = CODES["Throttling"][0]
    if found is None and status >= 500:
        found = _first(CODES, "500", message)
    # What nobody has seen before is tried again, with backoff: stopping a tunnel for
    # good takes a reason that we understand.
    return found or _UNKNOWN


def cause_of_exception(names: list[str], message: str) -> Cause:
    """Return what an exception means, by its name and those of its bases."""
    causes = (_first(EXCEPTIONS, name, message) for name in names)
    found = next((cause for cause in causes if cause is not None), None)
    if found is None and "BotoCoreError" in names:
        found = _UNKNOWN
    return found or _UNUSABLE


def _first(
    table: Mapping[str, tuple[Cause, ...]], name: str, message: str
) -> Cause | None:
    return next((c for c in table.get(name, ()) if c.fits(message)), None)
