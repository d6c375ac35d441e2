"""Errors for searches that find nothing online (blocking, as searches are)."""

from __future__ import annotations

import shlex
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from ssmtunneld.aws.targets.search import INSTANCES_PER_PAGE, SearchResult, pages
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.nearest import nearest
from ssmtunneld.config.targets import GroupTarget, ServiceTarget, TaggedTarget
from ssmtunneld.errors import AwsError, TargetNotFound, TargetOffline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ssmtunneld.aws.client import AwsClient
    from ssmtunneld.config.targets import SearchedTarget

_NAMES: Final = 5000
"""Names among which to look for similar ones."""
_SHOWN: Final = 3


def explain(
    account: AwsClient, target: SearchedTarget, found: SearchResult
) -> TargetNotFound:
    """Return why ``found`` is of no use: where, as whom, how many, and what is nearest.

    The further calls for that can fail: then the explanation is shorter.
    """
    where = _where(account, found)
    offline = found.candidates
    if not offline and found.desired:
        message = f"{found.searched}: none found {where} yet, of {found.desired}"
        return TargetOffline(
            found.operation, clean("NoneYet"), clean(message), _await(target)
        )
    if not offline:
        message = f"{found.searched}: none found {where}"
        return TargetNotFound(
            found.operation,
            clean("NothingFound"),
            clean(message),
            _SCALE_UP if found.desired == 0 else _propose(account, target),
        )
    shown = ", ".join(f"{c.id} ({c.state})" for c in offline[:_SHOWN])
    more = f" and {len(offline) - _SHOWN} more" if len(offline) > _SHOWN else ""
    message = f"{found.searched}: {len(offline)} found {where}, none online: {shown}"
    advice = _CHECK_TASK if isinstance(target, ServiceTarget) else _CHECK_AGENT
    return TargetOffline(
        found.operation, clean("NoneOnline"), clean(message + more), advice
    )


_CHECK_IT: Final = "check spelling, region and profile, and that it is running"
_SCALE_UP: Final = "scale it up: it is there, and is to have none"
_CHECK_AGENT: Final = (
    "check that the SSM agent runs there, reaches Systems Manager, and that the "
    "instance's role has the policy AmazonSSMManagedInstanceCore"
)
_CHECK_TASK: Final = (
    "check that the service has enableExecuteCommand and its task role allows "
    "ssmmessages, and deploy it again"
)


def _await(target: SearchedTarget) -> str:
    """Return what tells why a group or service has started none."""
    match target:
        case GroupTarget(name):
            asked = "autoscaling describe-scaling-activities"
            command = f"aws {asked} --auto-scaling-group-name {shlex.quote(name)}"
        case ServiceTarget(cluster, service):
            which = f"--cluster {cluster} --services {service}"
            command = f"aws ecs describe-services {which}"
        case _:
            return _CHECK_IT
    return f"wait; to see why none starts: {command}"


def _propose(account: AwsClient, target: SearchedTarget) -> str:
    near = _nearest(account, target)
    return f"did you mean {' or '.join(near)}?" if near else _CHECK_IT


def _where(account: AwsClient, found: SearchResult) -> str:
    region = account.place.region if account.place else ""
    number = found.account
    if not number:
        with suppress(AwsError):
            number = account.call_service("sts", "GetCallerIdentity").text("Account")
    known = {"profile": account.profile, "account": number}
    whom = ", ".join(f"{what} {name}" for what, name in known.items() if name)
    return f"in {region} ({whom})" if whom else f"in {region}"


def _nearest(account: AwsClient, target: SearchedTarget) -> list[str]:
    """Return targets that exist and are spelled similarly."""
    with suppress(AwsError):
        match target:
            case TaggedTarget(tags):
                return [
                    near
                    for key, value in tags
                    for near in _similar_tags(account, key, value)
                ]
            case GroupTarget(name):
                answers = pages(account, "autoscaling", "DescribeAutoScalingGroups")
                names = (
                    group.text("AutoScalingGroupName")
                    for page in answers
                    for group in page.structures("AutoScalingGroups")
                )
                return [f"asg:{near}" for near in _similar(name, names)]
            case ServiceTarget():
                return _similar_services(account, target)
            case _:
                pass
    return []


def _similar_tags(account: AwsClient, key: str, value: str) -> list[str]:
    answers = pages(
        account,
        "ec2",
        "DescribeInstances",
        MaxResults=INSTANCES_PER_PAGE,
        Filters=[
            {"Name": "tag-key", "Values": [key]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ],
    )
    values = (
        tag.text("Value")
        for page in answers
        for reservation in page.structures("Reservations")
        for instance in reservation.structures("Instances")
        for tag in instance.structures("Tags")
        if tag.text("Key") == key
    )
    kind = "name:" if key == "Name" else f"tag:{key}="
    return [f"{kind}{near}" for near in _similar(value, values)]


def _similar_services(account: AwsClient, target: ServiceTarget) -> list[str]:
    cluster, service = target.cluster, target.service
    container = "" if target.container is None else f"/{target.container}"
    try:
        answers = pages(account, "ecs", "ListServices", cluster=cluster)
        arns = (arn for page in answers for arn in page.texts("serviceArns"))
        near = _similar(service, map(_last_part, arns))
        return [f"ecs:{cluster}/{name}{container}" for name in near]
    except AwsError as error:
        if error.code != "ClusterNotFoundException":
            raise
    answers = pages(account, "ecs", "ListClusters")
    arns = (arn for page in answers for arn in page.texts("clusterArns"))
    near = _similar(cluster, map(_last_part, arns))
    return [f"ecs:{name}/{service}{container}" for name in near]


def _last_part(arn: str) -> str:
    return arn.rpartition("/")[2]


def _similar(wanted: str, names: Iterable[str]) -> list[str]:
    """Return at most three of ``names``, the nearest first, whatever their case."""
    by_key = {name.casefold(): name for name in islice(names, _NAMES)}
    near = nearest(wanted.casefold(), by_key, _SHOWN)
    return [by_key[key] for key in near if by_key[key] != wanted]
