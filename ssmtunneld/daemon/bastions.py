"""The instances of a process that are started on demand, one for each way to them."""

import asyncio
import getpass
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from typing_extensions import override

from ssmtunneld.aws.api.port import Identity
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
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.ssm import ControlRegistry, SsmControl
from ssmtunneld.base.log import get_log
from ssmtunneld.base.small_event import SmallEvent
from ssmtunneld.config import TunnelSettings
from ssmtunneld.config.targets import BastionTarget, bastion_target
from ssmtunneld.sessions.bastion import Bastion, BastionCalls

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

    async def _ask(self, work: Callable[[AwsClient], _T]) -> _T:
        return await self._control.ask(work)

    @override
    async def is_connected(self, instance: str) -> bool:
        # Without memory: a connection waits for the change.
        return await self._ask(partial(has_agent, instance=instance))

    @override
    async def strangers(self, instance: str) -> int:
        found = await self._control.describe(target=instance)
        return sum(not self._granted(session.session_id) for session in found)


class Bastions:
    """All of them; tunnels with the same settings have the same one.

    Args:
        controls: Make the calls.
        instance: The daemon's name, by which it knows its marks after a restart; None
            for a process that nothing comes back to.
    """

    def __init__(self, controls: ControlRegistry, instance: str | None) -> None:
        self._controls = controls
        self._instance = instance or secrets.token_hex(6)
        self._known: dict[tuple[str, Identity, float | None], Bastion] = {}
        self._new: list[Bastion] = []
        self._added = SmallEvent()

    def get(self, tunnel: TunnelSettings) -> Bastion | None:
        """Return the instance of ``tunnel``; None if it is not started on demand."""
        if not tunnel.start_target:
            return None
        identity, stop_after = Identity.of(tunnel), tunnel.stop_target_after
        place = (tunnel.target, identity, stop_after)
        if place not in self._known:
            target = bastion_target(tunnel.target)
            assert target is not None, "refused with the configuration"
            control = self._controls.get(identity)
            bastion = Bastion(
                tunnel.target,
                _Calls(control, target, self._controls.granted),
                self._key(identity, tunnel.target, stop_after),
                _owner(),
                stop_after=stop_after,
                wall_clock=lambda: time.time_ns() / 1e9,
                log=get_log(),
            )
            self._known[place] = bastion
            self._new.append(bastion)
            self._added.set()
        return self._known[place]

    def _key(self, identity: Identity, target: str, stop_after: float | None) -> str:
        """Return the key of a mark: two users of one instance must not share one."""
        facts = (
            self._instance,
            identity.profile,
            identity.role_arn,
            identity.region,
            target,
            stop_after,
        )
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()
        return f"{MARK_PREFIX}{digest[:12]}"

    async def run(self) -> None:
        """Look after all of them until cancelled, also after their tunnels have gone.

        May be called again after a defect.
        """
        self._new = list(self._known.values())
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._added.clear()
                for bastion in self._new:
                    tasks.create_task(bastion.attend(), name="bastion")
                self._new.clear()
                await self._added.wait()

    @property
    def end_patience(self) -> float:
        """The seconds that `leave` takes at most."""
        known = self._known.values()
        return max((bastion.end_patience for bastion in known), default=0.0)

    async def leave(self) -> None:
        """Stop those that nobody else needs; for the end of the process."""
        async with asyncio.TaskGroup() as tasks:
            for bastion in self._known.values():
                tasks.create_task(bastion.leave(), name="bastion")


def _owner() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname().partition('.')[0]}"
