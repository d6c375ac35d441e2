"""Warnings of ``ssmtunneld check``: settings that are valid, and probably slips.

Botocore's data tells regions, and the AWS configuration of whoever checks tells
profiles. Both can lack what the daemon finds, so neither makes a file unusable. An
audit log that cannot be written stops nothing either, and who wants a daemon that waits
for people may have one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError
from botocore.loaders import create_loader
from botocore.session import Session

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.nearest import nearest
from ssmtunneld.base.paths import is_file
from ssmtunneld.observe.audit_file import foresee

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ssmtunneld.config import DaemonSettings, TunnelSettings


def find_warnings(tunnels: Iterable[TunnelSettings]) -> list[str]:
    """Return one line for each setting of ``tunnels`` that is probably a slip."""
    regions, profiles = _regions(), _profiles()
    return [line for tunnel in tunnels for line in _warnings(tunnel, regions, profiles)]


def find_file_warnings(settings: DaemonSettings) -> list[str]:
    """Return one line for each file of ``settings`` that cannot be written."""
    path = settings.audit_log
    trouble = foresee(path) if path is not None else ""
    return [f"daemon.audit_log: {path} cannot be written: {trouble}"] if trouble else []


def _warnings(
    tunnel: TunnelSettings, regions: list[str], profiles: list[str] | None
) -> Iterator[str]:
    place = f"tunnels.{tunnel.name}"
    region, profile = tunnel.region, tunnel.profile
    # An endpoint of one's own, such as an emulator's, has any region that it likes.
    if region and tunnel.endpoint_url is None and region not in regions:
        yield f"{place}.region: unknown region {region}{_guess(region, regions)}"
    if profile and profiles is not None and profile not in profiles:
        advice = _guess(profile, profiles) or "; see: aws configure list-profiles"
        yield f"{place}.profile: unknown profile {profile}{advice}"
    if tunnel.access == "request" and tunnel.required:
        yield (
            f'{place}.access: "request" makes the daemon not ready until somebody has '
            "asked and somebody else approved; write required = false"
        )
    # The daemon may run where it is not; commands run where this one does.
    if tunnel.db_ca is not None and not is_file(tunnel.db_ca):
        yield f"{place}.db_ca: {tunnel.db_ca} is not a file here"


def _guess(name: str, known: list[str]) -> str:
    near = nearest(name, known)
    return f" (did you mean {clean(near[0])}?)" if near else ""


def _regions() -> list[str]:
    data = create_loader().load_data("partitions")
    return [
        region for partition in data["partitions"] for region in partition["regions"]
    ]


def _profiles() -> list[str] | None:
    """Return the profiles of the AWS configuration; None if it cannot be read."""
    try:
        return list(Session().available_profiles)
    except BotoCoreError:
        return None
