"""EC2 Instance Connect for one connection: its key, told to the instance."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.instance_connect import FRESH, LIFETIME, check_instance, push_key
from ssmtunneld.aws.ssm import ControlRegistry
from ssmtunneld.aws.targets.resolver import AwsCaller
from ssmtunneld.config import TunnelSettings
from ssmtunneld.config.targets import may_be_instance, parse_target
from ssmtunneld.config.users import check_instance_user
from ssmtunneld.errors import ConfigError
from ssmtunneld.ssh.host_names import split_region
from ssmtunneld.ssh.keys import Lease, folder_name

if TYPE_CHECKING:
    from ssmtunneld.aws.client import AwsClient


class InstanceConnectLogin:
    """Makes the key of one connection known to the instance.

    Args:
        root: Where keys are kept.
        user: Who logs in there.
        host: What was asked for: a target, by id or by what it is found by.

    Raises:
        ConfigError: It is not an EC2 instance, or nobody can have that name.
        KeyUnavailable: There is no key.
    """

    def __init__(self, root: Path, user: str, host: str) -> None:
        _check(user, host)
        self._user = user
        self._lease = Lease(root, folder_name(user, host))

    def end(self) -> None:
        """Give the key up, so that it is deleted; idempotent."""
        self._lease.release()

    async def make(self, asking: AwsCaller, target: str) -> None:
        """Push the key to ``target``, unless that was done moments ago.

        The key is given up by itself once the instance accepts it no more. Cancelling
        only stops the waiting.

        Args:
            asking: Makes the calls.
            target: The id of the instance.

        Raises:
            AwsError: In the kinds of ``Control``.
        """
        check_instance(target)
        if not self._lease.is_fresh(FRESH):
            await asking.ask(lambda account: self._push(account, target))
        asyncio.get_running_loop().call_later(LIFETIME, self.end)

    async def make_alone(self, settings: Callable[[], TunnelSettings]) -> None:
        """Do the same with credentials of its own; ``settings`` name the instance.

        Raises:
            AwsError: In the kinds of ``Control``.
            ConfigError: The settings cannot be used.
        """
        controls = ControlRegistry(named=False)
        try:
            tunnel = settings()
            await self.make(controls.get(Identity.of(tunnel)), tunnel.target)
        finally:
            await controls.close()

    def _push(self, account: "AwsClient", target: str) -> None:
        with self._lease.pushing(FRESH) as due:
            if due:
                push_key(account, target, self._user, self._lease.public_key)


def _check(user: str, host: str) -> None:
    try:
        check_instance_user(user)
    except ValueError as error:
        raise ConfigError([f"{user!r} {error}"]) from None
    try:
        target = parse_target(split_region(host)[0])
    except ValueError as error:
        raise ConfigError([f"{host} {error}"]) from None
    if not may_be_instance(target):
        raise ConfigError(
            [f"{host} is not an EC2 instance, and only those accept keys this way"]
        )
