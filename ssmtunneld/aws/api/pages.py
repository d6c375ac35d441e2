"""Answers in pages: calls that are repeated with the token of the answer before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ssmtunneld.aws.api.answers import PAGE_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ssmtunneld.aws.api.answers import Answer

NEXT_TOKEN: Final = ("NextToken", "NextToken")
"""Names of the token in requests and in answers, at most services."""


def turn_pages(
    request: Callable[..., Answer],
    parameters: Mapping[str, object],
    *,
    limit: int,
    tokens: tuple[str, str] = NEXT_TOKEN,
) -> Iterator[tuple[Answer, bool]]:
    """Yield the pages of an answer, each with True if it is the last one there is.

    Args:
        request: Makes one call with these parameters and a token.
        parameters: Parameters of every call.
        limit: Pages at most: a bound against endless answers.
        tokens: Names of the token in requests and in answers.

    Raises:
        AwsError: ``request`` did.
    """
    asked = dict(parameters)
    for _ in range(limit):
        answer = request(**asked)
        token = answer.matching(tokens[1], PAGE_TOKEN)
        yield answer, not token
        if not token:
            return
        asked[tokens[0]] = token
