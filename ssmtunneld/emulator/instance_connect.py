"""EC2 Instance Connect: public keys that instances accept for a minute."""

import re
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from ssmtunneld.emulator.api import ApiError, Body, Operation
from ssmtunneld.emulator.settings import EmulatorSettings

LIFETIME: Final = timedelta(seconds=60)
"""Seconds for which an instance accepts a key after each push."""
LIMIT: Final = 1000
"""Keys at once."""

# The patterns and limits of the service's model.
_INSTANCE: Final = re.compile(r"i-[a-f0-9]{8,30}")
_USER: Final = re.compile(r"[A-Za-z0-9_@.\\-]{1,31}[A-Za-z0-9$_-]?")
_KEY: Final = re.compile(
    r"(?P<kind>[a-z0-9@.-]+) (?P<blob>[A-Za-z0-9+/]+=*)( [^\n]*)?\n?"
)
_KINDS: Final = frozenset({"ssh-ed25519", "ssh-rsa"})


class InstanceConnect:
    """Takes keys, and gives them to an sshd that asks.

    Args:
        settings: Which instances exist, and the clock.
        path: Where sshd asks, in front of instance and user.
    """

    def __init__(self, settings: EmulatorSettings, path: str) -> None:
        self._settings = settings
        self._path = path
        self._until: dict[tuple[str, str, str], datetime] = {}
        self.operations: dict[str, Operation] = {
            "AWSEC2InstanceConnectService.SendSSHPublicKey": self._send_key
        }
        """Operations that it adds to the API, by the name in ``X-Amz-Target``."""

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to an application: what sshd's AuthorizedKeysCommand asks.

        On a real instance it asks the metadata service.
        """
        return [web.get(f"{self._path}/{{instance}}/{{user}}", self._get_keys)]

    def keys(self, instance: str, user: str) -> list[str]:
        """Return the keys that ``user`` may use on ``instance`` now."""
        self._forget()
        return [k for i, u, k in self._until if (i, u) == (instance, user)]

    async def _send_key(self, body: Body) -> Body:
        instance = _text(body, "InstanceId", _INSTANCE)
        user = _text(body, "InstanceOSUser", _USER)
        key = _text(body, "SSHPublicKey", _KEY).strip()
        if key.split()[0] not in _KINDS:
            raise ApiError("InvalidArgsException", "the key's kind is not supported")
        known = self._settings.existing
        if known is not None and instance not in known:
            raise ApiError("EC2InstanceNotFoundException", f"{instance} was not found")
        self._forget()
        if len(self._until) >= LIMIT:
            raise ApiError("ThrottlingException")
        self._until[instance, user, key] = self._settings.wall_clock() + LIFETIME
        return {"RequestId": "00000000-0000-0000-0000-000000000000", "Success": True}

    async def _get_keys(self, request: web.Request) -> web.Response:
        found = self.keys(request.match_info["instance"], request.match_info["user"])
        return web.Response(text="".join(f"{key}\n" for key in found))

    def _forget(self) -> None:
        now = self._settings.wall_clock()
        self._until = {what: t for what, t in self._until.items() if now < t}


def _text(body: Body, key: str, pattern: re.Pattern[str]) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ApiError("InvalidArgsException", f"{key} is malformed")
    return value
