"""A tunnel's settings from what AWS says of a database, a cache, ..."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.nearest import nearest
from ssmtunneld.cli.exit_codes import EXIT_FAILED, EXIT_USAGE, CommandError
from ssmtunneld.errors import AccessDenied, AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssmtunneld.aws.client import AwsClient
    from ssmtunneld.aws.discovery import Discovery, Resource
    from ssmtunneld.aws.targets.inventory import Inventory, Node


def settings_of(
    wanted: str, given: Mapping[str, object], inherited: Mapping[str, Any]
) -> dict[str, object]:
    """Return ``destination_of`` a resource, and a ``target`` if there is none.

    Args:
        wanted: Its id.
        given: Settings of the tunnel so far; None for what is not set.
        inherited: What ``[defaults]`` says.

    Raises:
        AwsError: AWS cannot be asked.
        CommandError: There is no such resource, or no target in its VPC.
    """
    profile, region, url = (
        given.get(key) or inherited.get(key)
        for key in ("profile", "region", "endpoint_url")
    )
    discovery, inventory = look(profile, region, url)
    resource = find(wanted, discovery)
    found = destination_of(resource)
    if not (given.get("target") or inherited.get("target")):
        found["target"] = spell(_nearest_node(resource, inventory), inventory.nodes)
    return found


def destination_of(resource: Resource) -> dict[str, object]:
    """Return ``host`` and ``port``, or of an EKS cluster ``cluster`` and ``port``.

    Its host says nothing to a person, and ``ssmtunneld kubeconfig`` wants the name.
    """
    if resource.service == "eks":
        return {"cluster": resource.id, "port": resource.port}
    return {"host": resource.host, "port": resource.port}


def look(profile: Any, region: Any, url: Any) -> tuple[Discovery, Inventory]:  # noqa: ANN401 - as a file has them
    """Return what there is, and the targets that are online.

    Raises:
        AwsError: AWS cannot be asked.
    """
    from ssmtunneld.aws.api.port import Identity
    from ssmtunneld.aws.client import AwsClient
    from ssmtunneld.cli.accounts import advising_region

    account = AwsClient(Identity(profile, region, url))
    try:
        with advising_region():
            return look_with(account)
    finally:
        account.close()


def look_with(account: AwsClient) -> tuple[Discovery, Inventory]:
    """Return what an account has, and its targets that are online.

    Targets that may not be asked for, or cannot be where other services answer, are a
    shortcoming of the inventory.

    Raises:
        AwsError: AWS cannot be asked.
    """
    from ssmtunneld.aws.discovery import discover
    from ssmtunneld.aws.targets.inventory import Inventory, list_nodes

    found = discover(account)
    try:
        return found, list_nodes(account)
    except AwsError as error:
        if not (found.answered or isinstance(error, AccessDenied)):
            raise
        place = account.place
        region = "" if place is None else place.region
        return found, Inventory((), region, shortcoming=clean(f"no targets: {error}"))


def find(wanted: str, discovery: Discovery) -> Resource:
    """Return the resource with an id: of several addresses the one to write to.

    Raises:
        CommandError: There is none; says which are spelled similarly.
    """
    found = [r for r in discovery.resources if wanted in {r.id, r.host}]
    if found:
        return found[0]
    near = nearest(wanted, {r.id for r in discovery.resources}, 3)
    advice = f"did you mean {' or '.join(near)}?" if near else "see ssmtunneld discover"
    raise CommandError(
        f"nothing is called {wanted}",
        advice,
        code=EXIT_USAGE,
        problems=discovery.problems,
    )


def in_same_vpc(resource: Resource, nodes: Sequence[Node]) -> list[Node]:
    """Return the online targets that share a resource's VPC."""
    return [n for n in nodes if n.online and resource.vpc and n.vpc == resource.vpc]


def spell(node: Node, nodes: Sequence[Node]) -> str:
    """Return a target for ``node`` that outlives it: its name, if only it has that."""
    same = [other for other in nodes if other.name == node.name]
    instance = node.id.startswith("i-") and node.vpc  # so the name is its tag
    return f"name:{node.name}" if instance and node.name and len(same) == 1 else node.id


def _nearest_node(resource: Resource, inventory: Inventory) -> Node:
    nodes = in_same_vpc(resource, inventory.nodes)
    if not nodes:
        raise CommandError(
            f"no online target is known to be in the VPC of {resource.id}",
            "name one with --target; ssmtunneld targets lists them",
            code=EXIT_FAILED,
        )
    return nodes[0]
