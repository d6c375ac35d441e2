"""Credentials that follow what happens outside: new logins, rewritten files.

botocore keeps what it loaded for as long as the session object lives, which is how
tools end up with keys that expired yesterday while the user has long logged in again
(users.md, pain 3). Here botocore's chain of providers is thrown away and built anew
whenever its credentials were refused or could not be refreshed.

Everything in this module blocks, on files, networks and processes, and must be called
in worker threads; all of it is thread-safe.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
)
from botocore.parsers import ResponseParserError

from ssmtunneld.aws.api.boundary import contained, note_defect, words_of
from ssmtunneld.aws.api.endpoints import SettingError
from ssmtunneld.aws.botocore_internals import (
    CONTAINER_ROLE,
    ENVIRONMENT,
    INSTANCE_ROLE,
    expiry_of,
)
from ssmtunneld.aws.identity.keys import tidy
from ssmtunneld.aws.identity.mfa_cache import METHOD, MfaRole
from ssmtunneld.aws.identity.profiles import human_end, renewal_advice
from ssmtunneld.aws.identity.provider_chain import (
    PROCESS_TIMEOUT,
    new_session,
    profiles_of,
    provider_session,
    role_session_name,
)
from ssmtunneld.base.record import Record
from ssmtunneld.base.secret import Secret
from ssmtunneld.base.service_unit import own_service_unit

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.session import Session

    from ssmtunneld.aws.api.network import Network

PROVIDER_FAILURES: Final = (
    BotoCoreError,
    ClientError,  # in the words of STS or IAM Identity Center
    ResponseParserError,  # neither of the above: their answer is not XML
    SettingError,
)
"""Raised by the methods below if credentials cannot be loaded or refreshed."""


class Keys(Record):
    """Keys that sign a request."""

    access_key: str
    secret_key: Secret
    session_token: Secret | None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The parts that nothing may print."""
        if self.session_token is None:
            return (self.secret_key,)
        return (self.secret_key, self.session_token)


class Refreshes(Record):
    """Counts of successful and failed attempts to get keys."""

    renewed: int = 0
    """Times that there were other keys than before; the first ones count."""
    failed: int = 0
    """Attempts that got none."""


class AssumedRole(Record):
    """A role that the configuration names, besides those of profiles."""

    arn: str
    external_id: str | None = None
    session_name: str | None = None
    """None is ``ssmtunneld-USER``."""
    mfa_serial: str | None = None
    """The device whose codes the role asks for; None if it asks for none."""

    @property
    def with_code(self) -> MfaRole | None:
        """The role as ``ssmtunneld login`` assumes it; None if it needs no code."""
        if self.mfa_serial is None:
            return None
        return MfaRole(self.arn, self.mfa_serial, self.external_id, self.session_name)


