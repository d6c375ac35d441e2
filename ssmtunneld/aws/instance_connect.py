"""EC2 Instance Connect: a public key that an instance's sshd accepts for a minute."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import AwsError, RequestRejected, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ssmtunneld.aws.client import AwsClient
    from ssmtunneld.aws.targets.resolver import AwsCaller
    from ssmtunneld.base.log import EventLog

LIFETIME: Final = 60.0
"""Seconds for which the instance accepts a key after each push."""
FRESH: Final = 20.0
"""Seconds for which a push serves whoever connects: what is left of its lifetime is
enough for a login."""

_OPERATION: Final = "SendSSHPublicKey"
_KINDS: Final = ("ssh-ed25519", "ssh-rsa")
"""Kinds of key that the service accepts."""
_USUAL_KEYS: Final = ("id_ed25519.pub", "id_rsa.pub")
_LARGEST_KEY: Final = 4096


def check_instance(target: str) -> None:
    """Make sure that ``target`` is what Instance Connect is for.

    Raises:
        RequestRejected: It is not an EC2 instance.
    """
    if not target.startswith("i-"):
        raise RequestRejected(
            _OPERATION,
            clean("NotAnInstance"),
            clean(
                "EC2 Instance Connect is only for EC2 instances (i-...), not for "
                f"{target}"
            ),
            "remove instance_connect, and install your public key on the target",
        )


def push_key(account: AwsClient, instance: str, user: str, public_key: str) -> None:
    """Let ``user`` of an instance log in with a key for ``LIFETIME`` seconds.

    Blocks; must be called in a worker thread.

    Args:
        account: Who pushes; needs ``ec2-instance-connect:SendSSHPublicKey``.
        instance: ``i-...``.
        user: Of the instance's operating system.
        public_key: One line, as in a ``.pub`` file.

    Raises:
        AwsError: In the kinds of protocol 1.7.
    """
    check_instance(instance)
    answer = account.call_service(
        "ec2-instance-connect",
        _OPERATION,
        InstanceId=instance,
        InstanceOSUser=user,
        SSHPublicKey=public_key,
    )
    if not answer.is_true("Success"):
        raise ServiceUnavailable(
            _OPERATION,
            clean("NotPushed"),
            clean(f"{instance} did not accept the key"),
            "check that the instance runs, and that its sshd asks EC2 Instance Connect",
        )


def read_public_key(path: Path | None) -> str:
    """Return the key in a ``.pub`` file, without its comment. Blocks.

    Args:
        path: The file; None for the one that ssh has for this user by default.

    Raises:
        RequestRejected: There is no such key; nothing of the file's content is told.
    """
    places = [Path("~/.ssh", name) for name in _USUAL_KEYS] if path is None else [path]
    for place in places:
        try:
            with place.expanduser().open(encoding="utf-8") as file:
                words = file.read(_LARGEST_KEY).split()
        except (OSError, RuntimeError, UnicodeDecodeError):
            continue
        if len(words) >= 2 and words[0] in _KINDS:
            return " ".join(words[:2])
    raise RequestRejected(
        _OPERATION,
        clean("NoPublicKey"),
        clean(
            f"there is no public key ({' or '.join(_KINDS)}) in "
            f"{' or '.join(map(str, places))}"
        ),
        "name the .pub file of your key in instance_connect_key",
    )


class KeyPusher:
    """Pushes a key to instances, not more often than needed.

    Args:
        asking: Makes the calls.
        log: Where it says what it did, and what it could not do.
    """

    def __init__(self, asking: AwsCaller, log: EventLog) -> None:
        self._asking = asking
        self._log = log
        self._pushed: dict[tuple[str, str, Path | None], float] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def push(self, instances: Iterable[str], user: str, key: Path | None) -> None:
        """Let ``user`` log in to ``instances``; say in the log if that is impossible.

        Whoever connects can have another way to log in, so nothing is raised. Returns
        when all of them have the key. Cancelling is safe.

        Args:
            instances: Those that a connection can lead to.
            user: Of their operating system.
            key: The public key's file; None for the usual ones.
        """
        async with asyncio.TaskGroup() as tasks:
            for instance in instances:
                pushing = self._push(instance, user, key)
                tasks.create_task(pushing, name=f"key for {instance}")

    async def _push(self, instance: str, user: str, key: Path | None) -> None:
        loop = asyncio.get_running_loop()
        what = instance, user, key
        async with self._turns[instance]:
            if loop.time() < self._pushed.get(what, float("-inf")) + FRESH:
                return
            try:
                await self._asking.ask(
                    lambda account: push_key(
                        account, instance, user, read_public_key(key)
                    )
                )
            except AwsError as error:
                self._log.warning(
                    "key.push_failed",
                    target=instance,
                    reason=str(error),
                    advice=error.advice,
                )
            else:
                self._pushed[what] = loop.time()
                self._log.debug("key.pushed", target=instance, user=user)
