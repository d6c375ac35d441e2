"""A database behind a tunnel: what its programs need to know, and how far TLS goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ssmtunneld.cli.application_protocol import DATABASES, protocol_of, service_of
from ssmtunneld.cli.destination import Local, remote_host, remote_port
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError

if TYPE_CHECKING:
    from pathlib import Path

    from ssmtunneld.config import TunnelSettings

DISABLE: Final = "disable"
REQUIRE: Final = "require"
VERIFY_CA: Final = "verify-ca"
VERIFY_FULL: Final = "verify-full"
"""Levels of TLS, as libpq calls them and ``db_tls`` does."""

# How ElastiCache and MemoryDB name endpoints that want TLS, and no others.
_CACHES_WITH_TLS: Final = ("master.", "replica.", "clustercfg.")


@dataclass(frozen=True, slots=True)
class Database:
    """All that a program needs to know of one database, but for the password."""

    tunnel: str
    """The tunnel's name."""
    kind: str
    """One of `DATABASES`."""
    host: str | None
    """Its own name or address; None if it is on the target."""
    port: int | None
    """Its own port, where that is known."""
    local: Local
    """The address at which the tunnel listens."""
    named: bool
    """True if ``host`` leads to the tunnel on this machine, by the hosts file."""
    user: str | None
    name: str | None
    by_iam: bool
    """True if the user's password is one by IAM."""
    tls: str | None
    """The level of TLS that the file asks for, if it does."""
    ca: Path | None
    """A PEM file of the authorities to trust; None for the system's."""

    @property
    def service(self) -> str | None:
        """The AWS service that it is a part of, if its name tells."""
        return service_of(self.host)

    @property
    def address(self) -> str:
        """The host for programs that know nothing like libpq's ``hostaddr``.

        Raises:
            CommandError: The tunnel listens on a Unix socket only.
        """
        if self.local.port is None:
            raise CommandError(
                f"{self.tunnel} listens on a Unix socket only",
                "add a TCP address to listen",
            )
        return self.host if self.named and self.host else self.local.address

    def wanted_level(self, *, checks_name: bool) -> str | None:
        """Return the level of TLS that the file asks for; None if it says nothing.

        Args:
            checks_name: True for programs that can compare the name in the certificate
                with ``host``: where only ``db_ca`` is set, the others check no name.
        """
        if self.tls is not None or self.ca is None:
            return self.tls
        return VERIFY_FULL if checks_name else VERIFY_CA

    @property
    def usual_level(self) -> str | None:
        """The level that its service or its kind of login has; None if unknown."""
        if self.service in {"cache", "memorydb"}:
            host = (self.host or "").lower()
            has_tls = host.startswith(_CACHES_WITH_TLS) or ".serverless." in host
            # Their certificates are signed by a public authority.
            return VERIFY_CA if has_tls else None
        return REQUIRE if self.service or self.by_iam else None


def kind_of(tunnel: TunnelSettings) -> str:
    """Return the kind of database behind a tunnel.

    Raises:
        CommandError: Nothing tells.
    """
    kind = protocol_of(tunnel)
    if kind not in DATABASES:
        raise CommandError(
            f"{tunnel.name}: unknown kind of database: no db_engine, no known port",
            f"pass --kind {'|'.join(DATABASES)}, or set db_engine",
            code=EXIT_USAGE,
        )
    return kind


def database_of(
    kind: str, tunnel: TunnelSettings, local: Local, user: str | None = None
) -> Database:
    """Return the database behind a tunnel.

    Args:
        kind: One of `DATABASES`.
        tunnel: The tunnel.
        local: Where it listens.
        user: Instead of ``db_user``.
    """
    host = remote_host(tunnel)
    return Database(
        tunnel=tunnel.name,
        kind=kind,
        host=host,
        port=remote_port(tunnel),
        local=local,
        named=host is not None and leads_here(host, local),
        user=user or tunnel.db_user,
        name=tunnel.db_name,
        by_iam=tunnel.db_auth == "iam",
        tls=tunnel.db_tls,
        # What is pasted is read in another folder.
        ca=None if tunnel.db_ca is None else tunnel.db_ca.absolute(),
    )


def leads_here(host: str, local: Local) -> bool:
    """Return True if the hosts file gives ``host`` the tunnel's address."""
    from ssmtunneld.cli.hosts_block import HOSTS_FILE, gives, read

    try:
        return gives(read(HOSTS_FILE), host, local.address)
    except CommandError:
        return False
