"""The choice of the target of a tunnel's sessions."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol

from typing_extensions import override


class TargetSelector(Protocol):
    """The choice of the next session's target."""

    async def choose(self) -> str:
        """Return what StartSession takes for a target. Cancelling is safe.

        Raises:
            AwsError: It cannot be found out, or there is none.
        """
        ...

    def avoid(self, target: str) -> None:
        """Note that ``target`` had no agent just now, even if the service lists it."""
        ...

    @property
    def reason(self) -> str:
        """The reason why `choose` takes long, as a clause; empty if it does not."""
        return ""


class FixedTargetSelector(TargetSelector):
    """Always the same target."""

    def __init__(self, target: str) -> None:
        self._target = target

    @override
    async def choose(self) -> str:
        return self._target

    @override
    def avoid(self, target: str) -> None:
        """Do nothing: there is no other."""


class SessionsByTarget(Protocol):
    """The sessions of a tunnel, by what they are connected to: its pool."""

    @property
    def targets(self) -> Mapping[str, int]:
        """The number of sessions to each target, retiring ones included."""
        ...

    @property
    def trouble(self) -> object:
        """The reason why no session is ready; None if one is."""
        ...

    def leave(self, target: str, why: str, *, cut: bool) -> None:
        """Send no more connections to ``target``; ``cut`` ends those that it has."""
        ...

    def retry_now(self) -> None:
        """Retry failures at once."""
        ...


class FollowingTargetSelector(TargetSelector):
    """A choice among targets that come and go."""

    @abstractmethod
    def count_by(self, count: Callable[[], Mapping[str, int]]) -> None:
        """Set ``count``, which returns the number of sessions to each target."""

    @abstractmethod
    async def follow(self, pool: SessionsByTarget) -> None:
        """Keep the sessions of ``pool`` where the target is, until cancelled."""
