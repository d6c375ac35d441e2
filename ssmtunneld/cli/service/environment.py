"""Variables that decide how AWS is reached, and which of them a service misses.

A service does not see those of the shell that installs it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ssmtunneld.config import Config

REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""Variables that name the region, the first one before the other."""
KEY: Final = "AWS_ACCESS_KEY_ID"
CREDENTIALS: Final = (
    KEY,
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
"""Variables that botocore does not use beside a profile that is named."""
ELSEWHERE: Final = (
    *CREDENTIALS,
    "AWS_ENDPOINT_URL_SSMMESSAGES",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
)
"""Variables that decide how AWS is reached, and that stay out of the file."""

_NAME: Final = re.compile(r"^\s*([A-Za-z_][A-Za-z0-9_]*)=", re.MULTILINE)


def unseen(
    config: Config, environ: Mapping[str, str], file: Path | None
) -> tuple[str, ...]:
    """Return what ``config`` needs of this environment, and a service does not have.

    Args:
        config: Settings that it has need no variable.
        environ: This shell's.
        file: Where the service gets variables from; None for nowhere.
    """
    tunnels = config.enabled
    needed = list(ELSEWHERE)
    if all(tunnel.profile for tunnel in tunnels):
        needed = [name for name in needed if name not in CREDENTIALS]
    elif not environ.get(KEY):  # these come before a profile's
        needed.append("AWS_PROFILE")
    if not all(tunnel.region for tunnel in tunnels):
        needed += REGIONS
    if not all(tunnel.endpoint_url for tunnel in tunnels):
        needed += ["AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL"]
    there = set(_NAME.findall(_read(file)))
    return tuple(name for name in needed if environ.get(name) and name not in there)


def _read(file: Path | None) -> str:
    try:
        return "" if file is None else file.read_text("utf-8", "replace")
    except OSError:
        return ""
