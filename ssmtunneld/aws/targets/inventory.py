"""Managed nodes of an account and region: what a session could be started to.

Everything here blocks and must be called in worker threads, or where no loop runs.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ssmtunneld.aws.api.endpoints import is_loopback_host
from ssmtunneld.aws.targets.search import pages
from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import AwsError

if TYPE_CHECKING:
    from ssmtunneld.aws.api.answers import Answer
    from ssmtunneld.aws.client import AwsClient

MUX_SINCE: Final = (3, 0, 222, 0)
"""The first agent that carries several connections in one session (protocol 2.3)."""
REMOTE_HOST_SINCE: Final = (3, 1, 1374, 0)
"""The first agent that forwards to other hosts, and denies what it must."""

_PAGE_SIZE: Final = 50
"""DescribeInstanceInformation's maximum."""
_PAGE_LIMIT: Final = 200
"""Pages that are read at most: 10,000 nodes."""
_VERSION: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}")
_STATES: Final = ("pending", "running", "stopping", "stopped")

_NO_ROLE: Final = (
    "it has no instance profile: give it a role with AmazonSSMManagedInstanceCore"
)
_UNREGISTERED: Final = (
    "its agent has never registered: check that the SSM agent runs, that the role has "
    "AmazonSSMManagedInstanceCore, and that HTTPS to ssm and ssmmessages is open"
)
_LOST: Final = (
    "it is stopped, or its agent no longer reports: check that it runs and that HTTPS "
    "to ssm and ssmmessages is open"
)


@dataclass(frozen=True, slots=True)
class Node:
    """An instance or another machine that Systems Manager knows, or should know."""

    id: str
    """The target as StartSession takes it."""
    name: str = ""
    """Its tag ``Name``, its name as a managed node, or its computer's name."""
    ping: str = ""
    """``Online``, ``ConnectionLost``, ``Inactive``; empty if it never registered."""
    agent_version: str = ""
    platform: str = ""
    """``Amazon Linux 2023``."""
    address: str = ""
    """The private IP address."""
    last_seen: float = 0.0
    """Last sign of life of its agent, in Unix seconds; 0 if unknown."""
    vpc: str = ""
    """The VPC of an instance, where EC2 said so."""
    reason: str = ""
    """The likely reason why it is not online, and what to do."""

    @property
    def online(self) -> bool:
        """True if the service would start a session now."""
        return self.ping == "Online"

    @property
    def can_multiplex(self) -> bool | None:
        """True if one session carries many connections; None if unknown."""
        return _reaches(self.agent_version, MUX_SINCE)

    @property
    def can_reach_hosts(self) -> bool | None:
        """True if it forwards to other hosts; None if unknown."""
        return _reaches(self.agent_version, REMOTE_HOST_SINCE)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The nodes of one account and region."""

    nodes: tuple[Node, ...]
    """Those that are online first, then by name."""
    region: str
    account: str = ""
    """The account's number, where an answer told it."""
    shortcoming: str = ""
    """Reason for missing names and VPCs; empty if none are missing."""


def list_nodes(account: AwsClient, *, everything: bool = False) -> Inventory:
    """Return the nodes that are online; with ``everything`` offline ones too.

    Offline are nodes whose agent has gone silent, and instances of EC2 whose
    agent never registered.

    Raises:
        AwsError: In the kinds of protocol 1.7. Without EC2 it goes, see
            ``shortcoming``.
    """
    nodes = {
        node.id: node
        for page in pages(
            account,
            "ssm",
            "DescribeInstanceInformation",
            limit=_PAGE_LIMIT,
            MaxResults=_PAGE_SIZE,
        )
        for found in page.structures("InstanceInformationList")
        if (node := _read_node(found)).id
    }
    owner = shortcoming = ""
    try:
        instances, owner = _instances(account)
    except AwsError as error:
        instances = {}
        shortcoming = f"without EC2 there are no names or VPCs: {clean(str(error))}"
    for key, instance in instances.items():
        nodes[key] = _with_instance(nodes.get(key, Node(key)), instance)
    wanted = [
        node if node.online else _explained(node, instances.get(node.id))
        for node in nodes.values()
        if everything or node.online
    ]
    wanted.sort(key=lambda node: (not node.online, node.name.casefold(), node.id))
    place = account.place
    region = "" if place is None else place.region
    return Inventory(tuple(wanted), region, owner, shortcoming)


def _read_node(found: Answer) -> Node:
    platform = f"{found.text('PlatformName')} {found.text('PlatformVersion')}"
    return Node(
        found.text("InstanceId"),
        name=found.text("Name") or found.text("ComputerName"),
        ping=found.text("PingStatus"),
        agent_version=found.text("AgentVersion"),
        platform=clean(platform) or found.text("PlatformType"),
        address=found.text("IPAddress"),
        last_seen=found.moment("LastPingDateTime"),
    )


def _instances(account: AwsClient) -> tuple[dict[str, Answer], str]:
    """Return instances by id, and the number of the account that owns them."""
    if stands_alone(account, "EC2"):
        return {}, ""
    found: dict[str, Answer] = {}
    owner = ""
    for page in pages(
        account,
        "ec2",
        "DescribeInstances",
        limit=_PAGE_LIMIT,
        Filters=[{"Name": "instance-state-name", "Values": list(_STATES)}],
        MaxResults=_PAGE_SIZE,
    ):
        for reservation in page.structures("Reservations"):
            owner = reservation.text("OwnerId") or owner
            for instance in reservation.structures("Instances"):
                found[instance.text("InstanceId")] = instance
    return found, owner


def stands_alone(account: AwsClient, service: str) -> bool:
    """Return True if SSM is an emulator's, so that ``service`` cannot know the keys.

    Args:
        account: Who would ask.
        service: As the variables that name endpoints end, such as ``EC2``.

    Raises:
        AwsError: There are no credentials.
    """
    _, place = account.keys("GetCallerIdentity")
    host = urlsplit(place.ssm_endpoint).hostname or ""
    named = (f"AWS_ENDPOINT_URL_{service}", "AWS_ENDPOINT_URL")
    return is_loopback_host(host) and not any(map(os.environ.get, named))


def _with_instance(node: Node, instance: Answer) -> Node:
    tags: dict[str, str] = {
        tag.text("Key"): tag.text("Value") for tag in instance.structures("Tags")
    }
    return replace(
        node,
        name=tags.get("Name") or node.name,
        vpc=instance.text("VpcId"),
    )


def _explained(node: Node, instance: Answer | None) -> Node:
    state = "" if instance is None else instance.structure("State").text("Name")
    if state in {"stopping", "stopped"}:
        reason = f"it is {state}: start it"
    elif state == "pending":
        reason = "it is just starting: wait a minute"
    elif node.ping:
        reason = _LOST
    elif instance is not None and not instance.has("IamInstanceProfile"):
        reason = _NO_ROLE
    else:
        reason = _UNREGISTERED
    return replace(node, reason=reason)


def _reaches(version: str, least: tuple[int, ...]) -> bool | None:
    if not _VERSION.fullmatch(version):
        return None
    return tuple(map(int, version.split("."))) >= least
