"""Settings of a connection to a host name, from the command line and the file.

A file need not list a host for ``ssh`` to reach it. What it says of profiles, regions
and endpoints counts all the same: of the tunnel with the same target, else
``[defaults]``. The rest of the file may have mistakes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ssmtunneld.config import TunnelSettings, find_config
from ssmtunneld.config.load import parse_toml, read_file
from ssmtunneld.config.metadata import Reload, reload_of
from ssmtunneld.config.model import FIXED, TunnelDefaults
from ssmtunneld.config.session_documents import PORT_DOCUMENT, SSH_DOCUMENT
from ssmtunneld.config.tables import read_tables
from ssmtunneld.config.targets import parse_target
from ssmtunneld.errors import ConfigError

SSH_PORT: Final = 22
NAME: Final = "proxy"
"""Name of the tunnel in the reasons of sessions."""

_PROFILE: Final = (
    "region",
    "role_arn",
    "external_id",
    "role_session_name",
    "mfa_serial",
)
"""Settings that belong to a profile: never mixed with those of another one."""
_KEPT: Final = (
    *(
        key
        for key in TunnelDefaults.model_fields
        if reload_of(TunnelDefaults, key) is Reload.SESSIONS
        and key not in FIXED | {"target", "mode"}
    ),
    "linger",
)
"""Settings that count for a connection whose target and port are named elsewhere: what
decides about sessions, and the end of a connection."""


def document_for(port: int) -> str:
    """Return the session document for ``port`` where none is named.

    For ssh the one that IAM policies for ssh name; it carries one connection, which is
    what ssh needs.
    """
    return SSH_DOCUMENT if port == SSH_PORT else PORT_DOCUMENT


def find_source(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file; None if none is named and none exists."""
    try:
        return find_config(explicit, environ)
    except ConfigError:
        return None


def settings_for(
    target: str,
    port: int,
    given: Mapping[str, str | None],
    source: Path | None,
    environ: Mapping[str, str],
) -> TunnelSettings:
    """Return the settings of one connection.

    Args:
        target: What stands for the host, without a region: see ``host_names.py``.
        port: On the target.
        given: ``profile``, ``region`` and ``document``, as far as they were named.
        source: The configuration file; None for none.
        environ: Where ``${NAME}`` and ``~`` of the file are looked up.

    Raises:
        ConfigError: The target is none, or what counts of the file cannot be used.
    """
    try:
        parse_target(target)
    except ValueError as error:
        raise ConfigError([f"{target} {error}"]) from None
    text = "" if source is None else read_file(source)
    named = {key: value for key, value in given.items() if value is not None}
    kept = _kept(parse_toml(text, source or Path(NAME)), target)
    if "profile" in named:
        kept = {key: value for key, value in kept.items() if key not in _PROFILE}
    own = {
        **kept,
        "document": document_for(port),
        **named,
        "target": target,
        "port": port,
        "listen": "127.0.0.1:0",
    }
    tables = {"tunnels": {NAME: own}}
    config = read_tables(tables, text, source or Path(NAME), environ)
    return config.tunnels[0]


def _kept(data: Mapping[str, Any], target: str) -> dict[str, Any]:
    defaults = _table(data.get("defaults"))
    tunnels = map(_table, _table(data.get("tunnels")).values())
    same = (t for t in tunnels if t.get("target", defaults.get("target")) == target)
    merged = {**defaults, **next(same, {})}
    return {key: merged[key] for key in _KEPT if key in merged}


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
