"""For how long a connection waits for a better session than there is."""

from collections.abc import Sequence
from typing import Final

from ssmtunneld.tunnel.plan import Phase, SessionView

GROWTH_PATIENCE: Final = 3.0
"""Seconds that a connection waits for a session with room, if one may come, before it
shares a full one. Starting a session takes one to two seconds."""
STALL_PATIENCE: Final = 10.0
"""Seconds that it waits if none of those that there are moves: within that time this is
found out, one is replaced (STUCK_TIME in member.py) and another one started."""


def may_wait(views: Sequence[SessionView], limit: int, waited: float) -> bool:
    """Say whether a connection may wait on, rather than take what there is.

    Args:
        views: All sessions.
        limit: How many may serve at a time.
        waited: Seconds that it has waited.
    """
    if all(view.stalled for view in views if view.phase is Phase.READY):
        return waited < STALL_PATIENCE
    growing = sum(not view.retiring for view in views) < limit or any(
        view.phase is Phase.STARTING for view in views
    )
    return growing and waited < GROWTH_PATIENCE
