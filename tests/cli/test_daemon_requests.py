"""Requests that several commands make, to the control socket of a daemon."""

import pytest

from ssmtunneld.cli.daemon_client import find
from ssmtunneld.cli.daemon_requests import ask_connections, ask_log, kill_connection
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.observe import logs
from tests.cli.household import (
    connection_document,
    document,
    older_daemon,
    serving_app,
    tunnel_document,
)

REQUESTS = [
    lambda daemon: ask_connections(daemon, None),
    lambda daemon: kill_connection(daemon, "a-1"),
    lambda daemon: ask_log(daemon, 0),
]


def test_connections_are_those_of_all_tunnels_or_of_one(operator):
    operator.present = [connection_document("a-1", tunnel="web")]
    daemon = find(None)
    assert len(ask_connections(daemon, None)["connections"]) == 1
    assert ask_connections(daemon, "db")["connections"] == []
    with pytest.raises(CommandError, match="no tunnel is called nope"):
        ask_connections(daemon, "nope")
    assert operator.asked == ["connections", "connections db"]


def test_a_connection_is_ended_by_its_id_whatever_that_is(operator):
    operator.present = [connection_document("a/1?x")]
    assert kill_connection(find(None), "a/1?x") == "db"
    assert operator.asked == ["kill a/1?x"]
    with pytest.raises(CommandError, match="there is no connection 'b'"):
        kill_connection(find(None), "b")


def test_the_log_is_told_from_a_number_on(operator):
    before = logs.recent.newest
    for number in range(3):
        logs.recent(None, "info", {"event": "x.happened", "n": number})
    document = ask_log(find(None), before + 1)
    assert [event["facts"]["n"] for event in document["events"]] == ["1", "2"]


@pytest.mark.parametrize("ask", REQUESTS)
def test_an_older_daemon_must_be_restarted_first(home, ask):
    with serving_app(older_daemon(document(tunnel_document()))):
        daemon = find(None)
        with pytest.raises(CommandError, match="this command needs") as caught:
            ask(daemon)
        assert caught.value.advice == "restart it"
