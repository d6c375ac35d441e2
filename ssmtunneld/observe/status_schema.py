"""The JSON Schemas of documents, made from the types that these are made of."""

from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter, with_config

from ssmtunneld.base.compartment import DefectStatus
from ssmtunneld.observe.audit import AuditLine, AuditStatus
from ssmtunneld.observe.connections import ConnectionsDocument, ConnectionStatus
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
    AuditStatus,
    ProbeStatus,
    SessionStatus,
    SessionCounts,
    Distribution,
    DefectStatus,
)


def status_schema() -> dict[str, Any]:
    """Return the schema of what ``status --json`` prints: draft 2020-12.

    Every key is required, and more can come: a reader must ignore what it does not
    know. ``GET /status.json`` of the HTTP listener answers with more of them.
    """
    return _schema("ssmtunneld status", *_DESCRIBED)


def connections_schema() -> dict[str, Any]:
    """Return the schema of what ``connections --json`` prints, likewise."""
    return _schema("ssmtunneld connections", ConnectionsDocument, ConnectionStatus)


def audit_schema() -> dict[str, Any]:
    """Return the schema of a line of the audit log; only two keys are in all of them.

    More can come, as in the documents.
    """
    schema = _schema("a line of ssmtunneld's audit log", AuditLine)
    for described in schema["properties"].values():
        described.pop("default", None)
    return schema


def _schema(title: str, whole: type[Any], *described: type[Any]) -> dict[str, Any]:
    for kind in (whole, *described):
        with_config(ConfigDict(use_attribute_docstrings=True))(kind)
    schema = TypeAdapter(whole).json_schema(mode="serialization")
    for table in (schema, *schema.get("$defs", {}).values()):
        # What pydantic makes of names says nothing that the names do not.
        table.pop("title", None)
        for each in table.get("properties", {}).values():
            each.pop("title", None)
    return {"$schema": _DIALECT, "title": title, **schema}
