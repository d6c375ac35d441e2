"""Begin the session of a role that asks for an MFA code: a human's part of a login.

What comes of it is stored where the AWS CLI stores it, and a daemon that waits for it
finds it there within seconds. Everything here blocks, on a human too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import NoCredentialsError
from botocore.utils import JSONFileCache

from ssmtunneld.aws.api.boundary import contained
from ssmtunneld.aws.api.errors import CallContext, translate
from ssmtunneld.aws.botocore_internals import ENVIRONMENT, expiry_of, replace_prompter
from ssmtunneld.aws.identity.credentials import (
    PROVIDER_FAILURES,
    CredentialSource,
    read_keys,
)
from ssmtunneld.aws.identity.metadata import default_region
from ssmtunneld.aws.identity.mfa_cache import METHOD, MfaRole, cache_folder
from ssmtunneld.aws.identity.profiles import LoginNeeds, needs_of, profile_chain
from ssmtunneld.aws.identity.provider_chain import (
    bounded_session,
    new_session,
    profiles_of,
    quiet_botocore,
    role_session_name,
)
from ssmtunneld.base.folders import make_private_folder
from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import AwsError, CredentialsUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.credentials import Credentials
    from botocore.session import Session

    from ssmtunneld.aws.api.port import Identity

T = TypeVar("T")

_OPERATION: Final = "Login"
_INVENTED: Final = "botocore-session-"
"""How botocore's own names of role sessions begin."""


def login_needs(identity: Identity) -> LoginNeeds:
    """Return what a human must do so that ``identity`` has credentials.

    Raises:
        AwsError: There is no such profile, or the configuration is broken.
    """

    def look() -> LoginNeeds:
        needs = needs_of(*profiles_of(new_session(identity.profile)))
        own = identity.mfa_serial is not None
        return LoginNeeds(needs.command, needs.profile, code=needs.code or own)

    return _contained(look, identity)


def has_credentials(identity: Identity, profile: str, region: str) -> bool:
    """Return whether a profile has credentials already, without any human's help."""
    source = CredentialSource(profile, region, network=identity.network)
    try:
        return source.keys() is not None
    except PROVIDER_FAILURES:
        return False


def login_region(identity: Identity) -> str:
    """Return where STS is asked: the identity's region, or where STS began.

    Raises:
        AwsError: There is no such profile, or the configuration is broken.
    """
    return _contained(
        lambda: (
            identity.region
            or default_region(new_session(identity.profile))
            or "us-east-1"
        ),
        identity,
    )


def begin_session(identity: Identity, ask: Callable[[str], str], region: str) -> float:
    """Assume the roles of ``identity`` that ask for a code, and store their sessions.

    Args:
        identity: Who.
        ask: Returns the code that a device shows, given its serial number or ARN.
            Called for each role that asks for one.
        region: Where STS is asked.

    Returns:
        When the session ends, in Unix seconds.

    Raises:
        AwsError: The code or anything else was refused. Nothing was stored then, or
            only the sessions of roles before the one that was refused.
    """
    quiet_botocore()
    loaded: list[Credentials] = []

    def load() -> Credentials:
        loaded.append(_credentials(identity, ask, region))
        return loaded[0]

    try:
        _contained(lambda: read_keys(load), identity, region)
    except AwsError as error:
        refusal = _explained(error)
    else:
        ends_at = expiry_of(loaded[0])
        assert ends_at is not None, "a role's session without an end"
        return ends_at
    raise refusal


def _credentials(
    identity: Identity, ask: Callable[[str], str], region: str
) -> Credentials:
    session = bounded_session(identity.profile, region, identity.network)
    keep_name: Any = _keep_name  # botocore's types have no handlers that answer
    session.register("provide-client-params.sts.AssumeRole", keep_name)
    profiles, name = profiles_of(session)
    chain = (MfaRole.of(profiles.get(n, {})) for n in profile_chain(profiles, name))
    roles = [role for role in chain if role is not None]
    own = _own_role(identity)
    store = _Store({role.key for role in (*roles, *([own] if own else ()))})
    replace_prompter(session, _prompter(ask), store)
    credentials: Credentials | None = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    if own is None:
        if credentials.method == ENVIRONMENT:
            raise CredentialsUnusable(
                _OPERATION,
                clean("KeysInEnvironment"),
                clean("keys in the environment come before the role of the profile"),
                "unset AWS_ACCESS_KEY_ID, or name the profile in the configuration",
            )
        return credentials
    # Before any code for our own role is asked for: it is not accepted after a later
    # one of the same device.
    credentials.get_frozen_credentials()
    return _assume(session, credentials, own, ask, store)


def _assume(
    session: Session,
    source: Credentials,
    role: MfaRole,
    ask: Callable[[str], str],
    store: _Store,
) -> Credentials:
    cache: Any = store  # typed as a dict, of which this is all that it needs
    fetcher = AssumeRoleCredentialFetcher(
        session.create_client,
        source,
        role.arn,
        extra_args=role.arguments(),
        mfa_prompter=_prompter(ask),
        cache=cache,
    )
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, METHOD)


def _own_role(identity: Identity) -> MfaRole | None:
    if identity.role_arn is None or identity.mfa_serial is None:
        return None
    return MfaRole(
        identity.role_arn,
        identity.mfa_serial,
        identity.external_id,
        identity.role_session_name,
    )


class _Store:
    """The AWS CLI's cache of roles, as one that is always asked anew.

    Args:
        keys: What is kept in it: the AWS CLI would find nothing else.
    """

    def __init__(self, keys: set[str]) -> None:
        self._keys = keys

    def __contains__(self, key: str) -> bool:
        return False  # who logs in wants another session, not the rest of this one

    def __setitem__(self, key: str, value: object) -> None:
        if key not in self._keys:
            return
        folder = cache_folder()
        make_private_folder(folder)
        # Written beside its place, for its owner only, and moved there as a whole.
        JSONFileCache(str(folder))[key] = value


def _prompter(ask: Callable[[str], str]) -> Callable[[str], str]:
    """Return what botocore calls with ``Enter MFA code for SERIAL: ``."""

    def prompt(text: str) -> str:
        return ask(re.sub(r"^Enter MFA code for |: $", "", text))

    return prompt


def _keep_name(params: dict[str, Any], **_: object) -> Mapping[str, Any]:
    """Give a role's session the name that it had before, where nobody chose one.

    Policies let callers resume only the sessions that carry their own name (protocol
    1.4). What the session's file is named after does not change by it.
    """
    if str(params.get("RoleSessionName", "")).startswith(_INVENTED):
        return {**params, "RoleSessionName": role_session_name()}
    return params


def _context(identity: Identity, region: str) -> CallContext:
    return CallContext(
        _OPERATION,
        region,
        service="sts",
        renewal="check the profile, its credentials, and what its role asks for",
        profile=identity.profile or "",
    )


def _contained(work: Callable[[], T], identity: Identity, region: str = "") -> T:
    return contained(work, lambda error: translate(error, _context(identity, region)))


def _explained(refusal: AwsError) -> AwsError:
    """Return a refusal with advice where STS says that it is the code's fault."""
    if "MultiFactorAuthentication" in refusal.message:
        return CredentialsUnusable(
            refusal.operation,
            refusal.code,
            refusal.message,
            "enter the code that the device shows now: each is accepted once, and only "
            "of the device whose serial number stands in mfa_serial",
        )
    return refusal
