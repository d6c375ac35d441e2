"""The words that were probably meant."""

import pytest

from ssmtunneld.base.nearest import nearest


def test_the_most_similar_come_first_and_no_more_than_asked_for():
    known = {"orders-db", "orders-dbs", "cache"}
    assert nearest("orders-d", known) == ["orders-db"]
    assert nearest("orders-d", known, 3) == ["orders-db", "orders-dbs"]


@pytest.mark.parametrize(
    ("word", "near"),
    [("statsu", ["status"]), ("strat", ["start"]), ("xyzzy", []), ("", [])],
)
def test_a_similar_word_or_none(word, near):
    assert nearest(word, ["status", "start", "stop"]) == near


def test_nothing_is_similar_to_something_else():
    assert nearest("web", ["cache"]) == []
