"""Access control of connections: networks, and users of this machine."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, assert_never

from ssmtunneld.base.record import Record
from ssmtunneld.listener import owner
from ssmtunneld.listener.owner import OwnerVisibility, PeerPresence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from ipaddress import IPv4Network, IPv6Network


class Rejection(Enum):
    """The rule by which a connection was reset before a stream was opened for it."""

    ADDRESS = "address"
    """It came from outside of the allowed networks."""
    OWNER = "owner"
    """It came from this machine, and not from an allowed user."""
    GONE = "gone"
    """It came from this machine, and its client left before its user was known."""


class AccessDecision(Record):
    """The rejection of a TCP connection.

    Attributes:
        rejection: The rule.
        uid: The user it belongs to, where that was the question and it has an answer.
    """

    rejection: Rejection
    uid: int | None = None

    def advice(self, user: str) -> str:
        """Return advice in case the connection should have been accepted.

        Args:
            user: The user's name; its id where it has none; empty if it is not known.
        """
        match self.rejection:
            case Rejection.ADDRESS:
                return "add its network to allow if it may connect"
            case Rejection.OWNER if user:
                # An id is written as a number, a name as text.
                user = user if user.isdigit() else f'"{user}"'
                return f"add {user} to allow_users if it may connect"
            case Rejection.OWNER:
                return (
                    "listen on a Unix socket, or let this process see whose "
                    "connections are (its warnings at start say how)"
                )
            case Rejection.GONE:
                return (
                    "if it closes as soon as it has sent, give it a Unix socket, or "
                    'set allow_users = ["*"]'
                )
            case _:
                assert_never(self.rejection)


class AccessLimitation(Record):
    """A reason why users cannot be told apart, and a remedy."""

    reason: str
    advice: str


def judge(
    local: owner.SocketName,
    peer: owner.SocketName,
    *,
    allow: Collection[IPv4Network | IPv6Network],
    allow_uids: Collection[int] | None,
) -> AccessDecision | None:
    """Return why a TCP connection must not be taken, or None if it may.

    Args:
        local: Our end's address.
        peer: The client's address.
        allow: Networks that clients may come from; empty for any.
        allow_uids: Users that connections of this machine may belong to; None for any.
    """
    return examine(local, peer, allow=allow, allow_uids=allow_uids)[0]


def examine(
    local: owner.SocketName,
    peer: owner.SocketName,
    *,
    allow: Collection[IPv4Network | IPv6Network],
    allow_uids: Collection[int] | None,
) -> tuple[AccessDecision | None, owner.Peer | None]:
    """Return what :func:`judge` does, and what was found out about the client.

    The latter is None where its user was not the question.
    """
    address = owner.address_of(peer)
    if allow and not any(address in network for network in allow):
        return AccessDecision(Rejection.ADDRESS), None
    if allow_uids is None:
        return None, None
    # For every connection: one to a public address of this machine can be local.
    found = owner.find_peer(local, peer)
    return _decide(local, peer, found, allow_uids), found


def _decide(
    local: owner.SocketName,
    peer: owner.SocketName,
    found: owner.Peer,
    allow_uids: Collection[int],
) -> AccessDecision | None:
    match found.presence:
        case PeerPresence.HELD | PeerPresence.GONE if found.uid in allow_uids:
            return None
        case PeerPresence.GONE if found.uid is None:
            return AccessDecision(Rejection.GONE)
        case PeerPresence.HELD | PeerPresence.GONE:
            return AccessDecision(Rejection.OWNER, found.uid)
        case PeerPresence.UNKNOWN:
            # Never assume the best of what is certainly of this machine.
            known_local = owner.is_local(local, peer)
            return AccessDecision(Rejection.OWNER) if known_local else None


def allowed_uids(users: Collection[int | str]) -> frozenset[int] | None:
    """Return whose connections to take: ``users`` and our own user; None for all.

    Args:
        users: User ids, or ``"*"`` for all users. Where the platform has no way to tell
            users apart, everybody too: see :func:`shortcomings`.
    """
    ids = frozenset(user for user in users if isinstance(user, int))
    if len(ids) < len(set(users)) or owner.sight() is OwnerVisibility.ABSENT:
        return None
    return ids | {os.geteuid()}


def access_limitations(*, others: bool) -> Iterator[AccessLimitation]:
    """Yield what is wrong with telling users apart here; nothing, usually.

    Args:
        others: True if a user other than our own is allowed by name or id.
    """
    match owner.sight():
        case OwnerVisibility.ABSENT:
            yield AccessLimitation(
                "this platform does not tell whose a connection is: every user of "
                "this machine may connect over TCP",
                "listen on a Unix socket to keep others out",
            )
        case OwnerVisibility.HIDDEN:
            yield AccessLimitation(
                "a sandbox hides whose a connection is: TCP connections of this "
                "machine are refused",
                "allow AF_NETLINK sockets or reading /proc/net/tcp, or set "
                'allow_users = ["*"] to take everybody\'s',
            )
        case OwnerVisibility.SLOW:
            yield AccessLimitation(
                "a sandbox forbids to ask whose a single connection is: each one "
                "costs a look through all of them",
                "allow AF_NETLINK sockets (RestrictAddressFamilies= in a unit)",
            )
        case OwnerVisibility.CLEAR:
            pass
    unnamed = owner.stranger()
    if unnamed is not None and (others or os.geteuid() == unnamed):
        yield AccessLimitation(
            "users outside of this process's user namespace look all the same, so "
            "they are refused",
            'run outside of it (no PrivateUsers= in a unit), or set allow_users = ["*"]'
            " to take everybody's",
        )
