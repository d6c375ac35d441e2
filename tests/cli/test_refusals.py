"""What is told of connections that did not reach their destination."""

import pytest

from ssmtunneld.cli.daemon_client import find
from ssmtunneld.cli.refusals import describe_refusals, tell_refusals
from tests.cli.household import Household, document, serving, tunnel_document

REFUSAL = {"reason": "nobody listens.", "advice": "look there", "age": 0.1}


def refused(count, name="db", **changes):
    return tunnel_document(name, refused=count, last_refusal=REFUSAL, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "db: 2 connections to orders:5432 refused: nobody listens; look there"),
        ({"mode": "socks5"}, "db: 2 connections refused: nobody listens; look there"),
        (
            {"last_refusal": {"reason": "", "advice": "", "age": 1.0}},
            "db: 2 connections to orders:5432 refused: nobody knows why",
        ),
    ],
)
def test_they_are_told_in_one_line(changes, expected):
    assert describe_refusals({**refused(2), **changes}, 2) == expected


def test_only_new_ones_of_these_tunnels_are_told(home, capfd):
    before = document(refused(3), refused(0, "web"), refused(1, "old"))
    after = document(refused(5), refused(1, "web"), refused(1, "old"))
    with serving(Household(before, after)):
        tell_refusals(find(None), ["db", "old"])
    assert capfd.readouterr() == (
        "",
        "ssmtunneld: db: 2 connections to orders:5432 refused: nobody listens; "
        "look there\n",
    )


def test_a_daemon_that_is_gone_or_older_says_nothing(home, capfd):
    older = tunnel_document()
    del older["refused"], older["mode"]
    with serving(Household(document(older))):
        daemon = find(None)
        tell_refusals(daemon, ["db"])
    tell_refusals(daemon, ["db"])
    assert capfd.readouterr() == ("", "")
