"""Host names of ssh that say more than a target; light enough for every login."""

import re
from typing import Final

_WITH_REGION: Final = re.compile(
    r"(?P<target>m?i-[0-9a-f]{8,17})(?:\.|--)(?P<region>[a-z]{2,3}(?:-[a-z]+)+-\d{1,2})"
)


def split_region(host: str) -> tuple[str, str | None]:
    """Return the target and the region that a host name has.

    ``i-0123456789abcdef0.us-east-2`` and ``i-0123456789abcdef0--us-east-2`` name both;
    any other host name is a target alone.
    """
    found = _WITH_REGION.fullmatch(host)
    return (host, None) if found is None else (found["target"], found["region"])


def host_name(target: str) -> str:
    """Return what ssh calls ``target``: an id is itself, so that Host blocks apply.

    ssh takes no name with shell characters, and known_hosts keeps this one.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", target).strip("-.") or "target"
