import pytest

from tests.support.conformance import DuplexConformance
from tests.support.memory import memory_pair


class TestMemoryPair(DuplexConformance):
    @pytest.fixture
    async def pair(self):
        return memory_pair()


class TestMemoryPairLikeTheAgent(DuplexConformance):
    half_closes = False

    @pytest.fixture
    async def pair(self):
        return memory_pair(half_close=False)
