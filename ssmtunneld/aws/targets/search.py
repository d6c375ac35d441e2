"""Search for a target at AWS: instances, managed nodes, ECS tasks.

Everything here blocks and must be called in worker threads;
``aws/targets/resolver.py`` does, one search at a time and no more than needed.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, assert_never

from ssmtunneld.aws.api.answers import INSTANCE_ID, NODE_ID, TASK_PART
from ssmtunneld.aws.api.dialing import Deadline
from ssmtunneld.aws.api.pages import turn_pages
from ssmtunneld.base.foreign import clean
from ssmtunneld.config.targets import (
    AddressTarget,
    FixedTarget,
    GroupTarget,
    HostTarget,
    SearchedTarget,
    ServiceTarget,
    TaggedTarget,
)
from ssmtunneld.errors import AwsError, ServiceUnavailable, TargetNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ssmtunneld.aws.api.answers import Answer
    from ssmtunneld.aws.client import AwsClient
    from ssmtunneld.base.foreign import CleanText

_PAGE_LIMIT: Final = 20
"""Pages of one answer: of 50 instances or 100 tasks, far above what a tunnel can mean;
a bound against endless answers."""
FOUND_LIMIT: Final = 2000
"""Instances, nodes or tasks of one search: as many as those pages have."""
CONTAINER_LIMIT: Final = 20_000
"""Containers of these: ten of each task."""
LIST_TIMEOUT: Final = 60.0
"""Seconds for all pages of a list, and for all that is asked of what it has: each call
can take half of that, and who searches waits for all of them."""
INSTANCES_PER_PAGE: Final = 50
"""Up to 15 KB each: a page stays below what is read of an answer."""
_LIVING: Final = ("pending", "running")
_EXISTING: Final = (*_LIVING, "stopping", "stopped")
_SEARCHED_STATES: Final = {"Name": "instance-state-name", "Values": list(_LIVING)}
_ADDRESS_FILTERS: Final = {
    4: "private-ip-address",
    6: "network-interface.ipv6-addresses.ipv6-address",
}
_NODES_PER_CALL: Final = 40
"""InstanceIds of DescribeInstanceInformation: AWS documents 40 values of a filter."""
_TASKS_PER_CALL: Final = 50
"""Half of DescribeTasks' maximum: with ten containers, a task has 12 KB."""
_AGENT: Final = "ExecuteCommandAgent"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that matches."""

    id: str
    """The target as StartSession takes it."""
    born: float = 0.0
    """Start time, in Unix seconds; 0 if unknown."""
    online: bool = False
    """True if its agent is online according to the service."""
    state: str = ""
    """Short reason for not being online."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search."""

    searched: str
    """The query in words: ``instances with tag Role=bastion``."""
    candidates: tuple[Candidate, ...] = ()
    """The oldest first."""
    account: str = ""
    """The account's number, where an answer told it."""
    operation: str = "DescribeInstances"
    """The operation that was called last."""
    desired: int | None = None
    """Number that a group or service is to have; None where nobody has said so."""

    @property
    def online(self) -> tuple[Candidate, ...]:
        """Those that a session can be started to."""
        return tuple(c for c in self.candidates if c.online)


class TargetFate(Enum):
    """The present state of a node that a search no longer finds."""

    LIVES = auto()
    """It still runs: what it serves may go on."""
    GONE = auto()
    """It is over, and so is whatever went through it."""


def search(account: AwsClient, target: SearchedTarget) -> SearchResult:
    """Return everything that ``target`` stands for now, online or not.

    Raises:
        AwsError: In the kinds of protocol 1.7.
    """
    match target:
        case TaggedTarget(tags):
            return _find_tagged(account, tags)
        case AddressTarget(address):
            found = SearchResult(f"instance with private address {address}")
            key = _ADDRESS_FILTERS[address.version]
            return _find_instances(account, found, [_filter(key, str(address))])
        case HostTarget(name):
            found = SearchResult(f"instance with private DNS name {name}")
            return _find_instances(account, found, [_filter("private-dns-name", name)])
        case GroupTarget(name):
            return _find_group(account, name)
        case ServiceTarget():
            return _find_tasks(account, target)
        case _:
            assert_never(target)


