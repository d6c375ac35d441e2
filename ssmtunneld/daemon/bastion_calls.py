"""An instance that is started on demand, and the calls that it takes."""

import getpass
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import override

from ssmtunneld.aws.bastions import (
    MARK_PREFIX,
    Instance,
    erase_tag,
    find_instance,
    has_agent,
    start_instance,
    stop_instance,
    write_tag,
)
from ssmtunneld.aws.ssm import SsmControl
from ssmtunneld.base.log import get_log
from ssmtunneld.config import TunnelSettings
from ssmtunneld.config.targets import BastionTarget
from ssmtunneld.sessions.bastion import Bastion, BastionCalls

if TYPE_CHECKING:
    from ssmtunneld.aws.client import AwsClient

_T = TypeVar("_T")


class _Calls(BastionCalls):
    """The calls for one instance, as the identity of ``control``.

    Args:
        control: Makes the calls.
        target: The instance.
        granted: Returns True for the id of a session of this process.
    """

    def __init__(
        self,
        control: SsmControl,
        target: BastionTarget,
        granted: Callable[[str], bool],
    ) -> None:
        self._control = control
        self._target = target
        self._granted = granted

    @override
    async def find(self) -> Instance:
        return await self._ask(partial(find_instance, target=self._target))

    @override
    async def start(self, instance: str) -> bool:
        return await self._ask(partial(start_instance, instance=instance))

    @override
    async def stop(self, instance: str) -> None:
        await self._ask(partial(stop_instance, instance=instance))

    @override
    async def write(self, instance: str, key: str, value: str) -> None:
        await self._ask(partial(write_tag, instance=instance, key=key, value=value))

    @override
    async def erase(self, instance: str, key: str) -> None:
        await self._ask(partial(erase_tag, instance=instance, key=key))

    async def _ask(self, work: "Callable[[AwsClient], _T]") -> _T:
        return await self._control.ask(work)

    @override
    async def is_connected(self, instance: str) -> bool:
        # Without memory: a connection waits for the change.
        return await self._ask(partial(has_agent, instance=instance))

    @override
    async def strangers(self, instance: str) -> int:
        found = await self._control.describe(target=instance)
        return sum(not self._granted(session.session_id) for session in found)


def new_bastion(
    tunnel: TunnelSettings,
    target: BastionTarget,
    control: SsmControl,
    granted: Callable[[str], bool],
    name: str,
) -> Bastion:
    """Return the instance that ``tunnel`` starts on demand.

    Args:
        tunnel: The settings.
        target: Which one it is.
        control: Makes the calls.
        granted: Returns True for the id of a session of this process.
        name: What its marks end with.
    """
    return Bastion(
        tunnel.target,
        _Calls(control, target, granted),
        mark_key(name),
        _owner(),
        stop_after=tunnel.stop_target_after,
        wall_clock=lambda: time.time_ns() / 1e9,
        log=get_log(),
    )


def mark_key(name: str) -> str:
    """Return the key of the tag that is the mark of a daemon called ``name``."""
    return f"{MARK_PREFIX}{name}"


def _owner() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname().partition('.')[0]}"
