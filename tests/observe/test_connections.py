"""The document of connections: what of them is shown, and that it is bounded."""

import json
import socket
from types import SimpleNamespace

import pytest
from jsonschema import Draft202012Validator

from ssmtunneld.base import redaction
from ssmtunneld.config.destinations import Destination
from ssmtunneld.listener.client import Client
from ssmtunneld.listener.connection import Connection
from ssmtunneld.observe.connections import (
    carried_by,
    connection_status,
    connections_document,
)
from ssmtunneld.observe.status_schema import connections_schema
from ssmtunneld.smux.stream import Stream
from ssmtunneld.transport.streams import StreamDuplex

SESSION = SimpleNamespace(number=3, session_id="me-0abc", target="i-1")


@pytest.fixture
def connection():
    """A connection of a program of this machine that was accepted at 10.0."""
    ours, theirs = socket.socketpair()
    client = Client(uid=1000, user="ada", pid=812, program="psql")
    made = Connection(ours, "127.0.0.1:40000", 10.0, name="a-1", client=client)
    made.meter.sent, made.meter.received = 5, 7
    yield made
    made.release()
    theirs.close()


def status_of(connection, destination="orders:5432", **how):
    facts = {"now": 12.5, "wall_clock": 1000.0, "rates": (1.6, 2.4), **how}
    return connection_status(connection, tunnel="db", destination=destination, **facts)


def on(session):
    """Return a stream of ``session``."""
    return StreamDuplex(SimpleNamespace(session=session), Stream(1))


def test_it_says_who_is_connected_and_by_what(connection):
    connection.remote = on(SESSION)
    (shown,) = connections_document([status_of(connection)])["connections"]
    assert shown == {
        "id": "a-1",
        "tunnel": "db",
        "peer": "127.0.0.1:40000",
        "user": "ada",
        "uid": 1000,
        "program": "psql",
        "pid": 812,
        "since": 997.5,
        "age": 2.5,
        "sent": 5,
        "received": 7,
        "sent_rate": 2,
        "received_rate": 2,
        "session": 3,
        "session_id": "me-0abc",
        "target": "i-1",
        "destination": "orders:5432",
    }


def test_what_is_not_known_is_null(connection):
    connection.client = Client()
    shown = status_of(connection)
    assert (shown.user, shown.uid, shown.program, shown.pid) == (None,) * 4
    assert (shown.session, shown.session_id, shown.target) == (None,) * 3


@pytest.mark.parametrize("remote", [None, on(None), object()])
def test_a_stream_without_a_session_tells_none(connection, remote):
    connection.remote = remote
    assert carried_by(connection).session is None


def test_where_clients_name_the_destination_it_is_theirs(connection):
    assert status_of(connection, None).destination == ""
    connection._handshake = SimpleNamespace(destination=Destination("db.local", 1))
    assert status_of(connection, None).destination == "db.local:1"
    assert status_of(connection, "fixed:2").destination == "fixed:2"


def test_a_secret_in_a_programs_name_is_not_shown(connection, monkeypatch):
    monkeypatch.setattr(redaction, "_process", redaction.Redactor())
    redaction.register("hunter2-hunter2")
    connection.client = Client(program="hunter2-hunter2", pid=1)
    assert "hunter2" not in str(connections_document([status_of(connection)]))


def test_texts_are_clean_and_bounded(connection):
    connection.client = Client(user="a\x1b[2J" + "x" * 1000, uid=1)
    connection.peer = "p\n" * 1000
    shown = status_of(connection)
    assert len(shown.user) == len(shown.peer) == 256
    assert (shown.user + shown.peer).isprintable()


def test_only_so_many_are_shown_and_the_others_counted(connection):
    found = [status_of(connection)] * 5
    document = connections_document(found, 3)
    assert (len(document["connections"]), document["more"]) == (3, 2)
    assert connections_document(found)["more"] == 0


def test_the_document_keeps_its_schema(connection):
    schema = connections_schema()
    Draft202012Validator.check_schema(schema)
    document = connections_document([status_of(connection)])
    Draft202012Validator(schema).validate(json.loads(json.dumps(document)))
    assert schema["$defs"]["ConnectionStatus"]["required"] == list(
        document["connections"][0]
    )
