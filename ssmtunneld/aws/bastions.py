"""Instances that are started on demand: EC2's calls for them.

Everything here blocks and must be called in worker threads, or where no loop runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ssmtunneld.aws.api.answers import INSTANCE_ID
from ssmtunneld.aws.targets.search import instances_of
from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import AwsError, RequestRejected, TargetNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmtunneld.aws.client import AwsClient
    from ssmtunneld.config.targets import BastionTarget

MARK_PREFIX: Final = "ssmtunneld:"
"""Start of the keys of tags that say who has started an instance, and who uses it."""
_TAG_LIMIT: Final = 50
"""Tags of one instance, which is EC2's limit."""
_SHOWN: Final = 3
_DRY: Final = "DryRunOperation"
"""EC2's error where a call would have been allowed."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as EC2 describes it."""

    id: str
    state: str
    """``pending``, ``running``, ``stopping``, ``stopped``."""
    launched: float
    """Its latest launch, in whole Unix seconds."""
    marks: Mapping[str, str]
    """Its tags whose keys begin with `MARK_PREFIX`."""


def find_instance(account: AwsClient, target: BastionTarget) -> Instance:
    """Return the one instance that ``target`` stands for, running or stopped.

    Raises:
        AwsError: AWS refuses or does not answer.
        TargetNotFound: There is none, or more than one.
    """
    found = instances_of(account, target)
    instance = next(found, None)
    others = [str(other.text("InstanceId")) for other in found]
    if instance is None:
        raise _not_one(account, target, [])
    if others:
        raise _not_one(account, target, [str(instance.text("InstanceId")), *others])
    tags = instance.structures("Tags")[:_TAG_LIMIT]
    marks = {str(tag.text("Key")): str(tag.text("Value")) for tag in tags}
    return Instance(
        instance.matching("InstanceId", INSTANCE_ID),
        str(instance.structure("State").text("Name")),
        float(int(instance.moment("LaunchTime"))),
        {key: text for key, text in marks.items() if key.startswith(MARK_PREFIX)},
    )


def _not_one(
    account: AwsClient, target: BastionTarget, ids: list[str]
) -> TargetNotFound:
    where = "" if account.place is None else f" in {account.place.region}"
    if not ids:
        return TargetNotFound(
            "DescribeInstances",
            clean("NothingFound"),
            clean(f"there is no instance {target}{where}, running or stopped"),
            "check spelling, region and profile",
        )
    more = ", ..." if len(ids) > _SHOWN else ""
    return TargetNotFound(
        "DescribeInstances",
        clean("Ambiguous"),
        clean(f"{target} are {len(ids)} instances: {', '.join(ids[:_SHOWN])}{more}"),
        "name one of them in target: start_target is for one instance",
    )


def has_agent(account: AwsClient, instance: str) -> bool:
    """Return True if the service hears of the instance's agent.

    Raises:
        AwsError: AWS refuses or does not answer.
    """
    answer = account.call("GetConnectionStatus", Target=instance)
    return answer.text("Status").lower() == "connected"


def start_instance(account: AwsClient, instance: str) -> bool:
    """Start an instance; return False if it was starting or running before that.

    Raises:
        AwsError: AWS refuses, or does not answer: then it can still start.
    """
    answer = account.call_service("ec2", "StartInstances", InstanceIds=[instance])
    changes = answer.structures("StartingInstances")
    before = {str(c.structure("PreviousState").text("Name")) for c in changes}
    return before == {"stopped"}


def may_start(account: AwsClient, instance: str) -> None:
    """Return if the caller may start the instance, without starting it.

    Raises:
        AwsError: They may not, or AWS does not answer.
    """
    _run_dry(account, "ec2", "StartInstances", instance)


def may_stop(account: AwsClient, instance: str) -> None:
    """Return if the caller may stop the instance, without stopping it.

    Ask for the start first: that harms no instance, and finds out a server that does
    not know dry runs.

    Raises:
        AwsError: They may not, or AWS does not answer.
    """
    _run_dry(account, "ec2", "StopInstances", instance)


def _run_dry(account: AwsClient, service: str, operation: str, instance: str) -> None:
    try:
        account.call_service(service, operation, InstanceIds=[instance], DryRun=True)
    except AwsError as error:
        if error.code != _DRY:
            raise
        return
    raise RequestRejected(
        operation,
        clean("NotDry"),
        clean("the server does not know DryRun"),
        "check what answers there: it might have done it",
    )


def stop_instance(account: AwsClient, instance: str) -> None:
    """Stop an instance.

    Raises:
        AwsError: AWS refuses, or does not answer: then it can still stop.
    """
    account.call_service("ec2", "StopInstances", InstanceIds=[instance])


def write_tag(account: AwsClient, instance: str, key: str, value: str) -> None:
    """Give an instance a tag, in the place of another one with this key.

    Raises:
        AwsError: AWS refuses, or does not answer: then the tag can still be set.
    """
    tag = {"Key": key, "Value": value}
    account.call_service("ec2", "CreateTags", Resources=[instance], Tags=[tag])


def erase_tag(account: AwsClient, instance: str, key: str) -> None:
    """Take a tag from an instance; one that it does not have is fine.

    Raises:
        AwsError: AWS refuses or does not answer.
    """
    tag = {"Key": key}
    account.call_service("ec2", "DeleteTags", Resources=[instance], Tags=[tag])


def erase_tags_as_seen(
    account: AwsClient, instance: str, tags: Mapping[str, str]
) -> None:
    """Take tags from an instance that still have these values; others stay.

    Raises:
        AwsError: AWS refuses or does not answer.
    """
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    account.call_service("ec2", "DeleteTags", Resources=[instance], Tags=listed)
