"""What a target is found by, asked of AWS: instances, managed nodes, ECS tasks.

Everything here blocks and is to be called in worker threads; ``aws/resolver.py`` does,
one search at a time and no more than needed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, assert_never

from ssmtunneld.config.targets import (
    AddressTarget,
    GroupTarget,
    HostTarget,
    SearchedTarget,
    ServiceTarget,
    TaggedTarget,
)
from ssmtunneld.errors import AwsError, TargetNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ssmtunneld.aws.client import Account

_PAGE_LIMIT: Final = 20
"""Pages of one answer: of 1000 instances or 100 tasks, far above what a mapping can
mean; a bound against endless answers."""
_LIVING: Final = ("pending", "running")
_SEARCHED_STATES: Final = {"Name": "instance-state-name", "Values": list(_LIVING)}
_ADDRESS_FILTERS: Final = {
    4: "private-ip-address",
    6: "network-interface.ipv6-addresses.ipv6-address",
}
_NODES_PER_CALL: Final = 40
"""InstanceIds of DescribeInstanceInformation: AWS documents 40 values of a filter."""
_TASKS_PER_CALL: Final = 100
"""DescribeTasks' maximum."""
_AGENT: Final = "ExecuteCommandAgent"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that matches."""

    id: str
    """What StartSession takes."""
    born: float = 0.0
    """When it was started, in Unix seconds; 0 if nobody says."""
    online: bool = False
    """Whether its agent can be reached, as far as the service knows."""
    state: str = ""
    """Why it is not online, in few words."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found."""

    searched: str
    """What was looked for, in words: ``instances with tag Role=bastion``."""
    candidates: tuple[Candidate, ...] = ()
    """The oldest first."""
    account: str = ""
    """The account's number, where an answer told it."""
    operation: str = "DescribeInstances"
    """What was asked last."""

    @property
    def online(self) -> tuple[Candidate, ...]:
        """Those that a session can be started to."""
        return tuple(c for c in self.candidates if c.online)


class Fate(Enum):
    """What has become of something that a search finds no more."""

    LIVES = auto()
    """It still runs: what it serves may go on."""
    GONE = auto()
    """It is over, and so is whatever went through it."""


def search(account: Account, target: SearchedTarget) -> Found:
    """Return everything that ``target`` stands for now, online or not.

    Raises:
        AwsError: In the kinds of protocol 1.7.
    """
    match target:
        case TaggedTarget(tags):
            return _find_tagged(account, tags)
        case AddressTarget(address):
            found = Found(f"instance with private address {address}")
            key = _ADDRESS_FILTERS[address.version]
            return _find_instances(account, found, [_filter(key, str(address))])
        case HostTarget(name):
            found = Found(f"instance with private DNS name {name}")
            return _find_instances(account, found, [_filter("private-dns-name", name)])
        case GroupTarget(name):
            return _find_group(account, name)
        case ServiceTarget():
            return _find_tasks(account, target)
        case _:
            assert_never(target)


def learn_fates(account: Account, ids: Iterable[str]) -> dict[str, Fate]:
    """Return what became of targets, by id.

    What nobody can say anything of, such as a managed node, is taken to live.

    Raises:
        AwsError: In the kinds of protocol 1.7.
    """
    fates = dict.fromkeys(ids, Fate.LIVES)
    instances = [i for i in fates if i.startswith("i-")]
    if instances:
        running = {
            text(instance, "InstanceId")
            for _, instance in _instances(account, [_filter("instance-id", *instances)])
            if _state(instance) in _LIVING
        }
        fates.update((i, Fate.GONE) for i in instances if i not in running)
    for cluster, tasks in _by_cluster(fates).items():
        living = {
            c.id
            for _, c in _containers(account, cluster, tasks)
            if c.state not in _OVER
        }
        fates.update(
            (i, Fate.GONE)
            for i in fates
            if i.startswith(f"ecs:{cluster}_") and i not in living
        )
    return fates


def text(answer: Mapping[str, Any], name: str) -> str:
    """Return a text of ``answer``, empty if there is none."""
    value = answer.get(name)
    return value if isinstance(value, str) else ""


