"""The instances of a process that are started on demand, one for each way to them."""

import asyncio
import hashlib
import secrets
from typing import TYPE_CHECKING

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.ssm import ControlRegistry
from ssmtunneld.base.compartment import Defects, defects_here, run_compartment
from ssmtunneld.base.log import get_log
from ssmtunneld.base.small_event import SmallEvent
from ssmtunneld.config import TunnelSettings
from ssmtunneld.config.targets import bastion_target

if TYPE_CHECKING:
    from ssmtunneld.sessions.bastion import Bastion


class Bastions:
    """All of them; tunnels with the same settings have the same one.

    Args:
        controls: Make the calls.
        instance: The daemon's name, by which it knows its marks after a restart; None
            for a process that nothing comes back to, or that has no name yet.
    """

    def __init__(self, controls: ControlRegistry, instance: str | None) -> None:
        self._controls = controls
        self._instance = instance or secrets.token_hex(6)
        self._known: dict[tuple[str, Identity, float | None], Bastion] = {}
        self._new: list[Bastion] = []
        self._added = SmallEvent()

    def get(self, tunnel: TunnelSettings) -> "Bastion | None":
        """Return the instance of ``tunnel``; None if it is not started on demand."""
        if not tunnel.start_target:
            return None
        identity, stop_after = Identity.of(tunnel), tunnel.stop_target_after
        place = (tunnel.target, identity, stop_after)
        if place not in self._known:
            target = bastion_target(tunnel.target)
            assert target is not None, "refused with the configuration"
            control = self._controls.get(identity)
            from ssmtunneld.daemon.bastion_calls import new_bastion  # noqa: PLC0415 - few tunnels have one

            bastion = new_bastion(
                tunnel,
                target,
                control,
                self._controls.granted,
                self._key(identity, tunnel.target, stop_after),
            )
            self._known[place] = bastion
            self._new.append(bastion)
            self._added.set()
        return self._known[place]

    def take_instance(self, instance: str) -> None:
        """Keep all marks under ``instance``, from their next looks on.

        Not before the daemon that had the name has ended: with one mark, each of the
        two would take the other one's lease for its own, and stop what that one needs.
        """
        self._instance = instance
        for (target, identity, stop_after), bastion in self._known.items():
            from ssmtunneld.daemon.bastion_calls import mark_key  # noqa: PLC0415 - there with a bastion

            bastion.move_mark(mark_key(self._key(identity, target, stop_after)))

    def _key(self, identity: Identity, target: str, stop_after: float | None) -> str:
        """Return the end of a mark's key, which no two users of an instance share."""
        facts = (
            self._instance,
            identity.profile,
            identity.role_arn,
            identity.region,
            target,
            stop_after,
        )
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()
        return digest[:12]

    async def run(self) -> None:
        """Look after all of them until cancelled, also after their tunnels have gone.

        Each is a compartment. May be called again after a defect.
        """
        self._new = list(self._known.values())
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._added.clear()
                for bastion in self._new:
                    attending = run_compartment("bastion", bastion.attend, _defects())
                    tasks.create_task(attending, name="bastion")
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
                leaving = _defects().attempt("bastion", bastion.leave)
                tasks.create_task(leaving, name="bastion")


def _defects() -> Defects:
    """Return the account of whoever runs them."""
    return defects_here() or Defects(get_log())
