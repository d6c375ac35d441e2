"""``ssmtunneld drain``: it waits, and says what had to be cut."""

import pytest

from tests.cli.household import call, document, off, tunnel_document


@pytest.mark.parametrize(
    ("connections", "said"),
    [
        (2, "2 connections; Ctrl-C ends the waiting, not the drain"),
        (0, "0 connections"),
    ],
)
def test_it_says_when_all_connections_have_finished(
    operator, capsys, connections, said
):
    operator.documents = [document(tunnel_document(connections=connections))]
    code, out, err = call(capsys, "drain", "db")
    assert (code, out, err) == (0, "db: drained\n", f"db: draining, {said}\n")
    assert operator.asked == ["drain db"]


def test_connections_that_were_cut_end_it_with_1(operator, capsys):
    operator.cut = 1
    code, out, _ = call(capsys, "drain", "db")
    assert code == 1
    assert out == "db: drained; 1 connection had to be reset\n"


def test_a_tunnel_that_does_not_exist_ends_it_with_2(operator, capsys):
    assert call(capsys, "drain", "bd")[0] == 2
    assert call(capsys, "drain")[0] == 2
    assert operator.asked == []


def test_what_is_disabled_is_told_and_not_asked_for(operator, capsys):
    operator.documents = [document(off())]
    code, out, err = call(capsys, "drain", "off")
    assert (code, out, "off is disabled (enabled = false)" in err) == (2, "", True)
    assert operator.asked == []
