"""The questions of ``init``, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import click

from ssmtunneld.base.sentences import with_advice
from ssmtunneld.cli.ad_hoc import Forward
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.setup.first_configuration import (
    Plan,
    PlannedTunnel,
    Surroundings,
    plan_one,
    plan_tunnels,
    with_addresses,
)
from ssmtunneld.errors import SsmtunneldError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from questionary import Question

    from ssmtunneld.aws.discovery import Resource
    from ssmtunneld.aws.targets.inventory import Node

T = TypeVar("T")

_OTHER: Final = "something else: type it"
_NO_PROFILE: Final = "none: the environment's credentials"


def converse(
    given: Plan,
    wanted: Sequence[str],
    surroundings: Surroundings,
    addresses: Sequence[str] = (),
) -> Plan:
    """Ask for what was not given, and return the whole plan.

    Args:
        given: What options said; a target that is empty is asked for.
        wanted: Destinations that were named; none to ask for them.
        surroundings: What is proposed for profile and region.
        addresses: Where the first tunnels listen; the user is asked for the rest.

    Raises:
        click.Abort: The user has had enough.
        ValueError: ``wanted`` has what is not a destination, or ``addresses`` are too
            many.
    """
    profile = given.profile or _profile(surroundings.profile)
    proposed = surroundings.region or ""
    usual = proposed or "the profile's"
    region = given.region or _text(f"Region? (empty: {usual})") or proposed or None
    plan = Plan(given.target, profile, region, given.endpoint_url)
    resources, nodes = _look(plan)
    if not plan.target:
        plan.target = _target(nodes)
    plan.tunnels = plan_tunnels(wanted)
    if not wanted:
        plan.tunnels = _destinations(resources)
    settled = with_addresses(plan.tunnels, addresses)
    count = len(addresses)
    plan.tunnels = [*settled[:count], *map(_with_port, settled[count:])]
    return plan


def confirm(question: str, *, default: bool = False) -> bool:
    """Return whether the user agrees.

    Raises:
        click.Abort: The user has had enough.
    """
    import questionary

    return bool(_answer(questionary.confirm(question, default=default)))


def _answer(question: Question) -> object:
    answer: object = question.ask()
    if answer is None:
        raise click.Abort
    return answer


def _text(question: str) -> str:
    """Return what is typed; nothing stands there before, to be typed behind."""
    import questionary

    return str(_answer(questionary.text(question))).strip()


def _profile(proposed: str | None) -> str | None:
    import questionary

    from ssmtunneld.aws.identity.profiles import profile_names

    names = profile_names()
    if not names:
        return proposed
    choices = [_NO_PROFILE, *names]
    default = proposed if proposed in names else _NO_PROFILE
    answer = _answer(questionary.select("AWS profile?", choices, default=default))
    return None if answer == _NO_PROFILE else str(answer)


def _look(plan: Plan) -> tuple[list[Resource], list[Node]]:
    """Return what AWS has, and what is online; nothing where it cannot be asked."""
    from ssmtunneld.cli.setup.discovered import look

    tell("Looking for targets and destinations ...")
    try:
        found, inventory = look(plan.profile, plan.region, plan.endpoint_url)
    except SsmtunneldError as error:
        tell(f"ssmtunneld: {with_advice(str(error), error.advice)}")
        return [], []
    return list(found.resources), list(inventory.nodes)


def _target(nodes: Sequence[Node]) -> str:
    import questionary

    from ssmtunneld.cli.setup.discovered import spell

    if nodes:
        choices = [
            questionary.Choice(f"{node.name}  {node.id}".strip(), spell(node, nodes))
            for node in nodes
        ]
        choices.append(questionary.Choice(_OTHER, ""))
        if answer := _answer(questionary.select("Target?", choices)):
            return str(answer)
    return _valid_target()


def _valid_target() -> str:
    import questionary

    from ssmtunneld.config.targets import parse_target

    def check(text: str) -> bool | str:
        try:
            parse_target(text.strip())
        except ValueError as error:
            return str(error)
        return True

    question = questionary.text(
        "Target? (an id, name:web-1, tag:Role=bastion, ...)", validate=check
    )
    return str(_answer(question)).strip()


def _destinations(resources: Sequence[Resource]) -> list[PlannedTunnel]:
    import questionary

    found: list[PlannedTunnel] = []
    if resources:
        choices = [
            questionary.Choice(
                f"{r.id}  {r.engine} {r.role}  {r.host}:{r.port}", value=index
            )
            for index, r in enumerate(resources)
        ]
        asked = questionary.checkbox("Destinations? (space chooses)", choices)
        answer = _answer(asked)
        for index in answer if isinstance(answer, list) else ():
            r = resources[index]
            comment = " ".join(filter(None, (r.id, r.engine, r.role)))
            forward = Forward(r.host, r.port)
            found.append(plan_one(forward, found, name=r.id, comment=comment))
    form = "[NAME=][HOST:]PORT, with spaces between"
    question = (
        f"Other destinations? {form} (empty: none)"
        if found
        else f"Destinations? {form}, such as orders=orders.internal:5432 "
        "(empty: 22, ssh to the target itself)"
    )
    while True:
        words = _text(question).split() or ["22"] * (not found)
        try:
            return [*found, *plan_tunnels(words, found)]
        except ValueError as error:
            tell(f"ssmtunneld: {error}")


def _with_port(tunnel: PlannedTunnel) -> PlannedTunnel:
    import questionary

    from ssmtunneld.config import parse_address

    def check(text: str) -> bool | str:
        try:
            parse_address(text.strip() or tunnel.listen)
        except ValueError as error:
            return str(error)
        return True

    asked = questionary.text(
        f"Local port of {tunnel.name}? (empty: {tunnel.listen})", validate=check
    )
    text = str(_answer(asked)).strip() or str(tunnel.listen)
    listen = int(text) if text.isdecimal() else text
    return PlannedTunnel(tunnel.name, tunnel.forward, listen, tunnel.comment)
