"""``ssmtunneld wait``: its exit codes and what it says."""

import pytest

from tests.cli.household import call, document, mapping, waiting

LATE = mapping(state="starting", usable=False)


@pytest.mark.parametrize("options", [(), ("--ready",), ("db",), ("--ready", "db")])
def test_it_ends_with_0_and_silently_once_tunnels_are_ready(operator, capsys, options):
    ready = document(mapping(), waiting(required=False))
    operator.documents = [document(LATE), document(LATE), ready]
    assert call(capsys, "wait", *options) == (0, "", "")


def test_it_ends_with_1_and_the_reasons_when_time_is_up(operator, capsys):
    operator.documents = [document(mapping(), waiting())]
    code, out, err = call(capsys, "wait", "--timeout", "10ms")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "ssmtunneld: dead: waiting: nobody answers; start the agent",
        "ssmtunneld: not ready within 0.01 s: dead",
    ]


def test_it_ends_with_3_if_no_daemon_comes(home, capsys):
    code, _, err = call(capsys, "wait", "--timeout", "10ms")
    assert code == 3
    assert "no daemon runs" in err


@pytest.mark.parametrize("options", [("dbx",), ("--timeout", "soon")])
def test_it_ends_with_2_if_it_was_asked_wrongly(operator, capsys, options):
    assert call(capsys, "wait", *options)[0] == 2
