"""The schema agrees with the loader, as far as a schema can."""

import json

import pytest

from ssmtunneld.config import json_schema
from ssmtunneld.config.metadata import settings_of
from ssmtunneld.config.model import (
    DaemonSettings,
    FileSettings,
    TunnelDefaults,
    TunnelSettings,
)


def accepts(schema, value):
    """Check ``value`` by the few keywords that our schema uses."""
    kinds = {
        "string": str, "integer": int, "number": (int, float),
        "boolean": bool, "array": list, "object": dict,
    }  # fmt: skip
    if "anyOf" in schema:
        return any(accepts(choice, value) for choice in schema["anyOf"])
    if "const" in schema:
        return value is schema["const"]
    if "enum" in schema and value not in schema["enum"]:
        return False
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, kinds[name]) for name in names)


def sections():
    properties = json_schema()["properties"]
    tunnel = properties["tunnels"]["additionalProperties"]
    return properties["daemon"], properties["defaults"], tunnel


def test_the_schema_says_which_draft_it_is_and_allows_nothing_else():
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert [choice["required"] for choice in schema["anyOf"]] == [
        ["tunnels"],
        ["include"],
    ]
    for table in (schema, *sections()):
        assert table["additionalProperties"] is False


def test_every_setting_is_there_with_its_description():
    daemon, defaults, tunnel = sections()
    assert daemon["properties"].keys() == DaemonSettings.model_fields.keys()
    assert defaults["properties"].keys() == TunnelDefaults.model_fields.keys()
    assert tunnel["properties"].keys() == TunnelSettings.model_fields.keys() - {"name"}
    assert tunnel["required"] == ["listen"]
    for table in (daemon, defaults, tunnel):
        for setting in table["properties"].values():
            assert setting["description"]
            assert "title" not in setting
            assert {"type": "null"} not in setting.get("anyOf", ())


def test_what_stands_above_the_tables_is_there_too():
    (setting,) = settings_of(FileSettings)
    schema = json_schema()["properties"][setting.key]
    assert schema["description"].startswith("Further files with tunnels")
    assert (schema["x-reload"], schema["default"]) == ("live", [])
    for value in ("conf.d/*.toml", ["a.toml", "b/*"], []):
        assert accepts(schema, value)
    assert not accepts(schema, 7)


def test_every_setting_has_its_default_and_says_what_a_change_of_it_needs():
    for model, table in zip(
        (DaemonSettings, TunnelDefaults, TunnelSettings), sections(), strict=True
    ):
        for setting in settings_of(model):
            if setting.key == "name":
                continue
            schema = table["properties"][setting.key]
            assert schema["x-reload"] == setting.reload.value
            default = json.dumps(schema["default"]) if "default" in schema else None
            assert default == setting.default


def test_descriptions_name_no_pages_that_a_reader_may_not_have():
    for table in sections():
        for setting in table["properties"].values():
            assert "](" not in setting["description"]
            assert ".md" not in setting["description"]


def test_defaults_are_as_a_person_writes_them():
    _, defaults, tunnel = sections()
    assert defaults["properties"]["idle_close"]["default"] == "5m"
    assert tunnel["properties"]["stream_buffer"]["default"] == "1MiB"
    assert tunnel["properties"]["socket_mode"]["default"] == "0600"
    assert "default" not in tunnel["properties"]["host"]
    for table in sections():
        for setting in table["properties"].values():
            if "default" in setting:
                assert accepts(setting, setting["default"])


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("listen", 5432, True),
        ("listen", "5432", True),
        ("listen", ["localhost:1", 2], True),
        ("listen", True, False),
        ("message_size", "auto", True),
        ("message_size", "32KiB", True),
        ("message_size", 1024, True),
        ("message_size", True, False),
        ("keep_alive", False, True),
        ("keep_alive", "5m", True),
        ("keep_alive", 300, True),
        ("keep_alive", True, False),
        ("idle_close", 2.5, True),
        ("max_session_age", "1h", True),
        ("stream_buffer", "64KiB", True),
        ("stream_buffer", 1.5, False),
        ("socket_mode", "0660", True),
        ("socket_mode", 660, False),
        ("parameters", {"a": "b"}, True),
        ("region", "${AWS_REGION}", True),
        ("port", "5432", False),
    ],
)
def test_the_shape_is_the_written_one(key, value, accepted):
    _, _, tunnel = sections()
    assert accepts(tunnel["properties"][key], value) is accepted
