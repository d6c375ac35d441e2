"""``ssmtunneld kill``: by id."""

import click
import pytest

from ssmtunneld.cli.commands.kill import _complete, kill
from tests.cli.household import call, connection_document, document, older_daemon
from tests.cli.household import serving_app as serving


def test_connections_are_ended_by_their_ids(operator, capsys):
    operator.present = [connection_document("a-1"), connection_document("a-2")]
    code, out, err = call(capsys, "kill", "a-1", "a-2", "a-1")
    assert (code, err) == (0, "")
    assert out == "a-1: ended a connection of db\na-2: ended a connection of db\n"
    assert operator.asked == ["kill a-1", "kill a-2"]


def test_what_is_not_open_ends_it_with_2_and_advice(operator, capsys):
    operator.present = [connection_document("a-1")]
    code, out, err = call(capsys, "kill", "a-9/../x", "a-1")
    assert (code, out) == (2, "")
    assert err == (
        "ssmtunneld: there is no connection 'a-9/../x'; it might have ended: "
        "ssmtunneld connections lists those that are open\n"
    )
    assert operator.asked == []


@pytest.mark.parametrize(
    ("typed", "shown"),
    [("", ""), ("a" * 100_000, "a" * 64), ("\udcff", "\\udcff"), ("é", "é")],
)
def test_an_id_that_none_can_have_is_refused_before_a_daemon_is_asked(
    capsys, typed, shown
):
    code, out, err = call(capsys, "kill", "a-1", typed)
    assert (code, out) == (2, "")
    tail = "..." if len(typed) > 64 else ""
    assert err == (
        f"ssmtunneld: '{shown}{tail}' is not the id of a connection; "
        "ssmtunneld connections lists those that are open\n"
    )


def test_without_an_id_it_does_nothing(operator, capsys):
    assert call(capsys, "kill")[0] == 2


def test_ids_of_open_connections_complete(operator):
    operator.present = [
        connection_document("a-1"),
        connection_document("a-2", program=None),
        connection_document("b-3"),
    ]
    context = click.Context(kill)
    context.params = {"ids": ("a-1",)}
    (found,) = _complete(context, kill.params[0], "a-")
    assert (found.value, found.help) == ("a-2", "db, 127.0.0.1:40000")


def test_nothing_completes_without_a_daemon_or_with_an_older_one(home):
    context = click.Context(kill)
    assert _complete(context, kill.params[0], "") == []
    with serving(older_daemon(document())):
        assert _complete(context, kill.params[0], "") == []
