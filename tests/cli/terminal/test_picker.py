"""Choosing a target; with a real terminal that is ``test_open``'s."""

import click
import pytest
import questionary

from ssmtunneld.aws.targets.inventory import Node
from ssmtunneld.cli.terminal.picker import can_ask, choose

NODES = (Node("i-0a", "web", platform="Linux"), Node("i-0b", "database"))


class Answer:
    """A question to which somebody answers."""

    def __init__(self, answer):
        self.ask = lambda: answer


def test_names_stand_in_a_column_and_the_id_is_the_answer(monkeypatch):
    asked = []

    def select(question, choices, **_):
        asked.extend([question, *((c.title, c.value) for c in choices)])
        return Answer("i-0b")

    monkeypatch.setattr(questionary, "select", select)
    assert choose("Which?", NODES) == "i-0b"
    assert asked == [
        "Which?",
        ("web       i-0a  Linux", "i-0a"),
        ("database  i-0b", "i-0b"),
    ]


def test_who_wants_none_ends_the_command(monkeypatch):
    monkeypatch.setattr(questionary, "select", lambda *_, **__: Answer(None))
    with pytest.raises(click.Abort):
        choose("Which?", NODES)


def test_without_a_terminal_nobody_is_asked():
    assert not can_ask()
