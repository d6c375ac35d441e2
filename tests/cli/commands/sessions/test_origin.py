"""The origin of a session as its reason tells it, which anybody can have written."""

import socket

import pytest

from ssmtunneld.cli.commands.sessions.origin import is_of, tunnel_in
from ssmtunneld.sessions.reason import default_reason, mark

HERE = "0123456789ab"
ELSEWHERE = "ba9876543210"


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (
            "ssmtunneld/0.1.0 me@host tunnel orders-db [0123456789ab/orders-db]",
            "orders-db",
        ),
        ("ssmtunneld/0.1.0 me@host tunnel orders-db", "orders-db"),
        ("ssmtunneld/0.1.0 DOM\\some one@host tunnel db", "db"),
        ("INC-123 [0123456789ab/db]", "db"),
        ("[0123456789ab/db]", "db"),
        ("", ""),
        ("INC-123", ""),
        ("[0123456789ab/db] and more", ""),
        ("[0123456789AB/db]", ""),
        ("[0123456789ab/Not A Name]", ""),
        (f"[0123456789ab/{'x' * 64}]", ""),
        ("see ssmtunneld/0.1.0 me@host tunnel db", ""),
        ("ssmtunneld/0.1.0 me@host tunnel db and more", ""),
        ("ssmtunneld/0.1.0 me\n@host tunnel db", ""),
        ("ssmtunneld/0.1.0 " + "a@" * 120, ""),
    ],
)
def test_a_reason_names_the_tunnel(reason, name):
    assert tunnel_in(reason) == name


def test_every_reason_of_ours_is_understood():
    for name in ("db", "0", "a_b-c", "x" * 63):
        assert tunnel_in(default_reason(name)) == name
        assert tunnel_in(f"{default_reason(name)} {mark(HERE, name)}") == name
        assert tunnel_in(mark(HERE, name)) == name


def test_a_marked_session_is_that_of_its_configuration_only():
    reason = f"{default_reason('db')} {mark(HERE, 'db')}"
    assert is_of(reason, HERE, "db")
    assert not is_of(reason, ELSEWHERE, "db")
    assert not is_of(reason, HERE, "b")


def test_an_unmarked_session_is_of_this_user_and_machine():
    assert is_of(default_reason("db"), HERE, "db")
    assert is_of(
        default_reason("db").replace("ssmtunneld/", "ssmtunneld/9."), HERE, "db"
    )
    assert not is_of(default_reason("db"), HERE, "web")
    host = socket.gethostname().partition(".")[0]
    other = default_reason("db").replace(f"@{host} ", "@elsewhere ")
    assert not is_of(other, HERE, "db")
    assert not is_of("INC-123", HERE, "db")
