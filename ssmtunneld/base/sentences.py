"""One line from what happened and what to do about it."""


def with_advice(words: str, advice: str) -> str:
    """Return ``words``, then ``advice``, if there is any.

    Services end their sentences with a full stop; ours go on.
    """
    return f"{words.rstrip().removesuffix('.')}; {advice}" if advice else words
