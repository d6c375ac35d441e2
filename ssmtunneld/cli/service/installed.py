"""The command that starts the service of this user, where one is installed."""

from pathlib import Path

from ssmtunneld.cli.service import units
from ssmtunneld.cli.service.launchctl import Launchd
from ssmtunneld.cli.service.manager import ServicePaths
from ssmtunneld.cli.service.systemctl import Systemd


def start_command(config: Path | None, place: ServicePaths | None = None) -> str:
    """Return what starts the installed service; empty if none is installed.

    Args:
        config: The file that it must run; None for any.
        place: Where to look; by default, here.
    """
    place = place or ServicePaths.here()
    managers: list[Systemd | Launchd] = []
    if place.platform == "linux":
        managers = [Systemd(place, system=False), Systemd(place, system=True)]
    elif place.platform == "darwin":
        managers = [Launchd(place)]
    for manager in managers:
        try:
            text = manager.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if units.is_ours(text) and (config is None or units.runs(text, config)):
            return manager.start
    return ""