class CredentialSource:
    """The credentials of one profile, as botocore wants to see them.

    It takes the place of botocore's own resolver in a session (``load_credentials``)
    and of the credentials in that session's clients (``get_frozen_credentials``), so
    that forgetting credentials does not cost a new client.

    Args:
        profile: As in ``Identity``.
        region: Where STS is asked for roles.
        role: To be assumed with the credentials of the profile, whatever they are.
        network: The way to STS and IAM Identity Center.
        login: The command that asks for an MFA code.
        process_timeout: Seconds that a ``credential_process`` may take.
    """

    def __init__(
        self,
        profile: str | None,
        region: str,
        role: AssumedRole | None = None,
        network: Network | None = None,
        *,
        login: str = "ssmtunneld login",
        process_timeout: float = PROCESS_TIMEOUT,
    ) -> None:
        self._profile = profile
        self._region = region
        self._role = role
        self._network = network
        self._login = login
        self._process_timeout = process_timeout
        self._lock = threading.Lock()
        self._loaded: Credentials | None = None
        self._handed_out: ReadOnlyCredentials | None = None
        self._generation = 0
        self._method = ""
        self._refreshes = Refreshes()

    @property
    def generation(self) -> int:
        """Number of times the credentials were dropped; read it before a call."""
        return self._generation

    @property
    def method(self) -> str:
        """Botocore's name of the provider that was used last; empty before that."""
        return self._method

    @property
    def handed_out(self) -> ReadOnlyCredentials | None:
        """The keys that were used last."""
        return self._handed_out

    @property
    def refreshes(self) -> Refreshes:
        """Counts of the attempts to get new keys."""
        return self._refreshes

    @property
    def expires_at(self) -> float | None:
        """Expiry of the keys, in Unix seconds; None if unknown."""
        return None if self._loaded is None else expiry_of(self._loaded)

    def load_credentials(self) -> Self:
        """Return what a botocore session is to use as its credentials."""
        return self

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return keys that are valid now, as botocore's signer asks for them.

        Raises:
            NoCredentialsError: No provider has any.
            PROVIDER_FAILURES: One has, but they cannot be refreshed.
        """
        try:
            found = read_keys(self._load, self._whose)
        except PROVIDER_FAILURES:
            self._count(failed=1)
            raise
        if found != self._handed_out:
            self._handed_out = found
            self._count(renewed=1)
        return found

    def _whose(self) -> str:
        """Return where the keys come from, for a person."""
        named = _SOURCES.get(self._method, "")
        profile = f"profile {self._profile}" if self._profile else "the default profile"
        return named or (f"{profile} ({self._method})" if self._method else profile)

    def _count(self, *, renewed: int = 0, failed: int = 0) -> None:
        with self._lock:
            before = self._refreshes
            self._refreshes = Refreshes(
                before.renewed + renewed, before.failed + failed
            )

    def get_deferred_property(self, name: str) -> Callable[[], object]:
        """Return a function that looks up ``name``, as botocore's endpoints want it."""
        return lambda: getattr(self.get_frozen_credentials(), name)

    def keys(self) -> Keys | None:
        """Return keys that are valid now, or None if no provider has any.

        Raises:
            PROVIDER_FAILURES: There are some, but they cannot be refreshed.
        """
        try:
            frozen = self.get_frozen_credentials()
        except NoCredentialsError:
            return None
        return _keys(frozen)

    def known_secrets(self) -> tuple[Secret, ...]:
        """Return what was handed out last, so that messages can be cleaned of it."""
        return () if self._handed_out is None else _keys(self._handed_out).secrets

    def forget(self, generation: int) -> None:
        """Drop what was loaded, unless that happened since ``generation`` was noted."""
        with self._lock:
            if self._generation == generation:
                self._loaded = None
                self._generation += 1

    def renew(self, generation: int) -> bool:
        """Forget and load again; tell whether the keys have changed.

        True as well if another thread did so since ``generation`` was noted.
        """
        if self._generation != generation:
            return True
        refused = self._handed_out
        self.forget(generation)
        try:
            return self.get_frozen_credentials() != refused
        except PROVIDER_FAILURES:
            return False  # the next call reports it

    def renewal(self) -> str:
        """Say how a human makes these credentials valid again."""
        if self._mfa_role is not None:
            return f"run: {self._login}"
        try:
            profiles, name = profiles_of(new_session(self._profile))
        except (BotoCoreError, SettingError):
            profiles, name = {}, self._profile or "default"
        unit = own_service_unit()
        return renewal_advice(profiles, name, self._method, self._login, unit)

    def ends_at(self) -> float | None:
        """Return when a human must act, in Unix seconds; None if unknown.

        Where credentials renew themselves, nobody must, until that fails.
        """
        loaded = self._loaded
        if loaded is None:
            return None
        if self._mfa_role is not None or self._method == ENVIRONMENT:
            return expiry_of(loaded)
        try:
            return human_end(*profiles_of(new_session(self._profile)))
        except (BotoCoreError, SettingError):
            return None

    @property
    def _mfa_role(self) -> MfaRole | None:
        return None if self._role is None else self._role.with_code

    def _load(self) -> Credentials:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load_anew()
            return self._loaded

    def _load_anew(self) -> Credentials:
        if self._mfa_role is not None:
            # Begun by a human with the profile's credentials, which nobody needs now.
            self._method = METHOD
            return self._mfa_role.session()
        session = provider_session(
            self._profile, self._region, self._network, self._process_timeout
        )
        loaded = session.get_credentials()
        if loaded is None:
            raise NoCredentialsError
        self._method = loaded.method or ""
        return loaded if self._role is None else _assume(session, loaded, self._role)


_SOURCES: Final = {
    ENVIRONMENT: "the environment",
    CONTAINER_ROLE: "the role of this container",
    INSTANCE_ROLE: "the role of this instance",
}


_OVER: Final = "its keys are still expired after a refresh"


def read_keys(
    load: Callable[[], Credentials],
    whose: Callable[[], str] = lambda: "the AWS profile",
) -> ReadOnlyCredentials:
    """Return the keys of the credentials that ``load`` returns, fit for a header.

    Args:
        load: Returns them; can raise anything.
        whose: Returns where they come from, for a person, once they were loaded.

    Raises:
        PROVIDER_FAILURES: There are none, or they cannot be refreshed.
    """

    def read() -> ReadOnlyCredentials:
        frozen = load().get_frozen_credentials()
        access_key, secret_key, token = tidy(*frozen[:3], whose=whose())
        keys = frozen._replace(
            access_key=access_key, secret_key=secret_key, token=token
        )
        _keys(keys)  # from now on nothing that is said has them
        return keys

    def explain(error: Exception) -> Exception:
        if isinstance(error, PROVIDER_FAILURES):
            return error
        # A credential_process that is missing, or prints what is not JSON or another
        # one; a cache file that is being rewritten. botocore lets it through as it is.
        note_defect(error)
        words = _OVER if "still expired" in str(error) else words_of(error)
        return CredentialRetrievalError(provider=whose(), error_msg=words)

    return contained(read, explain)


def _assume(session: Session, source: Credentials, role: AssumedRole) -> Credentials:
    """Return credentials of ``role`` that are fetched with those of ``source``."""
    arguments = {"RoleSessionName": role.session_name or role_session_name()}
    if role.external_id is not None:
        arguments["ExternalId"] = role.external_id
    fetcher = AssumeRoleCredentialFetcher(
        session.create_client, source, role.arn, extra_args=arguments
    )
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, METHOD)


def _keys(frozen: ReadOnlyCredentials) -> Keys:
    token = Secret(frozen.token) if frozen.token else None
    return Keys(frozen.access_key or "", Secret(frozen.secret_key or ""), token)
