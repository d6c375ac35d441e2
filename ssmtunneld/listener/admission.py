"""Who may connect: networks, and users of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ssmtunneld.listener import owner

if TYPE_CHECKING:
    from collections.abc import Collection
    from ipaddress import IPv4Network, IPv6Network


class Rejection(Enum):
    """Why a connection was reset before anything was opened for it."""

    ADDRESS = "address"
    """It came from outside of the allowed networks."""
    OWNER = "owner"
    """It came from this machine, and not from an allowed user."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a TCP connection is rejected.

    Attributes:
        rejection: The rule.
        uid: The user it belongs to, where that was the question and it has an answer.
    """

    rejection: Rejection
    uid: int | None = None


def judge(
    local: owner.SocketName,
    peer: owner.SocketName,
    *,
    allow: Collection[IPv4Network | IPv6Network],
    allow_uids: Collection[int] | None,
) -> Verdict | None:
    """Return why a TCP connection must not be taken, or None if it may.

    Args:
        local: Our end's address.
        peer: The client's address.
        allow: Networks that clients may come from; empty for any.
        allow_uids: Users that connections of this machine may belong to; None for any.
    """
    address = owner.address_of(peer)
    if allow and not any(address in network for network in allow):
        return Verdict(Rejection.ADDRESS)
    if allow_uids is None:
        return None
    # Asked of every connection: one to a public address of this machine may be local.
    uid = owner.peer_uid(local, peer)
    if uid is None:
        # Nobody's socket any more, or no way to ask: never assume the best.
        known_local = owner.is_local(local, peer)
        return Verdict(Rejection.OWNER) if known_local else None
    return None if uid in allow_uids else Verdict(Rejection.OWNER, uid)