def instances_of(
    account: AwsClient,
    target: FixedTarget | TaggedTarget | AddressTarget | HostTarget,
) -> Iterator[Answer]:
    """Yield the instances that ``target`` stands for, running or stopped.

    Raises:
        AwsError: In the kinds of protocol 1.7.
    """
    match target:
        case FixedTarget(instance):
            filters = [_filter("instance-id", instance)]
        case TaggedTarget(tags):
            filters = [_filter(f"tag:{key}", _literal(value)) for key, value in tags]
        case AddressTarget(address):
            filters = [_filter(_ADDRESS_FILTERS[address.version], str(address))]
        case HostTarget(name):
            filters = [_filter("private-dns-name", name)]
        case _:
            assert_never(target)
    filters.append(_filter("instance-state-name", *_EXISTING))
    return (instance for _, instance in _instances(account, filters))


def learn_fates(account: AwsClient, ids: Iterable[str]) -> dict[str, TargetFate]:
    """Return what became of targets, by id.

    What nobody can say anything of, such as a managed node, is taken to live.

    Raises:
        AwsError: In the kinds of protocol 1.7.
    """
    fates = dict.fromkeys(ids, TargetFate.LIVES)
    instances = [i for i in fates if i.startswith("i-")]
    if instances:
        running = {
            instance.matching("InstanceId", INSTANCE_ID)
            for _, instance in _instances(account, [_filter("instance-id", *instances)])
            if _state(instance) in _LIVING
        }
        fates.update((i, TargetFate.GONE) for i in instances if i not in running)
    for cluster, tasks in _by_cluster(fates).items():
        living = {
            c.id
            for _, c in _containers(account, cluster, tasks)
            if c.state not in _OVER
        }
        fates.update(
            (i, TargetFate.GONE)
            for i in fates
            if i.startswith(f"ecs:{cluster}_") and i not in living
        )
    return fates


def pages(
    account: AwsClient,
    service: str,
    operation: str,
    *,
    limit: int = _PAGE_LIMIT,
    deadline: Deadline | None = None,
    **parameters: object,
) -> Iterator[Answer]:
    """Yield the pages of an answer, ``limit`` of them at most.

    Args:
        account: Who asks.
        service: The service.
        operation: The call.
        limit: Pages.
        deadline: The end of the time for this list and others; by default its own.
        parameters: Of the call.

    Raises:
        AwsError: In the kinds of protocol 1.7.
    """
    token_key = "nextToken" if service == "ecs" else "NextToken"
    call = partial(account.call_service, service, operation)
    deadline = deadline or Deadline(LIST_TIMEOUT)
    for answer, is_last in turn_pages(
        call, parameters, limit=limit, tokens=(token_key, token_key)
    ):
        yield answer
        if not is_last:
            _check(deadline, operation)


def _check(deadline: Deadline, operation: str) -> None:
    """Go on unless the time for a list is over.

    Raises:
        ServiceUnavailable: It is.
    """
    if deadline.has_passed:
        raise ServiceUnavailable(
            operation,
            clean("ListTooSlow"),
            clean(f"no complete list within {LIST_TIMEOUT:g} s"),
            "check what stands between here and AWS: VPN, proxy, firewall",
        )


def _filter(name: str, *values: str) -> dict[str, object]:
    return {"Name": name, "Values": list(values)}


# Instances.


def _find_tagged(account: AwsClient, tags: Sequence[tuple[str, str]]) -> SearchResult:
    words = " and ".join(f"tag {key}={value}" for key, value in tags)
    filters = [_filter(f"tag:{key}", _literal(value)) for key, value in tags]
    found = _find_instances(account, SearchResult(f"instance with {words}"), filters)
    if found.candidates:
        return found
    # Managed nodes are not instances of EC2, but carry tags as well.
    nodes = (
        _with_agent(
            Candidate(node_id, node.moment("RegistrationDate")), node.text("PingStatus")
        )
        for page in pages(
            account,
            "ssm",
            "DescribeInstanceInformation",
            Filters=[{"Key": f"tag:{key}", "Values": [value]} for key, value in tags],
        )
        for node in page.structures("InstanceInformationList")
        if (node_id := node.matching("InstanceId", NODE_ID))
    )
    candidates = {node.id: node for node in islice(nodes, FOUND_LIMIT)}
    return replace(found, candidates=_oldest_first(candidates.values()))


