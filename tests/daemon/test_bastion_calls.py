"""An instance that is started on demand, made of the settings of its tunnel."""

import getpass

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.ssm import ControlRegistry
from ssmtunneld.config import TunnelSettings
from ssmtunneld.config.targets import bastion_target
from ssmtunneld.daemon.bastion_calls import new_bastion

TARGET = "i-0123456789abcdef0"


def bastion_of(control):
    given = {"name": "x", "listen": "5432", "target": TARGET, "port": 5432}
    tunnel = TunnelSettings.model_validate({**given, "start_target": True})
    target = bastion_target(TARGET)
    return new_bastion(tunnel, target, control, {"mine"}.__contains__, "0123")


async def test_its_mark_has_a_name_of_its_own():
    controls = ControlRegistry()
    assert bastion_of(controls.get(Identity()))._key == "ssmtunneld:0123"
    await controls.close()


async def test_a_user_without_a_name_is_a_number(monkeypatch):
    def fail():
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", fail)
    controls = ControlRegistry()
    user, _, _ = bastion_of(controls.get(Identity()))._by.partition("@")
    assert user.isdecimal()
    await controls.close()
