"""A command line, shown without its secrets; programs, found and asked."""

import os

import pytest

from ssmtunneld.cli.clients import launch
from ssmtunneld.cli.clients.launch import Launch, ask, find_program
from ssmtunneld.cli.destination import Local
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.clients.conftest import task

PATH = os.environ["PATH"]


def test_what_leads_elsewhere_is_dropped_and_what_is_ours_comes_first():
    ours = Launch(["x"], {"A": "1"}, dropped=("B", "C"), secret={"S": "s"})
    found = ours.environment({"A": "0", "B": "0", "D": "0"})
    assert found == {"A": "1", "D": "0", "S": "s"}


def test_a_command_is_shown_as_a_shell_has_it_without_secrets():
    ours = Launch(["x", "a b"], {"A": "c d"}, secret={"S": "hidden"})
    assert str(ours) == "A='c d' S=*** x 'a b'"


def test_a_program_is_looked_for_where_the_user_would(stand_in):
    path = stand_in("second")
    folder = path.removesuffix("/second")
    assert find_program(["first", "second"], {"PATH": folder}) == path
    assert find_program(["first"], {"PATH": folder}) is None
    assert find_program([path], {}) == path


def test_a_program_is_asked_without_anybody_to_answer_it(stand_in):
    path = stand_in("x", version="1.2\nof x")
    assert ask([path, "--version"], {"PATH": PATH}) == "1.2\nof x\n"


def test_one_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "ANSWER_TIMEOUT", 0.05)
    with pytest.raises(CommandError, match="cat has not answered within"):
        ask(["cat", "/dev/zero"], {"PATH": PATH})
    with pytest.raises(CommandError, match="cannot be run: No such file"):
        ask([tmp_path / "gone"], {"PATH": PATH})


def test_a_task_knows_its_database():
    mine = task("mysql", "mysql", db_user="app", user="me")
    assert (mine.database.kind, mine.database.user) == ("mysql", "me")
    assert mine.port == 15432
    with pytest.raises(CommandError, match="listens on a Unix socket only"):
        _ = task("ssh", "ssh", local=Local("/run/x", None)).port