def _literal(value: str) -> str:
    # EC2's filters know wildcards; a tag is meant as it is written.
    return value.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def _find_group(account: AwsClient, name: str) -> SearchResult:
    found = SearchResult(
        f"instance in service of Auto Scaling group {name}",
        operation="DescribeAutoScalingGroups",
    )
    answers = pages(
        account,
        "autoscaling",
        "DescribeAutoScalingGroups",
        AutoScalingGroupNames=[name],
    )
    ids: list[str] = []
    for group in (g for page in answers for g in page.structures("AutoScalingGroups")):
        found = replace(
            found,
            account=_account_of(group.text("AutoScalingGroupARN")),
            desired=group.number("DesiredCapacity"),
        )
        ids += [
            instance_id
            for instance in group.structures("Instances")
            if instance.text("LifecycleState") == "InService"
            and (instance_id := instance.matching("InstanceId", INSTANCE_ID))
        ]
    if not ids:
        return found
    return _find_instances(account, found, [_filter("instance-id", *ids[:FOUND_LIMIT])])


def _find_instances(
    account: AwsClient, found: SearchResult, filters: Sequence[Mapping[str, object]]
) -> SearchResult:
    born: dict[str, float] = {}
    owner = found.account
    for owner_id, instance in _instances(account, [*filters, _SEARCHED_STATES]):
        owner = owner_id or owner
        born[instance.matching("InstanceId", INSTANCE_ID)] = instance.moment(
            "LaunchTime"
        )
    born.pop("", None)
    agents = _agents(account, tuple(born))
    candidates = [
        _with_agent(Candidate(i, started), agents.get(i)) for i, started in born.items()
    ]
    return replace(found, candidates=_oldest_first(candidates), account=owner)


def _instances(
    account: AwsClient, filters: Sequence[Mapping[str, object]]
) -> Iterator[tuple[str, Answer]]:
    """Yield instances with their owner's account."""
    answers = pages(
        account,
        "ec2",
        "DescribeInstances",
        Filters=list(filters),
        MaxResults=INSTANCES_PER_PAGE,
    )
    found = (
        (reservation.text("OwnerId"), instance)
        for page in answers
        for reservation in page.structures("Reservations")
        for instance in reservation.structures("Instances")
    )
    return islice(found, FOUND_LIMIT)


def _state(instance: Answer) -> str:
    return instance.structure("State").text("Name")


def _agents(account: AwsClient, ids: Sequence[str]) -> dict[str, CleanText]:
    """Return how the agents of instances are, as far as there are any, by id."""
    statuses: dict[str, CleanText] = {}
    deadline = Deadline(LIST_TIMEOUT)
    for start in range(0, len(ids), _NODES_PER_CALL):
        if start:
            _check(deadline, "DescribeInstanceInformation")
        some = list(ids[start : start + _NODES_PER_CALL])
        for page in pages(
            account,
            "ssm",
            "DescribeInstanceInformation",
            deadline=deadline,
            Filters=[{"Key": "InstanceIds", "Values": some}],
        ):
            for node in page.structures("InstanceInformationList"):
                node_id = node.text("InstanceId")
                if node_id in some:
                    statuses[node_id] = node.text("PingStatus")
    return statuses


def _with_agent(candidate: Candidate, status: CleanText | None) -> Candidate:
    if status is None:
        return replace(candidate, state="its agent has not registered")
    return replace(candidate, online=status == "Online", state=status)


# ECS.

_OVER: Final = frozenset({"STOPPED", "DEPROVISIONING", "DELETED"})
_NO_SUCH_SERVICE: Final = frozenset(
    {"ClusterNotFoundException", "ServiceNotFoundException"}
)


