"""The life of a data channel, as a table.

A channel outlives its websocket: ``attach`` and ``detach`` are triggers like any other,
and a handshake that a lost websocket interrupts continues on the next one, because the
sequence numbers of both sides survive (protocol 2.5).
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from ssmtunneld.errors import LocalProtocolError


class State(Enum):
    """The state of a channel."""

    IDLE = auto()
    """Never attached to a websocket."""
    HANDSHAKING = auto()
    """Attached; the handshake is not complete."""
    INTERRUPTED = auto()
    """Detached before the handshake was complete."""
    OPEN = auto()
    """Attached; data flows."""
    SUSPENDED = auto()
    """Detached; data waits."""
    CLOSED = auto()
    """Over. Nothing leads out of here."""


class Trigger(Enum):
    """An event that changes the state of a channel."""

    ATTACH = auto()
    DETACH = auto()
    COMPLETE = auto()
    CLOSE = auto()


TRANSITIONS: Final[Mapping[tuple[State, Trigger], State]] = {
    (State.IDLE, Trigger.ATTACH): State.HANDSHAKING,
    (State.IDLE, Trigger.CLOSE): State.CLOSED,
    (State.HANDSHAKING, Trigger.COMPLETE): State.OPEN,
    (State.HANDSHAKING, Trigger.DETACH): State.INTERRUPTED,
    (State.HANDSHAKING, Trigger.CLOSE): State.CLOSED,
    (State.INTERRUPTED, Trigger.ATTACH): State.HANDSHAKING,
    (State.INTERRUPTED, Trigger.CLOSE): State.CLOSED,
    (State.OPEN, Trigger.DETACH): State.SUSPENDED,
    (State.OPEN, Trigger.CLOSE): State.CLOSED,
    (State.SUSPENDED, Trigger.ATTACH): State.OPEN,
    (State.SUSPENDED, Trigger.CLOSE): State.CLOSED,
    # The websocket of a closed channel still ends some time, and closing is idempotent.
    (State.CLOSED, Trigger.DETACH): State.CLOSED,
    (State.CLOSED, Trigger.CLOSE): State.CLOSED,
}


def step(state: State, trigger: Trigger) -> State:
    """Return the state that follows.

    Raises:
        LocalProtocolError: The table does not provide for it.
    """
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise LocalProtocolError(f"cannot {trigger.name} while {state.name}") from None