def pages(
    account: Account,
    service: str,
    operation: str,
    key: str,
    *,
    limit: int = _PAGE_LIMIT,
    **parameters: object,
) -> Iterator[Mapping[str, Any]]:
    """Yield the items of a list that comes in at most ``limit`` pages.

    Raises:
        AwsError: In the kinds of protocol 1.7.
    """
    token_key = "nextToken" if service == "ecs" else "NextToken"
    for _ in range(limit):
        answer = account.call_service(service, operation, **parameters)
        items = answer.get(key)
        yield from items if isinstance(items, list) else ()
        token = text(answer, token_key)
        if not token:
            return
        parameters = {**parameters, token_key: token}


def _filter(name: str, *values: str) -> dict[str, object]:
    return {"Name": name, "Values": list(values)}


# Instances.


def _find_tagged(account: Account, tags: Sequence[tuple[str, str]]) -> Found:
    words = " and ".join(f"tag {key}={value}" for key, value in tags)
    filters = [_filter(f"tag:{key}", _literal(value)) for key, value in tags]
    found = _find_instances(account, Found(f"instance with {words}"), filters)
    if found.candidates:
        return found
    # Managed nodes are no instances of EC2, but carry tags as well.
    nodes = {
        text(node, "InstanceId"): node
        for node in pages(
            account,
            "ssm",
            "DescribeInstanceInformation",
            "InstanceInformationList",
            Filters=[{"Key": f"tag:{key}", "Values": [value]} for key, value in tags],
        )
        if text(node, "InstanceId").startswith("mi-")
    }
    born = {i: _stamp(node, "RegistrationDate") for i, node in nodes.items()}
    candidates = [_with_agent(Candidate(i, born[i]), nodes[i]) for i in nodes]
    return replace(found, candidates=_oldest_first(candidates))


def _literal(value: str) -> str:
    # EC2's filters know wildcards; a tag is meant as it is written.
    return value.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def _find_group(account: Account, name: str) -> Found:
    found = Found(
        f"instance in service of Auto Scaling group {name}",
        operation="DescribeAutoScalingGroups",
    )
    groups = pages(
        account,
        "autoscaling",
        "DescribeAutoScalingGroups",
        "AutoScalingGroups",
        AutoScalingGroupNames=[name],
    )
    ids: list[str] = []
    for group in groups:
        found = replace(found, account=_account_of(text(group, "AutoScalingGroupARN")))
        ids += [
            text(instance, "InstanceId")
            for instance in group.get("Instances", ())
            if text(instance, "LifecycleState") == "InService"
        ]
    if not ids:
        return found
    return _find_instances(account, found, [_filter("instance-id", *ids)])


def _find_instances(
    account: Account, found: Found, filters: Sequence[Mapping[str, object]]
) -> Found:
    born: dict[str, float] = {}
    owner = found.account
    for owner_id, instance in _instances(account, [*filters, _SEARCHED_STATES]):
        owner = owner_id or owner
        born[text(instance, "InstanceId")] = _stamp(instance, "LaunchTime")
    nodes = _nodes(account, tuple(born))
    candidates = [
        _with_agent(Candidate(i, started), nodes.get(i)) for i, started in born.items()
    ]
    return replace(found, candidates=_oldest_first(candidates), account=owner)


