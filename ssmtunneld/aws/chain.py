"""botocore's chain of providers, as a daemon needs it.

It never asks on a terminal, never waits for ever, and gives the roles that it assumes a
name that does not change.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import botocore.session
from botocore.config import Config
from botocore.credentials import ProcessProvider
from botocore.exceptions import CredentialRetrievalError, RefreshWithMFAUnsupportedError
from botocore.loaders import create_loader
from typing_extensions import override

from ssmtunneld.aws.metadata import go_direct
from ssmtunneld.aws.models import Models
from ssmtunneld.aws.network import Network, ca_bundle_of
from ssmtunneld.aws.profiles import profile_chain
from ssmtunneld.aws.sending import Sender
from ssmtunneld.aws.stored import MfaRole

if TYPE_CHECKING:
    from botocore.credentials import Credentials

ASSUME_ROLE: Final = "assume-role"
"""botocore's provider of profiles with a role."""

PROCESS_TIMEOUT: Final = 60.0
"""Seconds for a ``credential_process``: some open a browser, none may hang for ever."""


def new_session(
    profile: str | None, network: Network | None = None
) -> botocore.session.Session:
    """Return a botocore session that shares the service models with all others.

    They are most of a client: with models of its own each further identity takes
    12 MiB and 130 ms, with these 0.5 MiB and 35 ms.

    Args:
        profile: Its name; None for the one in the environment, or the default.
        network: The way to AWS; None where nobody is asked.

    Raises:
        BotoCoreError: There is no such profile, or the configuration is broken.
        ValueError: The certificates that are named are not there.
    """
    session = botocore.session.Session(profile=profile)
    models = _models(session.get_config_variable("data_path"))
    session.register_component("data_loader", models)
    if network is not None:
        ca_bundle = ca_bundle_of(session, network)
        # For botocore's own sender, which minds an empty variable. It never sends.
        session.set_config_variable("ca_bundle", ca_bundle or True)
        # botocore's types have no handlers that answer, although this event wants one.
        sender: Any = Sender(ca_bundle, network.proxy)
        session.register("before-send", sender)
    return session


@cache
def _models(data_path: str | None) -> Models:
    paths = create_loader(data_path).search_paths
    return Models(extra_search_paths=paths, include_default_search_paths=False)


def profiles_of(
    session: botocore.session.Session,
) -> tuple[dict[str, dict[str, object]], str]:
    """Return all profiles, and the name of the one in use.

    Raises:
        BotoCoreError: The configuration is broken.
    """
    profiles = session.full_config.setdefault("profiles", {})
    return profiles, session.get_config_variable("profile") or "default"


def provider_session(
    profile: str | None,
    region: str,
    network: Network | None = None,
    process_timeout: float = PROCESS_TIMEOUT,
) -> botocore.session.Session:
    """Return a session whose credentials nobody needs to be asked for.

    Of roles that need an MFA code it has the sessions that are stored.

    Args:
        profile: Its name; None for the one in the environment, or the default.
        region: Where STS is asked for roles.
        network: The way there.
        process_timeout: Seconds that a ``credential_process`` may take.

    Raises:
        BotoCoreError: There is no such profile, or the configuration is broken.
        ValueError: The certificates that are named are not there.
    """
    session = bounded_session(profile, region, network, process_timeout)
    provider = session.get_component("credential_provider").get_provider(ASSUME_ROLE)
    assume = provider._load_creds_via_assume_role  # noqa: SLF001 - see below
    profiles, _ = profiles_of(session)

    def load(name: str) -> Credentials:
        role = MfaRole.of(profiles.get(name, {}))
        found: Credentials = assume(name) if role is None else role.session()
        return found

    # There is no public way to replace how a role is assumed, nor the prompt, which is
    # getpass on the terminal.
    vars(provider).update(_load_creds_via_assume_role=load, _prompter=_refuse_to_prompt)
    return session


def bounded_session(
    profile: str | None,
    region: str,
    network: Network | None = None,
    process_timeout: float = PROCESS_TIMEOUT,
) -> botocore.session.Session:
    """Return a session whose providers give up soon; they may ask on a terminal.

    Arguments and errors are those of :func:`provider_session`.
    """
    session = new_session(profile, network or Network())
    session.set_config_variable("region", region)
    session.set_default_client_config(
        # botocore's defaults are 60 s, four times; a tunnel is waiting.
        Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
    )
    profiles, name = profiles_of(session)
    _name_role_sessions(profiles, profile_chain(profiles, name))
    _bound_processes(session, process_timeout)
    instance = session.get_component("credential_provider").get_provider("iam-role")
    go_direct(vars(instance)["_role_fetcher"])
    return session


def role_session_name() -> str:
    """Return the name that CloudTrail and session ids show for assumed roles."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "ssmtunneld"
    return f"ssmtunneld-{re.sub(r'[^A-Za-z0-9_+=,.@-]', '-', user)}"[:64]


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
        # Where a session is stored, its name is part of the file's, if it is chosen.
        if MfaRole.of(settings) is None:
            settings.setdefault("role_session_name", role_session_name())


class _BoundedProcess(subprocess.Popen[bytes]):
    """A ``credential_process``, which is killed if it takes too long."""

    def __init__(self, command: list[str], *, limit: float, **options: Any) -> None:
        super().__init__(command, stdin=subprocess.DEVNULL, **options)
        self._limit = limit

    @override
    def communicate(
        self, input: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes, bytes]:
        with suppress(subprocess.TimeoutExpired):
            return super().communicate(input, timeout or self._limit)
        self.kill()
        with self:  # closes its pipes, which a child of it may hold open for ever
            pass
        raise CredentialRetrievalError(
            provider="credential_process",
            error_msg=f"it took longer than {self._limit:g} s",
        )


def _bound_processes(session: botocore.session.Session, limit: float) -> None:
    """Let every ``credential_process`` end; botocore waits for it without a limit."""
    popen: Any = partial(_BoundedProcess, limit=limit)
    resolver = session.get_component("credential_provider")
    # Both are attributes that botocore has no other way to set: of the profile in use,
    # and of the profiles that are the source of roles.
    vars(resolver.get_provider(ProcessProvider.METHOD))["_popen"] = popen
    builder = vars(resolver.get_provider(ASSUME_ROLE))["_profile_provider_builder"]

    def make(profile_name: str) -> ProcessProvider:
        return ProcessProvider(profile_name, lambda: session.full_config, popen)

    vars(builder)["_create_process_provider"] = make


def _refuse_to_prompt(_prompt: str) -> str:
    raise RefreshWithMFAUnsupportedError
