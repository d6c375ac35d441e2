"""The words that were probably meant."""

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Return up to ``count`` of ``known`` that are similar to ``word``, best first."""
    from difflib import get_close_matches  # noqa: PLC0415 - only mistakes need it

    return get_close_matches(word, list(known), n=count)