def _find_tasks(account: AwsClient, target: ServiceTarget) -> SearchResult:
    what = "" if target.container is None else f"container {target.container} of "
    found = SearchResult(
        f"running task, {what}service {target.service} in ECS cluster {target.cluster}",
        operation="ListTasks",
    )
    try:
        listed = (
            arn
            for page in pages(
                account,
                "ecs",
                "ListTasks",
                cluster=target.cluster,
                serviceName=target.service,
                desiredStatus="RUNNING",
            )
            for arn in page.texts("taskArns")
        )
        arns = list(islice(listed, FOUND_LIMIT))
    except AwsError as error:
        if error.code not in _NO_SUCH_SERVICE:
            raise
        return found
    if not arns:
        return replace(found, desired=_desired_count(account, target))
    containers = _containers(account, target.cluster, arns)
    names = {name for name, _ in containers}
    if target.container is None and len(names) > 1:
        raise TargetNotFound(
            "DescribeTasks",
            clean("AmbiguousContainer"),
            clean(
                f"tasks of {target} have several containers: {', '.join(sorted(names))}"
            ),
            f"add one of them to target, such as {target}/{min(names)}",
        )
    candidates = [c for name, c in containers if target.container in {None, name}]
    return replace(
        found, candidates=_oldest_first(candidates), account=_account_of(arns[0])
    )


def _desired_count(account: AwsClient, target: ServiceTarget) -> int | None:
    with suppress(AwsError):  # without a permission for it, a search goes on
        answer = account.call_service(
            "ecs", "DescribeServices", cluster=target.cluster, services=[target.service]
        )
        for service in answer.structures("services"):
            return service.number("desiredCount")
    return None


def _containers(
    account: AwsClient, cluster: str, tasks: Sequence[str]
) -> list[tuple[CleanText, Candidate]]:
    """Return the containers of ``tasks`` with their names."""
    found: list[tuple[CleanText, Candidate]] = []
    deadline = Deadline(LIST_TIMEOUT)
    for start in range(0, len(tasks), _TASKS_PER_CALL):
        if start:
            _check(deadline, "DescribeTasks")
        some = list(tasks[start : start + _TASKS_PER_CALL])
        answer = account.call_service(
            "ecs", "DescribeTasks", cluster=cluster, tasks=some
        )
        for task in answer.structures("tasks"):
            found.extend(
                (part.text("name"), _candidate(cluster, task, part))
                for part in task.structures("containers")
            )
        if len(found) >= CONTAINER_LIMIT:
            return found[:CONTAINER_LIMIT]
    return found


def _candidate(cluster: str, task: Answer, part: Answer) -> Candidate:
    task_id = task.text("taskArn").rpartition("/")[2]
    runtime = part.matching("runtimeId", TASK_PART)
    state = _container_state(task, part)
    return Candidate(
        id=f"ecs:{cluster}_{task_id}_{runtime}",
        born=task.moment("startedAt") or task.moment("createdAt"),
        online=bool(runtime and TASK_PART.fullmatch(task_id)) and not state,
        state=state,
    )


def _container_state(task: Answer, part: Answer) -> str:
    """Return why a container cannot be reached; empty if it can."""
    for status in (task.text("lastStatus"), part.text("lastStatus")):
        if status != "RUNNING":
            return status or "not started"
    agents = [
        agent
        for agent in part.structures("managedAgents")
        if agent.text("name") == _AGENT
    ]
    if not agents:
        return "started without enableExecuteCommand"
    agent = agents[0].text("lastStatus")
    return "" if agent == "RUNNING" else f"its agent is {agent.lower() or 'missing'}"


def _by_cluster(ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the ids of tasks, by cluster, of targets that are tasks."""
    tasks: defaultdict[str, list[str]] = defaultdict(list)
    for target in ids:
        if target.startswith("ecs:"):
            parts = target.removeprefix("ecs:").rsplit("_", 2)
            if len(parts) == 3:
                tasks[parts[0]].append(parts[1])
    return tasks


def _account_of(arn: str) -> str:
    return "".join(arn.split(":")[4:5])


def _oldest_first(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    return tuple(sorted(candidates, key=lambda c: (c.born, c.id)))
