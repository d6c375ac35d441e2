"""The JSON Schema of the status document, made from the types that it is made of."""

from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter, with_config

from ssmtunneld.base.compartment import DefectStatus
from ssmtunneld.observe.probe import ProbeStatus
from ssmtunneld.observe.status import (
    DaemonStatus,
    IdentityStatus,
    SessionStatus,
    TunnelStatus,
)
from ssmtunneld.sessions.counters import Distribution, SessionCounts

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DESCRIBED: Final = (
    DaemonStatus,
    TunnelStatus,
    IdentityStatus,
    ProbeStatus,
    SessionStatus,
    SessionCounts,
    Distribution,
    DefectStatus,
)


def status_schema() -> dict[str, Any]:
    """Return the schema of what ``status --json`` prints: draft 2020-12.

    Every key is required, and others may come: a reader must ignore what it does not
    know. ``GET /status.json`` of the HTTP listener answers with more of them.
    """
    for kind in _DESCRIBED:
        with_config(ConfigDict(use_attribute_docstrings=True))(kind)
    schema = TypeAdapter(DaemonStatus).json_schema(mode="serialization")
    for table in (schema, *schema["$defs"].values()):
        # What pydantic makes of names says nothing that the names do not.
        table.pop("title", None)
        for described in table.get("properties", {}).values():
            described.pop("title", None)
    return {"$schema": _DIALECT, "title": "ssmtunneld status", **schema}
