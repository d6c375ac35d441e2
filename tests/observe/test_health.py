"""Health checks, and the answers of a daemon in any state."""

import pytest

from ssmtunneld.observe.health import readiness, readiness_of, startup
from tests.observe.samples import daemon, tunnel

DOWN = {"state": "waiting", "reason": "no agent"}


@pytest.mark.parametrize(
    ("status", "passed"),
    [
        (daemon(), True),
        (daemon(tunnel(), tunnel("lazy", "idle")), True),
        (daemon(tunnel(), tunnel("down", "waiting")), False),
        (daemon(tunnel(), tunnel("down", "waiting", required=False)), True),
        (daemon(tunnel(state="resuming", usable=True)), True),
        (daemon(tunnel(), draining=True), False),
        (daemon(tunnel(), tunnel("off", "disabled")), True),
    ],
)
def test_a_daemon_is_ready_when_every_required_tunnel_is_usable(status, passed):
    assert readiness(status).passed is passed
    assert status.ready is passed


def test_a_yes_is_one_word_unless_more_is_asked_for():
    health = readiness(daemon(tunnel(), tunnel("x", required=False, **DOWN)))
    assert health.text(verbose=False) == "ok\n"
    assert health.text(verbose=True) == (
        "[+]db ok\n[-]x failed: waiting: no agent (not required)\nreadyz check passed\n"
    )


@pytest.mark.parametrize("verbose", [True, False])
def test_a_no_says_why(verbose):
    health = readiness(daemon(tunnel(), tunnel("x", **DOWN)))
    assert health.text(verbose=verbose) == (
        "[+]db ok\n[-]x failed: waiting: no agent\nreadyz check failed\n"
    )


def test_a_draining_daemon_says_that():
    text = readiness(daemon(tunnel(), draining=True)).text(verbose=False)
    assert text == "[+]db ok\n[-]daemon failed: draining\nreadyz check failed\n"


def test_a_program_gets_the_same_as_json():
    health = readiness(daemon(tunnel("x", **DOWN)))
    assert health.as_document() == {
        "passed": False,
        "draining": False,
        "tunnels": [
            {
                "tunnel": "x",
                "state": "waiting",
                "passed": False,
                "required": True,
                "reason": "no agent",
            }
        ],
    }


def test_one_tunnel_can_be_asked_for_whether_it_is_required_or_not():
    status = daemon(tunnel(), tunnel("x", required=False, **DOWN))
    assert readiness_of(status, "db").passed
    assert not readiness_of(status, "x").passed
    assert readiness_of(status, "nobody") is None


def test_it_has_started_when_it_listens_whatever_aws_says():
    assert startup(daemon(tunnel("x", **DOWN))).passed
    unbound = tunnel("x", "unbound", listen=())
    health = startup(daemon(tunnel(), unbound))
    assert not health.passed
    assert health.text(verbose=False).endswith("startupz check failed\n")
    assert startup(daemon(tunnel("x", "unbound", listen=(), required=False))).passed


def test_a_disabled_tunnel_is_no_part_of_the_answer_unless_it_is_asked_for():
    status = daemon(tunnel(), tunnel("off", "disabled", listen=()))
    for health in (readiness(status), startup(status)):
        assert health.passed
        assert [check.tunnel for check in health.checks] == ["db"]
    assert not readiness_of(status, "off").passed
