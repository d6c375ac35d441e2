"""Credentials that follow what happens outside: new logins, rewritten files.

botocore keeps what it loaded for as long as the session object lives, which is how
tools end up with keys that expired yesterday while the user has long logged in again
(users.md, pain 3). Here botocore's chain of providers is thrown away and built anew
whenever its credentials were refused or could not be refreshed.

Everything in this module blocks, on files, networks and processes, and is to be called
in worker threads; all of it is thread-safe.
"""

from __future__ import annotations

import getpass
import os
import re
import threading
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import botocore.session
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    RefreshWithMFAUnsupportedError,
)
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError
from botocore.utils import JSONFileCache

from ssmtunneld.aws.models import Models
from ssmtunneld.aws.profiles import (
    profile_chain,
    renewal_advice,
    token_expiry,
    token_name,
)
from ssmtunneld.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from botocore.credentials import Credentials, ReadOnlyCredentials

PROVIDER_FAILURES: Final = (
    BotoCoreError,
    ClientError,  # in the words of STS or IAM Identity Center
    ResponseParserError,  # neither of the above: their answer is no XML
)
"""What the methods below raise if credentials cannot be had or refreshed."""

_CLI_CACHE: Final = "~/.aws/cli/cache"
"""Where the AWS CLI keeps the roles that it assumed."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What signs a request."""

    access_key: str
    secret_key: Secret
    session_token: Secret | None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The parts that nothing may print."""
        if self.session_token is None:
            return (self.secret_key,)
        return (self.secret_key, self.session_token)


def new_session(profile: str | None) -> botocore.session.Session:
    """Return a botocore session that shares the service models with all others.

    They are most of a client: with models of its own each further identity takes
    12 MiB and 130 ms, with these 0.5 MiB and 35 ms.

    Raises:
        BotoCoreError: There is no such profile, or the configuration is broken.
    """
    session = botocore.session.Session(profile=profile)
    models = _models(session.get_config_variable("data_path"))
    session.register_component("data_loader", models)
    return session


@cache
def _models(data_path: str | None) -> Models:
    paths = create_loader(data_path).search_paths
    return Models(extra_search_paths=paths, include_default_search_paths=False)


@dataclass(frozen=True, slots=True)
class AssumedRole:
    """A role that the configuration names, beside those of profiles."""

    arn: str
    external_id: str | None = None
    session_name: str | None = None
    """None is ``ssmtunneld-USER``."""


class CredentialSource:
    """The credentials of one profile, as botocore wants to see them.

    It takes the place of botocore's own resolver in a session (``load_credentials``)
    and of the credentials in that session's clients (``get_frozen_credentials``), so
    that forgetting credentials does not cost a new client.

    Args:
        profile: As in ``Identity``.
        region: Where STS is asked for roles.
        role: To be assumed with the credentials of the profile, whatever they are.
    """

    def __init__(
        self, profile: str | None, region: str, role: AssumedRole | None = None
    ) -> None:
        self._profile = profile
        self._region = region
        self._role = role
        self._lock = threading.Lock()
        self._loaded: Credentials | None = None
        self._handed_out: ReadOnlyCredentials | None = None
        self._generation = 0
        self._method = ""

    @property
    def generation(self) -> int:
        """How often the credentials were forgotten; to be noted before a call."""
        return self._generation

    @property
    def method(self) -> str:
        """Botocore's name of the provider that was used last; empty before that."""
        return self._method

    @property
    def handed_out(self) -> ReadOnlyCredentials | None:
        """The keys that were used last."""
        return self._handed_out

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
            self._handed_out = self._load().get_frozen_credentials()
        except PROVIDER_FAILURES:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            # A credential_process that is missing or prints no JSON, a cache file that
            # is being rewritten: botocore lets these through as they are.
            reason = f"{type(error).__name__}: {error}"
        else:
            return self._handed_out
        raise CredentialRetrievalError(provider="the AWS profile", error_msg=reason)

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
        """Forget and load again; tell whether the keys are others than before.

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
        try:
            session = new_session(self._profile)
            profiles = session.full_config.get("profiles", {})
            name = session.get_config_variable("profile") or "default"
        except BotoCoreError:
            profiles, name = {}, self._profile or "default"
        return renewal_advice(profiles, name, self._method)

    def ends_at(self) -> float | None:
        """Return when a human must act, in Unix seconds; None if nobody can know.

        Where credentials renew themselves, nobody must, until that fails.
        """
        loaded = self._loaded
        if loaded is None:
            return None
        try:
            session = new_session(self._profile)
            profiles = session.full_config.get("profiles", {})
            name = session.get_config_variable("profile") or "default"
            chain = [profiles.get(link, {}) for link in profile_chain(profiles, name)]
        except BotoCoreError:
            return None
        if self._method == "env" or any("mfa_serial" in link for link in chain):
            return expiry_of(loaded)
        tokens = (token_expiry(token_name(link)) for link in chain)
        return next((at for at in tokens if at is not None), None)

    def _load(self) -> Credentials:
        with self._lock:
            if self._loaded is None:
                session = _provider_session(self._profile, self._region)
                loaded = session.get_credentials()
                if loaded is None:
                    raise NoCredentialsError
                self._method = loaded.method or ""
                if self._role is not None:
                    loaded = _assume(session, loaded, self._role)
                self._loaded = loaded
            return self._loaded


def expiry_of(credentials: Credentials) -> float | None:
    """Return when credentials end, in Unix seconds; None if they do not say."""
    # botocore keeps it to itself.
    expiry = getattr(credentials, "_expiry_time", None)
    return expiry.timestamp() if isinstance(expiry, datetime) else None


class _CliCache:
    """The roles that the AWS CLI assumed: read there, never written."""

    def __init__(self) -> None:
        self._own: dict[str, Any] = {}
        self._shared = JSONFileCache(str(Path(_CLI_CACHE).expanduser()))

    def __contains__(self, key: str) -> bool:
        return key in self._own or key in self._shared

    def __getitem__(self, key: str) -> object:
        return self._own[key] if key in self._own else self._shared[key]

    def __setitem__(self, key: str, value: object) -> None:
        self._own[key] = value


def _provider_session(profile: str | None, region: str) -> botocore.session.Session:
    """Return a botocore session that never asks on a terminal and never hangs."""
    session = new_session(profile)
    session.set_config_variable("region", region)
    session.set_default_client_config(
        # botocore's defaults are 60 s, four times; a tunnel is waiting.
        Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
    )
    provider = session.get_component("credential_provider").get_provider("assume-role")
    # There is no public way to replace the prompt, which is getpass on the terminal.
    replacements: dict[str, object] = {"_prompter": _refuse_to_prompt}
    profiles = session.full_config.setdefault("profiles", {})
    name = session.get_config_variable("profile") or "default"
    chain = profile_chain(profiles, name)
    _name_role_sessions(profiles, chain)
    if any("mfa_serial" in profiles.get(link, {}) for link in chain):
        # The code was asked for by the AWS CLI; its session serves us as well.
        replacements["cache"] = _CliCache()
    vars(provider).update(replacements)
    return session


def _assume(
    session: botocore.session.Session, source: Credentials, role: AssumedRole
) -> Credentials:
    """Return credentials of ``role`` that are fetched with those of ``source``."""
    arguments = {"RoleSessionName": role.session_name or role_session_name()}
    if role.external_id is not None:
        arguments["ExternalId"] = role.external_id
    fetcher = AssumeRoleCredentialFetcher(
        session.create_client, source, role.arn, extra_args=arguments
    )
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


def _name_role_sessions(
    profiles: dict[str, dict[str, object]], chain: list[str]
) -> None:
    """Give roles that are assumed for ``chain`` a session name that does not change.

    Policies let callers resume and end only the sessions that carry their own name
    (protocol 1.4), and botocore would invent one at each new start of its providers.
    """
    if "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ:
        profiles.setdefault(chain[0], {})
    for settings in (profiles[link] for link in chain if link in profiles):
        # Where the AWS CLI's session is used, its name is part of the cache's key.
        if "mfa_serial" not in settings:
            settings.setdefault("role_session_name", role_session_name())


def role_session_name() -> str:
    """Return the name that CloudTrail and session ids show for assumed roles."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "ssmtunneld"
    return f"ssmtunneld-{re.sub(r'[^A-Za-z0-9_+=,.@-]', '-', user)}"[:64]


def _refuse_to_prompt(_prompt: str) -> str:
    raise RefreshWithMFAUnsupportedError


def _keys(frozen: ReadOnlyCredentials) -> Keys:
    token = Secret(frozen.token) if frozen.token else None
    return Keys(frozen.access_key or "", Secret(frozen.secret_key or ""), token)
