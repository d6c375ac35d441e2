"""The file in which a daemon keeps access requests over a restart.

It has ids, nodes, reasons and times, and no credentials: those come anew from AWS. It
is written in a thread, in one step, and for its owner only. A damaged one is as good as
none: the requests are then made again.
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
from ssmtunneld.sessions.node_access import AccessRequest, RequestStore

FILE_LIMIT: Final = 1 << 20
"""Bytes that are read; a request has 700 at most."""
_YEAR_10000: Final = 253_402_300_800
"""The first moment that no date can show, in Unix seconds."""
_NODE: Final = re.compile(r"m?i-[0-9a-f]{8,17}")


def access_file(name: str) -> Path:
    """Return the file of the instance called ``name``."""
    return state_directory() / f"{name}.access.json"


@dataclass(frozen=True, slots=True)
class AccessRecord(RequestStore):
    """The place of one tunnel's request in the file."""

    file: "AccessFile"
    tunnel: str
    whose: str
    """A digest of identity and target, without which a request means nothing."""

    @property
    @override
    def found(self) -> AccessRequest | None:
        """The request that was kept; None if there is none."""
        return self.file.read(self.tunnel, self.whose)

    @override
    async def keep(self, request: AccessRequest | None) -> None:
        """Keep ``request`` instead; return once it is written, or cannot be."""
        await self.file.write(self.tunnel, self.whose, request)


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

    def record(self, tunnel: str, identity: Identity, target: str) -> AccessRecord:
        """Return the place of a tunnel's request."""
        facts = (
            identity.profile,
            identity.role_arn,
            identity.region,
            identity.endpoint_url,
            target,
        )
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()
        return AccessRecord(self, tunnel, digest[:16])

    def read(self, tunnel: str, whose: str) -> AccessRequest | None:
        """Return the request that is kept for a tunnel; None if there is none."""
        match self._entries.get(tunnel):
            case {
                "whose": str(owner),
                "id": str(request_id),
                "target": str(target),
                "reason": str(reason),
                "asked_at": int() | float() as asked_at,
            } if owner == whose and 0 <= asked_at < _YEAR_10000:
                pass
            case _:
                return None
        if not (ACCESS_REQUEST_ID.fullmatch(request_id) and _NODE.fullmatch(target)):
            return None
        return AccessRequest(request_id, target, clean(reason, REASON_LIMIT), asked_at)

    async def write(
        self, tunnel: str, whose: str, request: AccessRequest | None
    ) -> None:
        """Keep the request of a tunnel, or none; return once that is done."""
        if request is None:
            self._entries.pop(tunnel, None)
        else:
            self._entries[tunnel] = {"whose": whose, **asdict(request)}
        async with self._writing:
            content = json.dumps(self._entries, indent=1).encode()
            try:
                await asyncio.to_thread(replace_private_file, self._path, content)
            except OSError as error:
                reason = error.strerror or type(error).__name__
                self._log.warning("access.not_kept", tunnel=tunnel, reason=reason)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_private_file(path, FILE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
