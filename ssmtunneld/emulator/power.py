"""Instances that are switched on and off: their states, launches and tags.

An instance runs from the start unless ``settings.stopped`` names it. Half of
``settings.boot_time`` it is ``pending``; its agent is connected when all of it is over.
Stopping takes half of it, too.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from ssmtunneld.emulator.settings import EmulatorSettings, Node

TAG_LIMIT: Final = 50
"""Tags of one instance, which is EC2's limit."""
INSTANCE_LIMIT: Final = 1000
"""Instances whose state or tags can be changed."""


class PowerState(StrEnum):
    """States of an instance, in EC2's words."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


CODES: Final = {
    PowerState.PENDING: 0,
    PowerState.RUNNING: 16,
    PowerState.STOPPING: 64,
    PowerState.STOPPED: 80,
}
"""Numbers of the states, as EC2 has them."""


class PowerError(Exception):
    """A change that is not possible.

    Args:
        code: EC2's.
        message: EC2's.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class _Machine:
    launched: datetime
    on: bool
    since: float
    """Time of the last change, on the loop's clock."""
    tags: dict[str, str]
    starts: int = 0
    stops: int = 0


class Power:
    """The state of all instances.

    Args:
        settings: Which are stopped at the start, and how long a start takes.
        ended: Called with an instance when it is stopped.
    """

    def __init__(
        self, settings: EmulatorSettings, ended: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._ended = ended
        self._first_launch = settings.wall_clock() - timedelta(hours=1)
        self._machines: dict[str, _Machine] = {}

    def state(self) -> dict[str, Any]:
        """Return what is known of instances that were changed, without secrets."""
        return {instance: self.describe(instance) for instance in self._machines}

    def describe(self, instance: str) -> dict[str, Any]:
        """Return an instance's state and tags, and how often it was switched."""
        machine = self._machines.get(instance)
        return {
            "state": self.state_of(instance).value,
            "tags": dict(self.tags(instance)),
            "starts": 0 if machine is None else machine.starts,
            "stops": 0 if machine is None else machine.stops,
        }

    def state_of(self, instance: str) -> PowerState:
        """Return the state of an instance now."""
        machine = self._machines.get(instance)
        if machine is None:
            stopped = instance in self._settings.stopped
            return PowerState.STOPPED if stopped else PowerState.RUNNING
        is_over = self._age(machine) >= self._settings.boot_time / 2
        if machine.on:
            return PowerState.RUNNING if is_over else PowerState.PENDING
        return PowerState.STOPPED if is_over else PowerState.STOPPING

    def has_agent(self, instance: str) -> bool:
        """Return True if the instance's agent is connected, as far as power goes."""
        if self.state_of(instance) is not PowerState.RUNNING:
            return False
        machine = self._machines.get(instance)
        return machine is None or self._age(machine) >= self._settings.boot_time

    def launched(self, instance: str) -> datetime:
        """Return the time of the latest launch."""
        machine = self._machines.get(instance)
        return self._first_launch if machine is None else machine.launched

    def tags(self, instance: str) -> Mapping[str, str]:
        """Return the tags of an instance."""
        machine = self._machines.get(instance)
        return self._first_tags(instance) if machine is None else machine.tags

    def _first_tags(self, instance: str) -> dict[str, str]:
        node = self._settings.nodes.get(instance, Node())
        named = {"Name": node.name} if node.name else {}
        return {**named, **node.tags}

    def start(self, instance: str) -> tuple[PowerState, PowerState]:
        """Start an instance; return its states before and after.

        Raises:
            PowerError: It is being stopped.
        """
        before = self.state_of(instance)
        if before is PowerState.STOPPING:
            raise PowerError(
                "IncorrectInstanceState",
                f"The instance '{instance}' is not in a state from which it can be "
                "started.",
            )
        if before is PowerState.STOPPED:
            machine = self._machine(instance)
            machine.on, machine.since = True, self._now()
            # To the second, as the API tells it: no two launches have the same time.
            earliest = machine.launched + timedelta(seconds=1)
            machine.launched = max(self._settings.wall_clock(), earliest)
            machine.starts += 1
        return before, self.state_of(instance)

    def stop(self, instance: str) -> tuple[PowerState, PowerState]:
        """Stop an instance, which ends its sessions; return both states."""
        before = self.state_of(instance)
        if before in {PowerState.PENDING, PowerState.RUNNING}:
            machine = self._machine(instance)
            machine.on, machine.since = False, self._now()
            machine.stops += 1
            self._ended(instance)
        return before, self.state_of(instance)

    def write_tags(self, instance: str, tags: Mapping[str, str]) -> None:
        """Give an instance tags.

        Raises:
            PowerError: It would have too many.
        """
        changed = {**self.tags(instance), **tags}
        if len(changed) > TAG_LIMIT:
            raise PowerError(
                "TagLimitExceeded", f"The maximum number of tags is {TAG_LIMIT}"
            )
        self._machine(instance).tags = changed

    def erase_tags(self, instance: str, tags: Mapping[str, str | None]) -> None:
        """Take tags from an instance, as far as it has them.

        Args:
            instance: The instance.
            tags: By their keys the values that they must have; None for any.
        """
        machine = self._machine(instance)
        machine.tags = {
            key: value
            for key, value in machine.tags.items()
            if key not in tags or tags[key] not in {None, value}
        }

    def _machine(self, instance: str) -> _Machine:
        if instance not in self._machines:
            if len(self._machines) >= INSTANCE_LIMIT:
                raise PowerError("RequestLimitExceeded", "Too many instances")
            on = self.state_of(instance) is PowerState.RUNNING
            self._machines[instance] = _Machine(
                self._first_launch, on, float("-inf"), self._first_tags(instance)
            )
        return self._machines[instance]

    def _age(self, machine: _Machine) -> float:
        return self._now() - machine.since

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
