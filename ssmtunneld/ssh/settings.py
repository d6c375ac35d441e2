"""Settings of a connection to a host name, from the command line and the file.

A file need not list a host for ``ssh`` to reach it. What it says of profiles, regions
and endpoints counts all the same: of the tunnel with the same target, else
``[defaults]``. That tunnel can be in a file that it includes. The rest of the files can
have mistakes. Endpoints that the shell names go before those of the file, as they do
for commands that read none: botocore's own order.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ssmtunneld.aws.api.endpoints import DATA_VARIABLE, configured_endpoint, is_told
from ssmtunneld.config import TunnelSettings, find_config
from ssmtunneld.config.includes import KEY
from ssmtunneld.config.load import read_sources
from ssmtunneld.config.metadata import Reload, reload_of
from ssmtunneld.config.model import FIXED, TunnelDefaults
from ssmtunneld.config.session_documents import PORT_DOCUMENT, SSH_DOCUMENT
from ssmtunneld.config.sources import SourceFile, Sources
from ssmtunneld.config.tables import read_tunnel, with_absolute_paths
from ssmtunneld.config.targets import bastion_target, describe_target, parse_target
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
_STARTING: Final = ("start_target", "stop_target_after")
"""Settings that are only for one EC2 instance."""
_KEPT: Final = (
    *(
        key
        for key in TunnelDefaults.model_fields
        if reload_of(TunnelDefaults, key) is Reload.SESSIONS
        and key not in FIXED | {"target", "mode"}
    ),
    "linger",
    "connect_timeout",
)
"""Settings that count for a connection whose target and port are named elsewhere: what
decides about sessions, the end of a connection, and how long a target may start."""


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
        given: ``profile``, ``region``, ``document`` and ``endpoint_url``, as far as
            they were named.
        source: The configuration file; None for none.
        environ: Where ``${NAME}`` and ``~`` of the file are looked up, and which may
            name endpoints.

    Raises:
        ConfigError: The target is none, or a file cannot be read, or what counts of it
            cannot be used.
    """
    try:
        parse_target(target)
    except ValueError as error:
        raise ConfigError([describe_target(target, error)]) from None
    kept, file = _kept(_sources(source, environ), target, environ)
    named = {key: value for key, value in given.items() if value is not None}
    if "profile" in named:
        kept = {key: value for key, value in kept.items() if key not in _PROFILE}
    for key in _elsewhere(named, environ):
        kept.pop(key, None)
    if bastion_target(target) is None:
        # Of [defaults]: they mean the tunnels of the file, which has not this target.
        kept = {key: value for key, value in kept.items() if key not in _STARTING}
    own = {
        **kept,
        "document": document_for(port),
        **named,
        "target": target,
        "port": port,
        "listen": "127.0.0.1:0",
    }
    return read_tunnel(NAME, own, file, environ)


def _elsewhere(
    named: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the endpoints that count less in a file than what names others.

    Another API has a data channel of its own.
    """
    if "endpoint_url" in named or configured_endpoint(environ):
        return "endpoint_url", "ssmmessages_endpoint"
    return ("ssmmessages_endpoint",) if is_told(environ, DATA_VARIABLE) else ()


def _sources(source: Path | None, environ: Mapping[str, str]) -> Sources:
    """Return the files of the configuration.

    Raises:
        ConfigError: One cannot be read: the settings in it can be the decisive ones.
    """
    if source is None:
        return Sources(SourceFile(Path(NAME), "", {}))
    sources = read_sources(source, environ)
    problems = [line for file in sources.included for line in file.problems]
    problems += [f"{source}: {KEY}: {message}" for _, message in sources.problems]
    if problems:
        raise ConfigError(problems)
    return sources


def _kept(
    sources: Sources, target: str, environ: Mapping[str, str]
) -> tuple[dict[str, Any], SourceFile]:
    """Return the settings that count, and the file from which their paths start."""
    main = sources.main
    defaults = _table(main.tables.get("defaults"))
    merged, found = defaults, main
    for file in sources.files:
        above = defaults
        if file is not main:
            above = with_absolute_paths(defaults, main.path.parent, environ)
            above |= _table(file.tables.get("defaults"))
        tunnels = map(_table, _table(file.tables.get("tunnels")).values())
        same = (t for t in tunnels if t.get("target", above.get("target")) == target)
        if (tunnel := next(same, None)) is not None:
            merged, found = {**above, **tunnel}, file
            break
    return {key: merged[key] for key in _KEPT if key in merged}, found


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
