"""Choosing a target from those that are online, on a terminal."""

import sys
from typing import TYPE_CHECKING

import click

from ssmtunneld.cli.exit_codes import EXIT_REFUSED, CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssmtunneld.aws.targets.inventory import Inventory, Node


def can_ask() -> bool:
    """Return True if a person at a terminal can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def pick_target(
    profile: str | None, region: str | None, endpoint_url: str | None = None
) -> str:
    """Let the user pick one of the targets that are online; return its id.

    Raises:
        AwsError: They cannot be listed.
        CommandError: There is none.
        click.Abort: The user does not want any.
    """
    inventory = list_online(profile, region, endpoint_url)
    if not inventory.nodes:
        raise CommandError(
            f"no target is online in {inventory.region}",
            "see why: ssmtunneld targets --all",
            code=EXIT_REFUSED,
        )
    return choose("Which target?", inventory.nodes)


def list_online(
    profile: str | None, region: str | None, endpoint_url: str | None
) -> "Inventory":
    """Return the targets that are online.

    Raises:
        AwsError: They cannot be listed.
    """
    from ssmtunneld.aws.api.port import Identity
    from ssmtunneld.aws.client import AwsClient
    from ssmtunneld.aws.targets.inventory import list_nodes
    from ssmtunneld.cli.accounts import advising_region

    account = AwsClient(Identity(profile, region, endpoint_url))
    try:
        with advising_region():
            return list_nodes(account)
    finally:
        account.close()


def choose(question: str, nodes: "Sequence[Node]") -> str:
    """Let the user choose one of ``nodes``; return its id.

    Raises:
        click.Abort: The user does not want any.
    """
    import questionary

    width = max(len(node.name) for node in nodes)
    choices = [
        questionary.Choice(
            f"{node.name:{width}}  {node.id}  {node.platform}".strip(), value=node.id
        )
        for node in nodes
    ]
    answer = questionary.select(
        question, choices, use_search_filter=True, use_jk_keys=False
    ).ask()
    if answer is None:
        raise click.Abort
    return str(answer)
