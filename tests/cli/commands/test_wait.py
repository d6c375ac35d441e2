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
        "ssmtunneld: not ready within 0.01 s: dead; ssmtunneld doctor dead tests the "
        "path hop by hop",
    ]


def test_tunnels_with_the_same_reason_are_told_in_one_line(operator, capsys):
    others = [waiting(name="first"), waiting(name="second")]
    operator.documents = [
        document(*others, tunnel_document(state="starting", usable=0))
    ]
    code, _, err = call(capsys, "wait", "--timeout", "10ms")
    assert (code, err.splitlines()) == (
        1,
        [
            "ssmtunneld: first, second: waiting: nobody answers; start the agent",
            "ssmtunneld: db: starting",
            "ssmtunneld: not ready within 0.01 s: first, second, db; ssmtunneld doctor "
            "first tests the path hop by hop",
        ],
    )


def test_it_ends_with_3_if_no_daemon_comes(home, capsys):
    code, _, err = call(capsys, "wait", "--timeout", "10ms")
    assert code == 3
    assert "no daemon runs" in err


def test_a_file_that_does_not_exist_is_not_waited_for(home, capsys, monkeypatch):
    missing = home / "nosuch.toml"
    code, out, err = call(capsys, "wait", "-c", missing)
    assert (code, out) == (2, "")
    assert err == (
        f"ssmtunneld: {missing}: cannot be read: No such file or directory; "
        f"write one: ssmtunneld init -c {missing}\n"
    )
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


ASLEEP = tunnel_document(
    state="asleep", reason="bastion i-1 is asleep", bastion={"phase": "asleep"}
)
WAKING = {**ASLEEP, "state": "waking", "reason": "starting bastion i-1: pending"}
REFUSED = {
    **ASLEEP,
    "state": "waiting",
    "usable": False,
    "lasting": True,
    "reason": "StartInstances is denied",
    "advice": "allow ec2:StartInstances",
}


@pytest.mark.parametrize("options", [("db",), ("--group", "x")])
def test_a_target_that_sleeps_is_started_for_whom_it_is_named(
    operator, capsys, options
):
    asleep, waking = ({**state, "groups": ["x"]} for state in (ASLEEP, WAKING))
    ready = tunnel_document(groups=["x"], bastion={"phase": "awake"})
    operator.documents = [document(asleep), document(waking), document(ready)]
    assert call(capsys, "wait", *options) == (0, "", "")
    assert operator.asked == ["wake db"]


def test_a_target_that_the_daemon_has_yet_to_find_may_sleep(operator, capsys):
    # It would serve a connection, which waits; but a person who names it wants it up.
    unknown = tunnel_document(state="starting", bastion={"phase": "unknown"})
    ready = tunnel_document(bastion={"phase": "awake"})
    operator.documents = [document(each) for each in (unknown, ASLEEP, WAKING, ready)]
    assert call(capsys, "wait", "db") == (0, "", "")
    assert operator.asked == ["wake db"]


def test_without_a_name_a_target_that_sleeps_is_left_asleep(operator, capsys):
    operator.documents = [document(ASLEEP)]
    assert call(capsys, "wait") == (0, "", "")
    assert operator.asked == []


def test_a_target_that_cannot_be_started_is_not_waited_for(operator, capsys):
    operator.documents = [document(ASLEEP), document(WAKING), document(REFUSED)]
    code, out, err = call(capsys, "wait", "db")
    assert (code, out) == (1, "")
    assert "StartInstances is denied; allow ec2:StartInstances" in err


def test_what_was_refused_before_is_tried_again_once(operator, capsys):
    operator.documents = [document(REFUSED), document(WAKING), document(REFUSED)]
    assert call(capsys, "wait", "db")[0] == 1
    assert operator.asked == ["wake db"]


def test_who_names_a_limit_waits_no_longer_for_a_target_that_starts(operator, capsys):
    operator.documents = [document(WAKING)]
    code, _, err = call(capsys, "wait", "db", "--timeout", "10ms")
    assert code == 1
    assert "not ready within 0.01 s" in err
