"""Read a dashboard with Grafana's own types, and find what they do not know.

``dashboard.py FILE``, run by ``packaging/lint``, which brings the library.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(given: object, kept: object, path: str = "") -> Iterator[str]:
    """Yield where ``kept`` lacks something of ``given``, or has another value."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from lost(value, kept.get(key), f"{path}/{key}")
    elif isinstance(given, list) and isinstance(kept, list):
        if len(given) != len(kept):
            yield path
        for index, pair in enumerate(zip(given, kept, strict=False)):
            yield from lost(*pair, f"{path}/{index}")
    elif given != kept:
        yield f"{path}: {given!r}, read as {kept!r}"


def main(path: Path) -> None:
    """Check, and end with what is wrong."""
    register_default_plugins()
    given = json.loads(path.read_text("utf-8"))
    read = Dashboard.from_json(given)
    found = [*lost(given, json.loads(JSONEncoder().encode(read)))]
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
