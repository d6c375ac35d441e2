"""The target that needs no search."""

from ssmtunneld.sessions.targeting import FixedTargetSelector


async def test_an_id_is_always_the_same():
    selector = FixedTargetSelector("i-1")
    selector.avoid("i-1")
    assert await selector.choose() == "i-1"
