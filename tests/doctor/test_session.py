"""One session, as far as it goes."""

import threading

import pytest

from ssmtunneld.doctor.report import Skipped
from ssmtunneld.doctor.session import Line


def test_an_agent_that_does_not_suit_is_named_by_its_handshake(surgery):
    # A task's agent is not known before; this one would take no host.
    with surgery.open(agent_version="3.1.1000.0"):
        found = surgery.examine(target=f"ecs:prod_{'0' * 32}_{'0' * 32}-123")
    assert found.broken == ["handshake"]
    assert found.of("handshake").cure


def test_a_destination_that_never_answers_is_named(theatre):
    theatre.aws.set_faults("stall-dial")
    found = theatre.examine(patience=0.5)
    assert found.broken == ["destination"]
    assert found.of("destination").text == "no answer within 0.5 s"


def test_what_the_tunnel_is_probed_with_is_what_the_doctor_says(theatre):
    found = theatre.examine(probe="banner:SSH-", patience=0.5)
    assert found.broken == ["destination"]


def test_a_link_that_is_lost_meanwhile_breaks_the_conversation(theatre):
    def cut_when_connected():
        connection, _ = theatre.listening.accept()
        with connection:
            theatre.aws.cut_websockets()

    thread = threading.Thread(target=cut_when_connected)
    thread.start()
    found = theatre.examine(probe="banner:SSH-")
    thread.join()
    assert found.broken == ["destination"]
    assert "no answer" not in found.of("destination").text


async def test_before_anything_was_acknowledged_there_is_no_time():
    line = Line(lambda: 0)
    with pytest.raises(Skipped, match="nothing was measured"):
        line.measure()