def _instances(
    account: Account, filters: Sequence[Mapping[str, object]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield instances with their owner's account."""
    for reservation in pages(
        account, "ec2", "DescribeInstances", "Reservations", Filters=list(filters)
    ):
        for instance in reservation.get("Instances", ()):
            yield text(reservation, "OwnerId"), instance


def _state(instance: Mapping[str, Any]) -> str:
    return text(instance.get("State") or {}, "Name")


def _nodes(account: Account, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return what Systems Manager knows of instances, by id."""
    nodes: dict[str, Mapping[str, Any]] = {}
    for start in range(0, len(ids), _NODES_PER_CALL):
        some = list(ids[start : start + _NODES_PER_CALL])
        for node in pages(
            account,
            "ssm",
            "DescribeInstanceInformation",
            "InstanceInformationList",
            Filters=[{"Key": "InstanceIds", "Values": some}],
        ):
            nodes[text(node, "InstanceId")] = node
    return nodes


def _with_agent(candidate: Candidate, node: Mapping[str, Any] | None) -> Candidate:
    if node is None:
        return replace(candidate, state="its agent has not registered")
    status = text(node, "PingStatus")
    return replace(candidate, online=status == "Online", state=status)


# ECS.

_OVER: Final = frozenset({"STOPPED", "DEPROVISIONING", "DELETED"})
_NO_SUCH_SERVICE: Final = frozenset(
    {"ClusterNotFoundException", "ServiceNotFoundException"}
)


def _find_tasks(account: Account, target: ServiceTarget) -> Found:
    what = "" if target.container is None else f"container {target.container} of "
    found = Found(
        f"running task, {what}service {target.service} in ECS cluster {target.cluster}",
        operation="ListTasks",
    )
    try:
        arns = [
            str(arn)
            for arn in pages(
                account,
                "ecs",
                "ListTasks",
                "taskArns",
                cluster=target.cluster,
                serviceName=target.service,
                desiredStatus="RUNNING",
            )
        ]
    except AwsError as error:
        if error.code not in _NO_SUCH_SERVICE:
            raise
        return found
    containers = _containers(account, target.cluster, arns)
    names = {name for name, _ in containers}
    if target.container is None and len(names) > 1:
        raise TargetNotFound(
            "DescribeTasks",
            "AmbiguousContainer",
            f"tasks of {target} have several containers: {', '.join(sorted(names))}",
            f"add one of them to target, such as {target}/{min(names)}",
        )
    candidates = [c for name, c in containers if target.container in {None, name}]
    owner = _account_of(arns[0]) if arns else ""
    return replace(found, candidates=_oldest_first(candidates), account=owner)


def _containers(
    account: Account, cluster: str, tasks: Sequence[str]
) -> list[tuple[str, Candidate]]:
    """Return the containers of ``tasks`` with their names."""
    found: list[tuple[str, Candidate]] = []
    for start in range(0, len(tasks), _TASKS_PER_CALL):
        some = list(tasks[start : start + _TASKS_PER_CALL])
        answer = account.call_service(
            "ecs", "DescribeTasks", cluster=cluster, tasks=some
        )
        for task in _list(answer, "tasks"):
            found.extend(
                (text(part, "name"), _candidate(cluster, task, part))
                for part in _list(task, "containers")
            )
    return found


def _candidate(
    cluster: str, task: Mapping[str, Any], part: Mapping[str, Any]
) -> Candidate:
    task_id = text(task, "taskArn").rpartition("/")[2]
    runtime = text(part, "runtimeId")
    state = _container_state(task, part)
    return Candidate(
        id=f"ecs:{cluster}_{task_id}_{runtime}",
        born=_stamp(task, "startedAt") or _stamp(task, "createdAt"),
        online=bool(runtime) and not state,
        state=state,
    )


def _container_state(task: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Return why a container cannot be reached; empty if it can."""
    for status in (text(task, "lastStatus"), text(part, "lastStatus")):
        if status != "RUNNING":
            return status or "not started"
    agents = [a for a in _list(part, "managedAgents") if text(a, "name") == _AGENT]
    if not agents:
        return "started without enableExecuteCommand"
    agent = text(agents[0], "lastStatus")
    return "" if agent == "RUNNING" else f"its agent is {agent.lower() or 'missing'}"


def _by_cluster(ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the ids of tasks, by cluster, of targets that are tasks."""
    tasks: defaultdict[str, list[str]] = defaultdict(list)
    for target in ids:
        if target.startswith("ecs:"):
            cluster, task, _ = target.removeprefix("ecs:").rsplit("_", 2)
            tasks[cluster].append(task)
    return tasks


# Answers.


def _list(answer: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    value = answer.get(name)
    return value if isinstance(value, list) else ()


def _stamp(answer: Mapping[str, Any], name: str) -> float:
    value = answer.get(name)
    return value.timestamp() if isinstance(value, datetime) else 0.0


def _account_of(arn: str) -> str:
    return "".join(arn.split(":")[4:5])


def _oldest_first(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    return tuple(sorted(candidates, key=lambda c: (c.born, c.id)))
