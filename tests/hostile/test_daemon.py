"""Generated conversations of a hostile service with a whole daemon.

A good tunnel beside it is used all the time, and does not notice.
``SSMTUNNELD_HOSTILE_SEED`` chooses other conversations.
"""

import os
from random import Random

import pytest

from tests.hostile.gateway import HostileService, play
from tests.hostile.scene import scene
from tests.support.hostile import FAR_DEEDS, SAYINGS

COUNT = 1000
SEED = int(os.environ.get("SSMTUNNELD_HOSTILE_SEED") or 12)
# A session that fails is started again later and later: many begin at once.
TUNNELS, SESSIONS = 100, 5
PREFIXES = (
    *[["upgrade", "hello"]] * 6,
    *[["upgrade", "documents"]] * 2,
    ["upgrade"],
    ["odd upgrade"],
)


def conversation(number):
    """Return the steps of one conversation."""
    random = Random(f"{SEED} {number}")
    kinds = [
        *random.choice(PREFIXES),
        *random.choices((*SAYINGS, *SAYINGS, *FAR_DEEDS), k=random.randrange(14)),
    ]
    return [(kind, random.getrandbits(32)) for kind in kinds]


@pytest.mark.timeout(900)
async def test_a_good_tunnel_does_not_notice_hostile_ones(tmp_path):
    async def converse(_, number, reader, writer, key):
        await play(conversation(number), reader, writer, key)

    settings = {"warm": SESSIONS, "max_sessions": SESSIONS}
    with HostileService(converse) as service:
        async with scene(tmp_path, service, TUNNELS, **settings) as found:
            await service.ended(COUNT)
            found.check(await found.status())
    assert len(found.witness.times) > 50
    assert found.witness.opened > 2
