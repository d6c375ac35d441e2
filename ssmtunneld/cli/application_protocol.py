"""The protocol that is spoken behind a tunnel, as far as its settings tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ssmtunneld.cli.destination import remote_host, remote_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmtunneld.config import TunnelSettings

POSTGRES: Final = "postgres"
MYSQL: Final = "mysql"
REDIS: Final = "redis"
MONGODB: Final = "mongodb"
SQLSERVER: Final = "sqlserver"
DATABASES: Final = (POSTGRES, MYSQL, REDIS, MONGODB, SQLSERVER)
"""Those that ``db_engine`` can name."""
SSH: Final = "ssh"
KUBERNETES: Final = "kubernetes"
HTTP: Final = "http"
_SPOKEN: Final = frozenset({*DATABASES, SSH, KUBERNETES, HTTP})

_SERVICE: Final = re.compile(
    r"\.(?P<service>rds|redshift|redshift-serverless|docdb|docdb-elastic|cache"
    r"|memorydb|eks)\.(?:[a-z0-9-]+\.)?amazonaws\.com(?:\.cn)?$"
)
_OF_SERVICES: Final[Mapping[str, str]] = {
    "redshift": POSTGRES,
    "redshift-serverless": POSTGRES,
    "docdb": MONGODB,
    "docdb-elastic": MONGODB,
    "cache": REDIS,
    "memorydb": REDIS,
    "eks": KUBERNETES,
}
"""RDS is not here: it has four engines."""
_OF_PORTS: Final[Mapping[int, str]] = {
    5432: POSTGRES,
    5439: POSTGRES,  # Redshift
    6432: POSTGRES,  # PgBouncer
    3306: MYSQL,
    6379: REDIS,
    6380: REDIS,
    27017: MONGODB,
    1433: SQLSERVER,
    22: SSH,
    2222: SSH,
    6443: KUBERNETES,
    **dict.fromkeys((80, 443, 3000, 8000, 8080, 8443, 8888, 9090, 9443), HTTP),
}


def protocol_of(tunnel: TunnelSettings) -> str | None:
    """Return the protocol behind a tunnel; None if nothing tells.

    What the file says comes first: engine, cluster, login keys or document, then the
    probe; then AWS's own name of the service in the host, then what the port is known
    for.
    """
    return (
        _by_settings(tunnel)
        or _by_probe(tunnel)
        or _OF_SERVICES.get(service_of(remote_host(tunnel)) or "")
        or _OF_PORTS.get(remote_port(tunnel) or 0)
    )


def service_of(host: str | None) -> str | None:
    """Return the AWS service whose endpoint is called ``host``: rds, redshift, ....

    None for a name that is not AWS's own, or of no service that has clients here.
    """
    match = _SERVICE.search((host or "").rstrip(".").lower())
    return match["service"] if match else None


def _by_settings(tunnel: TunnelSettings) -> str | None:
    from ssmtunneld.config.session_documents import SSH_DOCUMENT

    if tunnel.db_engine is not None:
        return tunnel.db_engine
    if tunnel.cluster is not None:
        return KUBERNETES
    for_ssh = tunnel.instance_connect or tunnel.document == SSH_DOCUMENT
    return SSH if for_ssh else None


def _by_probe(tunnel: TunnelSettings) -> str | None:
    if tunnel.probe is None:
        return None
    if tunnel.probe.kind == "banner":
        return SSH if tunnel.probe.detail.startswith("SSH-") else None
    # A kind that no client speaks says nothing of the client.
    return tunnel.probe.kind if tunnel.probe.kind in _SPOKEN else None
