"""``ssmtunneld wait``: its exit codes and what it says."""

import pytest

from tests.cli.household import (
    Household,
    call,
    document,
    off,
    serving,
    tunnel_document,
    waiting,
)
from tests.integration.world import tunnel

LATE = tunnel_document(state="starting", usable=False)


@pytest.mark.parametrize("options", [(), ("--ready",), ("db",), ("--ready", "db")])
def test_it_ends_with_0_and_silently_once_tunnels_are_ready(operator, capsys, options):
    ready = document(tunnel_document(), waiting(required=False))
    operator.documents = [document(LATE), document(LATE), ready]
    assert call(capsys, "wait", *options) == (0, "", "")


def test_it_ends_with_1_and_the_reasons_when_time_is_up(operator, capsys):
    operator.documents = [document(tunnel_document(), waiting())]
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


def test_a_file_that_does_not_exist_is_not_waited_for(home, capsys, monkeypatch):
    missing = home / "nosuch.toml"
    code, out, err = call(capsys, "wait", "-c", missing)
    assert (code, out) == (2, "")
    assert err == f"ssmtunneld: {missing}: cannot be read: No such file or directory\n"
    monkeypatch.setenv("SSMTUNNELD_CONFIG", str(missing))
    assert call(capsys, "wait") == (2, "", err)


def test_a_tunnel_that_the_file_lacks_is_not_waited_for(home, capsys):
    file = home / "c.toml"
    file.write_text(tunnel("db", port=1))
    code, _, err = call(capsys, "wait", "-c", file, "dbx")
    assert code == 2
    assert "no tunnel is called dbx" in err
    assert "did you mean db?" in err
    # One that it has may still come.
    assert call(capsys, "wait", "-c", file, "db", "--timeout", "10ms")[0] == 3


def test_a_daemon_that_runs_knows_better_than_its_file(home, capsys):
    missing = home / "gone.toml"
    with serving(Household(document(tunnel_document())), missing):
        assert call(capsys, "wait", "-c", missing) == (0, "", "")


@pytest.mark.parametrize("options", [("dbx",), ("--timeout", "soon")])
def test_it_ends_with_2_if_it_was_asked_wrongly(operator, capsys, options):
    assert call(capsys, "wait", *options)[0] == 2


def test_a_group_is_waited_for_and_others_are_not(operator, capsys):
    late = document(
        tunnel_document(groups=["x"], state="starting", usable=False), waiting()
    )
    ready = document(tunnel_document(groups=["x"]), off(groups=["x"]), waiting())
    operator.documents = [late, late, ready]
    assert call(capsys, "wait", "--group", "x") == (0, "", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--group", "y"), "no tunnel is in group y; the groups are: x"),
        (("off",), "off is disabled (enabled = false); enable it in its file, then: "),
    ],
)
def test_what_waiting_cannot_mend_ends_it_at_once(operator, capsys, options, message):
    operator.documents = [document(tunnel_document(groups=["x"]), off())]
    code, out, err = call(capsys, "wait", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"ssmtunneld: {message}")


def test_a_group_that_the_file_lacks_is_not_waited_for(home, capsys):
    file = home / "c.toml"
    file.write_text(
        tunnel("db", listen=1, port=1, groups=["x"])
        + tunnel("old", listen=2, port=1, enabled=False)
    )
    code, _, err = call(capsys, "wait", "-c", file, "--group", "y")
    assert (code, "no tunnel is in group y; the groups are: x" in err) == (2, True)
    code, _, err = call(capsys, "wait", "-c", file, "old")
    assert (code, "old is disabled" in err) == (2, True)
    late = ("--timeout", "10ms")
    assert call(capsys, "wait", "-c", file, "--group", "x", *late)[0] == 3
