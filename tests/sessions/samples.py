"""Statistics of a channel made by hand."""

from dataclasses import replace

from ssmtunneld.protocol.channel import ChannelStatistics
from ssmtunneld.protocol.states import State


def channel_statistics(**changes: object) -> ChannelStatistics:
    """Return those of an open channel with nothing under way, but for ``changes``."""
    usual = ChannelStatistics(
        state=State.OPEN,
        unacked=0,
        unacked_bytes=0,
        acknowledged=0,
        window=64,
        early=0,
        rtt=None,
        retransmitted=0,
        duplicates=0,
        malformed=0,
        paused=False,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]  # the test knows them
