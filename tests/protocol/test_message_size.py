"""An upload's messages are as large as leave in 2 ms, and never above the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.protocol.message_size import WAIT, MessageSize

MIB = 1 << 20


def _chosen(rate, limit=32768):
    """Return the size for ``rate`` bytes per second."""
    size = MessageSize()
    size.limit = limit
    size.choose(rate)
    return size


def test_without_a_measurement_messages_are_of_the_usual_size():
    size = MessageSize()
    size.limit = 8192
    assert size.size == MAX_PAYLOAD


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(0, 1024), (0.1 * MIB, 1024), (1 * MIB, 2048), (2 * MIB, 4096), (50 * MIB, 8192)],
)
def test_a_message_leaves_within_two_milliseconds(rate, expected):
    assert _chosen(rate, limit=8192).size == expected


@given(st.floats(0, 1e9), st.integers(1024, 32768))
def test_no_message_takes_longer_or_is_above_the_limit(rate, limit):
    size = _chosen(rate, limit).size
    assert MAX_PAYLOAD <= size <= limit
    assert size == MAX_PAYLOAD or size <= rate * WAIT


def test_a_path_that_becomes_slow_gets_smaller_messages():
    size = _chosen(50 * MIB)
    size.choose(MIB)
    assert size.size == 2048


def test_a_lower_limit_applies_at_once():
    size = _chosen(50 * MIB)
    size.limit = 4096
    assert (size.size, size.limit) == (4096, 4096)
    size.limit = 1
    assert (size.size, size.limit) == (MAX_PAYLOAD, MAX_PAYLOAD)


def test_another_path_begins_with_small_messages():
    size = _chosen(50 * MIB)
    size.reset()
    assert size.size == MAX_PAYLOAD
