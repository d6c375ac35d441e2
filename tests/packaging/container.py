"""Readers of the project's Dockerfile."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]


def instructions():
    """Return the Dockerfile's instructions: a word and what follows it."""
    lines = [
        line
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if not line.startswith("#")
    ]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest.strip())
        for word, rest in re.findall(r"^([A-Z]+) +(.*)$", whole, re.MULTILINE)
    ]


def of(word):
    """Return what follows ``word``, each time."""
    return [rest for name, rest in instructions() if name == word]


def copied():
    """Return the paths of the source tree that are copied, with their targets."""
    pairs = []
    for rest in of("COPY"):
        if not rest.startswith("--from"):
            *sources, target = shlex.split(rest)
            pairs += [(source, target) for source in sources]
    return pairs
