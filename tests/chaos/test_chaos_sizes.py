"""Trials of larger messages while everything else goes wrong, and uploads in them.

No byte is wrong, and no connection is lost to a trial: who judges excuses nobody whose
session was not killed, and a session that was lost in a trial was not.
"""

import pytest

from ssmtunneld.protocol.channel import DataChannel
from ssmtunneld.protocol.message_size import MessageSize
from tests.chaos.world import Scale, run_world

LIMITS = ["", "5000:closed", "5000:1009", "5000:silence"]
"""The service's largest message in bytes, and its reaction to a larger one."""


@pytest.fixture
def large(monkeypatch):
    """Let uploads be large at once; return the sizes of users' large payloads."""
    found, send = [], DataChannel.send

    def be_large(self, *measured):
        self.size = self.limit

    monkeypatch.setattr(MessageSize, "choose", be_large)

    def noting(self, payload, now):
        # A trial has nothing but NOPs, whose bytes repeat every eight.
        if len(payload) > 1024 and payload[:8] != payload[8:16]:
            found.append(len(payload))
        return send(self, payload, now)

    monkeypatch.setattr(DataChannel, "send", noting)
    return found


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("seed", "forgetful"), [(30, True), (31, False)])
def test_no_connection_is_lost_to_a_trial(
    seed, forgetful, limit, tmp_path, record_property, large
):
    scale = Scale(max_message=limit, message_size="32KiB", forgetful=forgetful)
    report = run_world(seed, tmp_path, scale)
    record_property("report", report.line())
    assert report.problems == [], report.text()
    assert report.connections > 0
    assert report.trials["accepted"] > 0
    if limit:
        assert report.trials["lost"] > 0
        assert max(large, default=0) <= 5000
    if not forgetful:
        assert large, report.line()


@pytest.mark.parametrize(("seed", "limit"), list(enumerate(LIMITS, 33)))
def test_a_network_that_becomes_another_loses_nothing(
    seed, limit, tmp_path, record_property, large
):
    scale = Scale(max_message=limit, message_size="32KiB", moving=True)
    report = run_world(seed, tmp_path, scale)
    record_property("report", report.line())
    assert report.problems == [], report.text()
    assert report.connections > 0
    assert report.moves > 0
    assert large, report.line()


@pytest.mark.parametrize("beyond", ["closed", "1009", "silence"])
def test_where_nothing_larger_is_taken_everything_is_as_before(
    beyond, tmp_path, record_property, large
):
    report = run_world(32, tmp_path, Scale(max_message=f"1024:{beyond}"))
    record_property("report", report.line())
    assert report.problems == [], report.text()
    assert report.trials["accepted"] == 0
    assert large == []
    assert set(report.sizes) == {1024}
