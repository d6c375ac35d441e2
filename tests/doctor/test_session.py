"""One session, as far as it goes."""

import asyncio
import threading

import pytest

from ssmtunneld.doctor.report import HOPS, Skipped
from ssmtunneld.doctor.session import DoctorChannel
from tests.doctor.conftest import Findings


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
    line = DoctorChannel(lambda: 0)
    with pytest.raises(Skipped, match="not measured"):
        await line.time_round_trip(1, 1)
    with pytest.raises(Skipped, match="only the connection's"):
        await line.measure_throughput(1, 1)


def test_an_old_agents_round_trip_is_that_of_its_handshake(surgery):
    with surgery.open(agent_version="3.0.100.0"):
        found = surgery.examine(host=None)
    assert found.of("round trip").text.endswith("ms to the agent and back")
    assert found.of("throughput").verdict == "skip"


def test_an_agent_that_acknowledges_nothing_is_named(theatre):
    theatre.aws.set_faults("down:lose-acks=1")
    found = theatre.examine(agent_patience=1.0)
    assert found.broken == ["round trip"]
    assert found.of("round trip").text == "the agent acknowledged nothing within 1 s"
    assert "restart or update" in found.of("round trip").cure


def test_a_long_way_is_a_warning_with_a_cure(theatre):
    theatre.aws.set_faults("delay=300ms")
    found = theatre.examine()
    assert found.broken == []
    assert found.of("round trip").verdict == "warn"
    assert "nearer" in found.of("round trip").cure


def test_a_network_that_loses_and_delays_is_a_warning_with_a_cure(theatre):
    theatre.aws.set_faults("up:drop=0.2,up:delay=1s,seed=7")
    found = theatre.examine()
    assert found.broken == []
    finding = found.of("throughput")
    assert finding.verdict == "warn"
    assert "messages sent more than once" in finding.text
    assert "MTU" in finding.cure


class Meanwhile:
    """Lets something happen once the hop before ``hop`` was told."""

    def __init__(self, hop, happen):
        self._before = HOPS[HOPS.index(hop) - 1]
        self._happen = happen
        self.found = Findings()

    def append(self, finding):
        self.found.append(finding)
        if finding.hop == self._before:
            self._happen()


def test_what_takes_nothing_any_more_is_named(theatre):
    told = Meanwhile("throughput", lambda: theatre.aws.add_faults("down:lose-acks=1"))
    asyncio.run(theatre.walk(told, patience=5.0))
    assert told.found.broken == ["throughput"]
    finding = told.found.of("throughput")
    assert finding.text == "the agent acknowledged nothing within 5 s"
    assert finding.cure


@pytest.mark.parametrize("hop", ["round trip", "throughput"])
def test_a_link_that_is_lost_meanwhile_is_where_it_was_lost(theatre, hop):
    def cut():
        theatre.aws.add_faults("delay=1s")
        theatre.aws.cut_websockets()

    told = Meanwhile(hop, cut)
    assert not asyncio.run(theatre.walk(told))
    assert told.found.broken == [hop]
    assert told.found.of(hop).cure
