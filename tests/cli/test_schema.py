"""``ssmtunneld schema`` prints a JSON Schema that editors can use."""

import json

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
