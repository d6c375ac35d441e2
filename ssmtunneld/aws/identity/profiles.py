"""Logins in the profiles of the AWS configuration: owner, kind and expiry."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssmtunneld.aws.identity.mfa_cache import MfaRole, moment_of, read_document
from ssmtunneld.base.record import Record

if TYPE_CHECKING:
    from ssmtunneld.base.service_unit import ServiceUnit

Profiles = Mapping[str, Mapping[str, object]]
"""The profiles of the AWS configuration: botocore's ``full_config["profiles"]``."""


_SSO_CACHE: Final = "~/.aws/sso/cache"
"""Folder in which the AWS CLI keeps the tokens of IAM Identity Center."""


def renewal_advice(
    profiles: Profiles,
    profile: str,
    method: str,
    login: str = "ssmtunneld login",
    unit: ServiceUnit | None = None,
) -> str:
    """Return what a human must do so that ``profile`` has valid credentials again.

    Args:
        profiles: All profiles: a role's credentials come from another one.
        profile: The one in use.
        method: Botocore's name of the provider that had credentials last, or empty.
        login: The command that asks for an MFA code.
        unit: The unit of systemd that needs them; None for none.
    """
    if method == "env" and unit is not None:
        return (
            f"write new keys to {unit.environment} and run: {unit.restart}; or use a "
            "profile: its keys are reread automatically"
        )
    if method == "env":
        return (
            "start ssmtunneld again with new keys in its environment, or use a "
            "profile: its keys are reread automatically"
        )
    for name in profile_chain(profiles, profile):
        settings = profiles.get(name, {})
        if command := _login_command(settings, name):
            return f"run: {shlex.join(command)}"
        if MfaRole.of(settings) is not None:
            return f"run: {login}"
        if "credential_process" in settings:
            return f"run the credential_process of profile {name} to see what it says"
    return _ADVICE_BY_METHOD.get(
        method, f"write new keys of profile {profile} to the AWS credentials file"
    )


_ADVICE_BY_METHOD: Final = {
    "assume-role-with-web-identity": "check the web identity token",
    "container-role": "check the role of this container or pod",
    "iam-role": "check the role of this instance",
    "assume-role": "check that the source profile may still assume this role",
}


class LoginNeeds(Record):
    """The login by which a human gives credentials to a profile."""

    command: tuple[str, ...]
    """A command of the AWS CLI that opens a browser; empty for none."""
    profile: str
    """The profile to log in with; empty if there is none."""
    code: bool
    """True if a role asks for an MFA code."""


def needs_of(profiles: Profiles, profile: str) -> LoginNeeds:
    """Return what a login takes, of a profile and those that it builds on."""
    chain = profile_chain(profiles, profile)
    code = any(MfaRole.of(profiles.get(name, {})) is not None for name in chain)
    for name in chain:
        if command := _login_command(profiles.get(name, {}), name):
            return LoginNeeds(command, name, code)
    return LoginNeeds((), "", code)


def _login_command(settings: Mapping[str, object], name: str) -> tuple[str, ...]:
    """Return the AWS CLI's command that logs a profile itself in; empty for none."""
    option = () if name == "default" else ("--profile", name)
    if "sso_session" in settings or "sso_start_url" in settings:
        return ("aws", "sso", "login", *option)
    return ("aws", "login", *option) if "login_session" in settings else ()


def human_end(profiles: Profiles, profile: str) -> float | None:
    """Return when a human must log in again, in Unix seconds; None if unknown."""
    ends = []
    for name in profile_chain(profiles, profile):
        settings = profiles.get(name, {})
        role = MfaRole.of(settings)
        ends.append(
            token_expiry(token_name(settings)) if role is None else role.ends_at()
        )
        if role is not None:
            break  # what is behind it is needed for the next login only
    return min((at for at in ends if at is not None), default=None)


def profile_chain(profiles: Profiles, profile: str) -> list[str]:
    """Return ``profile`` and the profiles whose credentials it builds on, in order."""
    chain = [profile]
    while True:
        source = profiles.get(chain[-1], {}).get("source_profile")
        if not isinstance(source, str) or source in chain:
            return chain
        chain.append(source)


def token_name(profile: Mapping[str, object]) -> str | None:
    """Return what the SSO token of a profile is named after; None if it has none."""
    name = profile.get("sso_session") or profile.get("sso_start_url")
    return name if isinstance(name, str) else None


def token_expiry(name: str | None) -> float | None:
    """Return when an SSO token ends, in Unix seconds; None if it renews itself."""
    if name is None:
        return None
    key = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
    try:
        file = Path(_SSO_CACHE).expanduser() / f"{key}.json"
    except RuntimeError:  # nobody's home
        return None
    token = read_document(file)
    # One that is being rewritten, or is none: the next use of it says so.
    return None if token.get("refreshToken") else moment_of(token.get("expiresAt"))


def profile_names() -> list[str]:
    """Return the names of all profiles of this user, in the order of the files."""
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - only a dialogue needs it
    from botocore.session import Session  # noqa: PLC0415 - only a dialogue needs it

    try:
        return list(Session().available_profiles)
    except BotoCoreError:
        return []
