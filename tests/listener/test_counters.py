"""Counts of connections that only grow, over the lives of several servers."""

import socket

import pytest

from ssmtunneld.config.destinations import Destination
from ssmtunneld.errors import DestinationRefused, NoSessionReady, StreamReset
from ssmtunneld.listener.access import Rejection
from ssmtunneld.listener.connection import Connection
from ssmtunneld.listener.counters import ConnectionCounters, Refusal
from ssmtunneld.listener.proxy.protocol import (
    DestinationForbidden,
    ProxyProtocolError,
    TooManyDestinations,
)
from ssmtunneld.listener.relay import ConnectionOutcome, Transfer


@pytest.fixture
def connection():
    """A connection that nobody serves."""
    near, far = socket.socketpair()
    made = Connection(near, "127.0.0.1:1", 0.0)
    yield made
    made.release()
    far.close()


def test_a_living_connection_counts_with_what_it_has_moved(connection):
    totals = ConnectionCounters()
    totals.enter(connection)
    connection.meter.sent, connection.meter.received = 5, 7
    counts = totals.read()
    assert (counts.active, counts.accepted) == (1, 1)
    assert (counts.sent, counts.received) == totals.moved() == (5, 7)


def test_nothing_shrinks_or_jumps_when_it_ends(connection):
    totals = ConnectionCounters()
    totals.enter(connection)
    connection.meter.sent, connection.meter.received = 5, 7
    before = totals.moved()
    totals.leave(connection, Transfer(5, 7, ConnectionOutcome.COMPLETED), 9.0)
    counts = totals.read()
    assert totals.moved() == before
    assert (counts.active, counts.accepted) == (0, 1)
    assert counts.endings == {ConnectionOutcome.COMPLETED: 1}
    assert (counts.refused, counts.failures) == (0, {})
    assert counts.last_refusal is None


@pytest.mark.parametrize(
    ("cause", "failure"),
    [
        (DestinationRefused("no"), "refused"),
        (NoSessionReady("none"), "no_session"),
        (DestinationForbidden(Destination("db", 1)), "forbidden"),
        (TooManyDestinations(Destination("db", 1), 1), "crowded"),
        (ProxyProtocolError("what?"), "handshake"),
        (StreamReset("lost"), "other"),
        (None, "other"),
    ],
)
def test_a_refused_connection_tells_why(connection, cause, failure):
    totals = ConnectionCounters()
    totals.enter(connection)
    totals.leave(connection, Transfer(0, 0, ConnectionOutcome.REFUSED, cause), 9.0)
    counts = totals.read()
    assert (counts.refused, counts.failures) == (1, {failure: 1})
    assert counts.last_refusal == Refusal(cause, 9.0)


def test_rejected_connections_are_counted_by_the_rule_they_broke():
    totals = ConnectionCounters()
    totals.reject(Rejection.OWNER)
    totals.reject(Rejection.OWNER)
    totals.reject(Rejection.ADDRESS)
    counts = totals.read()
    assert counts.rejected == 3
    assert counts.rejections == {Rejection.OWNER: 2, Rejection.ADDRESS: 1}
    assert counts.accepted == 0
