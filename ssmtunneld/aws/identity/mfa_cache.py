"""Sessions of roles that ask for an MFA code, as the AWS CLI keeps them on disk.

Only a human can begin one, with ``ssmtunneld login`` (``mfa.py``) or any command of the
AWS CLI. Both keep it in the same file, named after what the role was asked for.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.credentials import RefreshableCredentials
from botocore.exceptions import RefreshWithMFAUnsupportedError
from botocore.utils import parse_timestamp

from ssmtunneld.base.paths import is_file
from ssmtunneld.base.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

METHOD: Final = "assume-role"
"""botocore's name for the provider of such credentials."""

_FIELDS: Final = {
    "access_key": "AccessKeyId",
    "secret_key": "SecretAccessKey",
    "token": "SessionToken",
    "expiry_time": "Expiration",
}
"""botocore's names, and the AWS CLI's."""
_CACHE: Final = "~/.aws/cli/cache"
_RENEWAL: Final = 900
"""Seconds before its end from which another session is looked for at each use."""
_MARGIN: Final = 30
"""Seconds before its end at which a session is over: calls take a moment. botocore
itself gives sessions up 10 minutes early, but it takes for granted that it can get
others, and the shortest ones last 15 minutes."""


FILE_LIMIT: Final = 256 * 1024
"""Bytes of a stored login that are read; they have a few KiB."""


def read_document(file: Path) -> Mapping[str, object]:
    """Return the JSON object in ``file``; an empty one if there is none."""
    try:
        if not is_file(file):
            return {}
        with file.open("rb") as opened:
            found = json.loads(opened.read(FILE_LIMIT).decode())
    except (OSError, ValueError, RecursionError):
        return {}  # being rewritten, or somebody else's
    return found if isinstance(found, dict) else {}


def moment_of(value: object) -> float | None:
    """Return a time of a stored login in Unix seconds; None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        return parse_timestamp(value).timestamp()
    except (ValueError, OverflowError, RuntimeError):
        return None


def cache_folder() -> Path:
    """Return where the AWS CLI keeps the roles that it assumed."""
    return Path(_CACHE).expanduser()


class MfaRole(Record):
    """A role that is assumed with a code."""

    arn: str
    serial: str
    """The device that shows the codes."""
    external_id: str | None = None
    session_name: str | None = None
    duration: int | None = None
    """Seconds that a session is asked to last; None leaves it to the service."""

    @classmethod
    def of(cls, profile: Mapping[str, object]) -> MfaRole | None:
        """Return the role of a profile; None if it has none, or one without a code."""
        arn, serial = _text(profile, "role_arn"), _text(profile, "mfa_serial")
        # As in botocore, a profile with a web identity is none of these.
        if arn is None or serial is None or "web_identity_token_file" in profile:
            return None
        duration = None
        with suppress(ValueError):
            duration = int(_text(profile, "duration_seconds") or "")
        return cls(
            arn,
            serial,
            _text(profile, "external_id"),
            _text(profile, "role_session_name"),
            duration,
        )

    def arguments(self) -> dict[str, object]:
        """Return the arguments of AssumeRole, except the role and the code."""
        found: dict[str, object | None] = {
            "SerialNumber": self.serial,
            "ExternalId": self.external_id,
            "RoleSessionName": self.session_name,
            "DurationSeconds": self.duration,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def key(self) -> str:
        """Name of the session's file in the cache, as the AWS CLI derives it."""
        asked = json.dumps({**self.arguments(), "RoleArn": self.arn}, sort_keys=True)
        return hashlib.sha1(asked.encode(), usedforsecurity=False).hexdigest()

    def ends_at(self) -> float | None:
        """Return when the stored session ends, in Unix seconds; None without one."""
        found = self._stored()
        return None if found is None else moment_of(found["expiry_time"])

    def session(
        self, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> RefreshableCredentials:
        """Return the stored session; from its last minutes on, a newer one if there is.

        Raises:
            RefreshWithMFAUnsupportedError: There is none that is valid.
        """

        def read() -> dict[str, str]:
            found = self._stored()
            if found is None:
                raise RefreshWithMFAUnsupportedError
            if parse_timestamp(found["expiry_time"]) < now() + timedelta(
                seconds=_MARGIN
            ):
                raise RefreshWithMFAUnsupportedError
            return found

        return RefreshableCredentials.create_from_metadata(
            read(),
            refresh_using=read,
            method=METHOD,
            advisory_timeout=_RENEWAL,
            mandatory_timeout=_MARGIN,
        )

    def _stored(self) -> dict[str, str] | None:
        try:
            file = cache_folder() / f"{self.key}.json"
        except RuntimeError:  # nobody's home
            return None
        stored = read_document(file).get("Credentials")
        if not isinstance(stored, dict) or moment_of(stored.get("Expiration")) is None:
            return None
        found = {name: stored.get(field) for name, field in _FIELDS.items()}
        texts = {k: v for k, v in found.items() if isinstance(v, str)}
        return texts if len(texts) == len(_FIELDS) else None


def _text(profile: Mapping[str, object], name: str) -> str | None:
    value = profile.get(name)
    return value if isinstance(value, str) else None
