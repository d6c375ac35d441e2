"""Effects: values that show no secrets."""

from dataclasses import FrozenInstanceError

import pytest

from ssmtunneld.errors import ChannelClosed
from ssmtunneld.protocol.events import Closed, Deliver, DialFailed, SendOpener, Transmit


def test_an_introduction_does_not_show_its_token():
    assert "canary" not in repr(SendOpener('{"TokenValue":"canary"}'))


def test_effects_compare_by_value():
    assert [Transmit(b"a"), Deliver(b"b")] == [Transmit(b"a"), Deliver(b"b")]
    assert Transmit(b"a") != Deliver(b"a")
    assert DialFailed() == DialFailed()


def test_facts_cannot_be_changed():
    closed = Closed(ChannelClosed())
    with pytest.raises(FrozenInstanceError):
        closed.error = ChannelClosed("other")
