"""The status document's schema: committed, printed, and kept by what a daemon says."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from ssmtunneld.observe.status_schema import status_schema
from tests.observe.samples import audit, daemon, session, tunnel

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "status.schema.json"


def document(*tunnels):
    return json.loads(json.dumps(daemon(*tunnels).as_document()))


def check(found):
    Draft202012Validator(status_schema()).validate(found)


def test_the_committed_schema_is_the_generated_one():
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == status_schema()


def test_it_is_a_schema():
    Draft202012Validator.check_schema(status_schema())


@pytest.mark.parametrize(
    "found",
    [
        document(),
        document(tunnel(), tunnel("x", "waiting", reason="no", retry_in=3.0)),
        document(tunnel(sessions=(session(), session(agent=None, rtt=None)))),
        {**document(), "something": "new"},
        {**document(), "audit": asdict(audit(lost=3, reason="No space left"))},
    ],
)
def test_documents_keep_it(found):
    check(found)


def change(path, value):
    """Return a whole document with one value changed; None leaves it out."""
    found = document(tunnel(sessions=(session(),)))
    node = found
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], "1"),
        (["tunnels"], None),
        (["tunnels", 0, "state"], "strange"),
        (["tunnels", 0, "usable"], None),
        (["tunnels", 0, "counts", "ended"], {"strange": 1}),
        (["tunnels", 0, "sessions", 0, "phase"], "strange"),
        (["tunnels", 0, "sessions", 0, "rtt"], "fast"),
    ],
)
def test_what_is_no_document_does_not(path, value):
    with pytest.raises(ValidationError):
        check(change(path, value))


def tables():
    schema = status_schema()
    yield "the document", schema
    yield from schema["$defs"].items()


@pytest.mark.parametrize("table", [pytest.param(t, id=n) for n, t in tables()])
def test_every_key_is_required_and_described(table):
    properties = table.get("properties", {})
    assert table.get("required", []) == list(properties)
    undescribed = {k for k, v in properties.items() if not v.get("description")}
    assert undescribed == set()
