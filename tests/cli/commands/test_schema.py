"""``ssmtunneld schema`` prints JSON Schemas that editors and programs can use."""

import json
from pathlib import Path

import pytest

from ssmtunneld.cli.main import main


def test_the_schema_is_json_and_describes_the_tables(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["schema"])
    schema = json.loads(capsys.readouterr().out)
    assert not caught.value.code
    assert schema["$schema"].startswith("https://json-schema.org/draft/2020-12")
    assert {"daemon", "defaults", "tunnels"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", ["status", "connections", "audit"])
def test_that_of_a_document_is_the_committed_one(capsys, name):
    with pytest.raises(SystemExit) as caught:
        main(["schema", f"--{name}"])
    assert not caught.value.code
    committed = Path(__file__).parents[3] / "docs" / f"{name}.schema.json"
    assert capsys.readouterr().out == committed.read_text(encoding="utf-8")
