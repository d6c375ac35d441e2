"""The unit of systemd that this process belongs to, for advice that fits it."""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, Self

from ssmtunneld.base.record import Record

_UNIT: Final = re.compile(
    r"^(?P<above>.*)/(?P<unit>ssmtunneld(?:@(?P<instance>[^/]+))?)\.service$",
    re.MULTILINE,
)
"""The end of a control group: systemd gives each unit one, and shells never ours."""


class ServiceUnit(Record):
    """A service that `ssmtunneld service install` or a package has made."""

    environment: str
    """The file that systemd reads variables from, before it starts the daemon."""
    restart: str
    """The command that starts the daemon anew, with what the file has then."""

    @classmethod
    def of(cls, cgroup: str, environ: Mapping[str, str]) -> Self | None:
        """Return the unit of a process; None if it belongs to none of ours.

        Args:
            cgroup: What ``/proc/PID/cgroup`` says.
            environ: The process's environment.
        """
        found = _UNIT.search(cgroup)
        if found is None:
            return None
        if "/user@" in found["above"]:
            home = environ.get("XDG_CONFIG_HOME", "")
            folder = home if home.startswith("/") else "~/.config"
            restart = f"systemctl --user restart {found['unit']}"
            return cls(f"{folder}/ssmtunneld/environment", restart)
        file = f"{found['instance']}." if found["instance"] else ""
        restart = f"sudo systemctl restart {found['unit']}"
        return cls(f"/etc/ssmtunneld/{file}environment", restart)


@cache
def own_service_unit() -> ServiceUnit | None:
    """Return the unit of this process; None where systemd did not start it."""
    try:
        cgroup = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return ServiceUnit.of(cgroup, os.environ)
