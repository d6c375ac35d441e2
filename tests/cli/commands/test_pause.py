"""``ssmtunneld pause``: by name."""

from tests.cli.household import Busy, call


def test_it_asks_the_daemon_and_says_so(operator, capsys):
    assert call(capsys, "pause", "db") == (0, "db: paused\n", "")
    assert operator.asked == ["pause db"]


def test_what_the_daemon_refuses_ends_it_with_1(operator, capsys):
    operator.failure = Busy("not now")
    code, out, err = call(capsys, "pause", "db")
    assert (code, out, err) == (1, "", "ssmtunneld: not now; wait a moment\n")


def test_a_tunnel_that_does_not_exist_ends_it_with_2(operator, capsys):
    assert call(capsys, "pause", "bd")[0] == 2
    assert operator.asked == []
