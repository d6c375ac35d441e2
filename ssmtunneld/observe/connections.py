"""The document of connections: who is connected at one moment, and with what.

``version`` of the document changes when a key changes its meaning or goes away; new
keys can come at any time. Times are in seconds, sizes in bytes. The docstrings of the
fields are also the descriptions in the document's JSON schema (``status_schema.py``).
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.redaction import redact_document
from ssmtunneld.listener.connection import Connection
from ssmtunneld.transport.streams import StreamDuplex

DOCUMENT_VERSION: Final = 1
LIMIT: Final = 10_000
"""Connections in one document; the others are only counted."""
TEXT_LIMIT: Final = 256
"""Characters of a user's name, an address or a destination in it."""


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One local connection."""

    id: str
    """The id that ``ssmtunneld kill`` takes; unique also after a restart."""
    tunnel: str
    """The tunnel's name."""
    peer: str
    """The client's address; its user's id with a Unix socket."""
    user: str | None
    """Name of the local user; null if it comes from elsewhere or cannot be seen."""
    uid: int | None
    """The same user's id."""
    program: str | None
    """Name of the local program, as it calls itself; null if it cannot be seen."""
    pid: int | None
    """The same program's process."""
    since: float
    """Time of its accept, in Unix seconds."""
    age: float
    """Seconds since then."""
    sent: int
    """Bytes from the client."""
    received: int
    """Bytes to the client."""
    sent_rate: float
    """Recent bytes per second from the client."""
    received_rate: float
    """Recent bytes per second to the client."""
    session: int | None
    """Number of its session within the tunnel; null while it waits for one."""
    session_id: str | None
    """The session's id at AWS."""
    target: str | None
    """The node whose agent the session uses."""
    destination: str
    """Host and port as the target reaches them; empty until its client has named it."""


@dataclass(frozen=True, slots=True)
class ConnectionsDocument:
    """The document that ``ssmtunneld connections --json`` prints."""

    version: int
    """Version of this document."""
    connections: tuple[ConnectionStatus, ...]
    """Open connections: tunnels in the order of the file, the oldest first."""
    more: int
    """Further ones that there was no room for."""


class Carried(NamedTuple):
    """The way that the bytes of a connection go.

    Attributes:
        session: The session's number; None if the connection has no stream.
        session_id: Its id at the service.
        target: Its target.
    """

    session: int | None
    session_id: str | None
    target: str | None


_NOTHING: Final = Carried(None, None, None)


def carried_by(connection: Connection) -> Carried:
    """Return the session of a connection, also of one that has just ended."""
    remote = connection.remote
    session = remote.session if isinstance(remote, StreamDuplex) else None
    if session is None:
        return _NOTHING
    return Carried(session.number, session.session_id, session.target)


def destination_of(connection: Connection, fixed: str | None) -> str:
    """Return where a connection leads, as text; ``fixed`` if clients name nothing."""
    if fixed is not None:
        return fixed
    named = connection.destination
    return "" if named is None else clean(str(named), TEXT_LIMIT)


def connection_status(
    connection: Connection,
    *,
    tunnel: str,
    destination: str | None,
    now: float,
    wall_clock: float,
    rates: tuple[float, float],
) -> ConnectionStatus:
    """Return how a connection is.

    Args:
        connection: It.
        tunnel: The tunnel's name.
        destination: Where the tunnel leads; None if its clients say.
        now: The time on the loop's clock.
        wall_clock: The same moment in Unix seconds.
        rates: Recent bytes per second from and to the client.
    """
    client, carried = connection.client, carried_by(connection)
    age = max(0.0, now - connection.since)
    return ConnectionStatus(
        id=connection.name,
        tunnel=tunnel,
        peer=clean(connection.peer, TEXT_LIMIT),
        user=clean(client.user, TEXT_LIMIT) or None,
        uid=client.uid,
        program=client.program or None,
        pid=client.pid,
        since=round(wall_clock - age, 3),
        age=round(age, 1),
        sent=connection.meter.sent,
        received=connection.meter.received,
        sent_rate=round(rates[0]),
        received_rate=round(rates[1]),
        session=carried.session,
        session_id=carried.session_id,
        target=carried.target,
        destination=destination_of(connection, destination),
    )


_FIELDS: Final = tuple(ConnectionStatus.__dataclass_fields__)


def connections_document(
    found: list[ConnectionStatus], limit: int = LIMIT
) -> dict[str, Any]:
    """Return what is shown of ``found``: the first ``limit``, without any secret."""
    return {
        "version": DOCUMENT_VERSION,
        "connections": [_as_document(each) for each in found[:limit]],
        "more": max(0, len(found) - limit),
    }


def _as_document(status: ConnectionStatus) -> dict[str, Any]:
    document = {name: getattr(status, name) for name in _FIELDS}
    redacted = redact_document(document)
    assert isinstance(redacted, dict), "of a dictionary"
    return redacted
