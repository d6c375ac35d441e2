"""Asking several accounts and regions the same question at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import click

from ssmtunneld.base.sentences import with_advice
from ssmtunneld.cli.asides import tell
from ssmtunneld.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ssmtunneld.aws.api.port import Identity
    from ssmtunneld.aws.client import AwsClient

T = TypeVar("T")
_Command = TypeVar("_Command", bound="Callable[..., object]")

_THREADS: Final = 8
"""Places that are asked at the same time."""


def places_options(command: _Command) -> _Command:
    """Add ``--profile``, ``--region`` and ``--endpoint-url`` for several places.

    Passed as ``profiles``, ``regions`` and ``endpoint_url``.
    """
    for option in (
        click.option(
            "--endpoint-url",
            metavar="URL",
            help="The SSM API, where it is not the public one.",
        ),
        click.option(
            "--region",
            "regions",
            multiple=True,
            metavar="REGION",
            help="The AWS region; repeatable. By default the environment's or the "
            "profile's.",
        ),
        click.option(
            "--profile",
            "profiles",
            multiple=True,
            metavar="NAME",
            help="The AWS profile; repeatable. By default the environment's.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """The answer of one place."""

    profile: str
    """The profile's name as it was given; empty for the environment's."""
    region: str
    answer: T


def ask_everywhere(
    profiles: Sequence[str],
    regions: Sequence[str],
    endpoint_url: str | None,
    work: Callable[[AwsClient], T],
) -> tuple[list[Told[T]], list[AwsError]]:
    """Return what ``work`` finds with each profile in each region, and what failed.

    Args:
        profiles: Their names; none for the environment's.
        regions: The same.
        endpoint_url: The SSM API; None is the public one.
        work: Called in a thread for each place.
    """
    from ssmtunneld.aws.api.port import Identity
    from ssmtunneld.aws.client import AwsClient

    identities = [
        Identity(profile=profile, region=region, endpoint_url=endpoint_url)
        for profile in profiles or (None,)
        for region in regions or (None,)
    ]

    def ask(identity: Identity) -> Told[T] | AwsError:
        account = AwsClient(identity)
        try:
            with advising_region():
                answer = work(account)
        except AwsError as error:
            return error
        else:
            place = account.place
            region = identity.region or ("" if place is None else place.region)
            return Told(identity.profile or "", region, answer)
        finally:
            account.close()

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="ask") as threads:
        told = list(threads.map(ask, dict.fromkeys(identities)))
    failures = [each for each in told if isinstance(each, AwsError)]
    return [each for each in told if isinstance(each, Told)], failures


@contextmanager
def advising_region() -> Iterator[None]:
    """Let the error for a region that is missing advise ``--region``.

    Raises:
        AwsError: What the block raises.
    """
    try:
        yield
    except AwsError as error:
        if error.code == "NoRegionError":
            error.advice = "pass --region, such as us-east-1, or export AWS_REGION"
        raise


def report_failures(failures: Sequence[AwsError], *, alone: bool) -> None:
    """Say on standard error what could not be asked, a line each.

    Args:
        failures: Why.
        alone: Whether nothing else was found out.

    Raises:
        AwsError: Nothing was found out, for a single reason.
    """
    if alone and len(failures) == 1:
        raise failures[0]
    for error in failures:
        tell(f"ssmtunneld: {with_advice(str(error), error.advice)}")


def matches(words: Sequence[str], *texts: str) -> bool:
    """Return True if each of ``words`` is part of one of ``texts``, in any case."""
    whole = "\n".join(texts).casefold()
    return all(word.casefold() in whole for word in words)
