"""The JSON schema of the file as a person writes it, for editors."""

import json
from collections.abc import Collection
from typing import Any, Final

from pydantic import BaseModel

from ssmtunneld.config.fields import NAME_PATTERN
from ssmtunneld.config.metadata import Setting, settings_of
from ssmtunneld.config.model import (
    DaemonSettings,
    FileSettings,
    TunnelDefaults,
    TunnelSettings,
)

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema: draft 2020-12, durations and sizes as text with units.

    ``x-reload`` says what a change of a setting needs: see ``metadata.Reload``.

    It accepts every main file that ``load_config`` accepts, and included files that
    have tunnels. Relations between settings,
    which it cannot express, only ``load_config`` checks.
    """
    daemon = _table(DaemonSettings)
    defaults = _table(TunnelDefaults)
    # The target can come from [defaults], so only the addresses are always here.
    tunnel = _table(TunnelSettings, leave_out={"name"}, required=["listen"])
    top = _table(FileSettings)["properties"]
    return {
        "$schema": _DIALECT,
        "title": "ssmtunneld configuration",
        "type": "object",
        "additionalProperties": False,
        # The tunnels may all be in files that this one includes.
        "anyOf": [
            {"required": ["tunnels"], "properties": {"tunnels": {"minProperties": 1}}},
            {"required": ["include"]},
        ],
        "properties": {
            **top,
            "daemon": daemon,
            "defaults": defaults,
            "tunnels": {
                "description": "The tunnels, each a table named for itself.",
                "type": "object",
                "propertyNames": {"pattern": f"^{NAME_PATTERN}$"},
                "additionalProperties": tunnel,
            },
        },
    }


def _table(
    model: type[BaseModel],
    leave_out: Collection[str] = (),
    required: Collection[str] = (),
) -> dict[str, Any]:
    schema = model.model_json_schema()
    properties = {
        setting.key: _setting(setting, schema["properties"][setting.key])
        for setting in settings_of(model)
        if setting.key not in leave_out
    }
    table = {
        "description": schema["description"],
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return {**table, "required": [*required]} if required else table


def _setting(setting: Setting, described: dict[str, Any]) -> dict[str, Any]:
    """Return one setting's schema without what only Python knows: None, titles."""
    choices = [c for c in described.get("anyOf", ()) if c != {"type": "null"}]
    schema = {
        k: v for k, v in described.items() if k not in {"title", "default", "anyOf"}
    }
    if len(choices) == 1:
        schema |= choices[0]
    elif choices:
        schema["anyOf"] = choices
    schema["description"] = setting.plain_description
    if setting.default is not None:
        schema["default"] = json.loads(setting.default)
    if setting.reload is not None:
        schema["x-reload"] = setting.reload.value
    return schema
