"""The file in which a daemon keeps access requests over a restart.

It has ids, nodes, reasons and times, and no credentials: those come anew from AWS. It
is written in a thread, in one step, and for its owner only. A damaged one is as good as
none: the requests are then made again. What cannot be written is tried again later.
"""

import asyncio
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from ssmtunneld.aws.api.answers import ACCESS_REQUEST_ID
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.base.folders import read_private_file, replace_private_file
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.log import EventLog
from ssmtunneld.config.fields import REASON_LIMIT
from ssmtunneld.daemon.instance_lock import state_directory
from ssmtunneld.sessions.node_access import (
    AccessRequest,
    KeptRequests,
    RequestStore,
)

FILE_LIMIT: Final = 1 << 20
"""Bytes that are read; a request has 700 at most."""
MOST_ENTRIES: Final = 256
"""Entries that are written: those of tunnels that have gone are not kept for ever."""
_YEAR_10000: Final = 253_402_300_800
"""The first moment that no date can show, in Unix seconds."""
_NODE: Final = re.compile(r"m?i-[0-9a-f]{8,17}")


def access_file(name: str) -> Path:
    """Return the file of the instance called ``name``."""
    return state_directory() / f"{name}.access.json"


@dataclass(frozen=True, slots=True)
class AccessRecord(RequestStore):
    """The place of one tunnel's requests in the file."""

    file: "AccessFile"
    tunnel: str
    key: str
    """Its entry: for each identity and target another one, so that a tunnel that comes
    back to a target finds its request again."""

    @property
    @override
    def found(self) -> KeptRequests:
        """The requests that were kept."""
        return self.file.read(self.key)

    @override
    async def keep(self, requests: KeptRequests) -> None:
        """Keep ``requests`` instead; return once they are written, or cannot be."""
        await self.file.write(self.tunnel, self.key, requests)

    @override
    async def retry(self) -> None:
        """Write what could not be written, of any tunnel."""
        await self.file.retry(self.tunnel)


class AccessFile:
    """The requests of one daemon.

    Args:
        path: The file.
        log: Gets a line if it cannot be written.
    """

    def __init__(self, path: Path, log: EventLog) -> None:
        self._path = path
        self._log = log
        self._entries = _read(path)
        self._writing = asyncio.Lock()
        self._trouble = ""

    def record(self, tunnel: str, identity: Identity, target: str) -> AccessRecord:
        """Return the place of a tunnel's requests."""
        facts = (
            identity.profile,
            identity.role_arn,
            identity.region,
            identity.endpoint_url,
            target,
        )
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()
        return AccessRecord(self, tunnel, f"{tunnel} {digest[:16]}")

    def read(self, key: str) -> KeptRequests:
        """Return the requests of an entry."""
        entry = self._entries.get(key)
        latest = _request(entry)
        if latest is None or not isinstance(entry, dict):
            return KeptRequests()
        return KeptRequests(latest, _request(entry.get("older")))

    async def write(self, tunnel: str, key: str, requests: KeptRequests) -> None:
        """Keep the requests of an entry; return once that is done, or cannot be."""
        latest, older = requests.latest, requests.older
        self._entries.pop(key, None)
        if latest is not None:
            kept = {} if older is None else {"older": asdict(older)}
            self._entries[key] = {**asdict(latest), **kept}
        for oldest in list(self._entries)[:-MOST_ENTRIES]:
            del self._entries[oldest]
        await self._write(tunnel)

    async def retry(self, tunnel: str) -> None:
        """Write the file if it could not be written before."""
        if self._trouble:
            await self._write(tunnel)

    async def _write(self, tunnel: str) -> None:
        async with self._writing:
            content = json.dumps(self._entries, indent=1).encode()
            try:
                await asyncio.to_thread(replace_private_file, self._path, content)
                self._trouble = ""
            except OSError as error:
                # Once, however often it is tried.
                reason = error.strerror or type(error).__name__
                if reason != self._trouble:
                    self._trouble = reason
                    self._log.warning("access.not_kept", tunnel=tunnel, reason=reason)


def _request(entry: object) -> AccessRequest | None:
    """Return a request of the file; None if it is none."""
    match entry:
        case {
            "id": str(request_id),
            "target": str(target),
            "reason": str(reason),
            "asked_at": int() | float() as asked_at,
        } if 0 <= asked_at < _YEAR_10000:
            pass
        case _:
            return None
    if not (ACCESS_REQUEST_ID.fullmatch(request_id) and _NODE.fullmatch(target)):
        return None
    return AccessRequest(request_id, target, clean(reason, REASON_LIMIT), asked_at)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_private_file(path, FILE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
