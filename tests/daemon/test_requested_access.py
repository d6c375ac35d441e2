"""The access of a tunnel to a node that takes an approval."""

import pytest

from ssmtunneld.aws.ssm import ControlRegistry
from ssmtunneld.config import TunnelSettings
from ssmtunneld.daemon.requested_access import request_access
from ssmtunneld.errors import AccessMissing, TunnelError
from ssmtunneld.sessions.targeting import FixedTargetSelector
from tests.integration import world

TARGET = "i-0123456789abcdef0"
TUNNEL = TunnelSettings.model_validate(
    {"name": "db", "listen": "5432", "target": TARGET, "port": 5432}
)


@pytest.fixture
async def controls(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)
    controls = ControlRegistry()
    yield controls
    await controls.close()


def access(controls, *, named):
    return request_access(
        TUNNEL, controls, FixedTargetSelector(TARGET), None, named=named
    )


@pytest.mark.parametrize(
    ("named", "advice"),
    [(True, "ssmtunneld request db --reason TEXT"), (False, "on a terminal")],
)
async def test_without_an_approval_it_says_how_to_ask_for_one(controls, named, advice):
    found = access(controls, named=named)
    assert isinstance(found.node.missing, AccessMissing)
    with pytest.raises(TunnelError) as caught:
        await found.control.resume("s-1")
    assert advice in caught.value.advice


async def test_whoever_asks_is_the_identity_of_the_tunnel(controls):
    found = access(controls, named=True)
    assert found.control is not controls.get(found.control._identity)
    assert found.control._requester is controls.get(found.control._identity)
