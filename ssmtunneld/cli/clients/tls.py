"""The level of TLS between a client and a database, and whom to trust."""

from __future__ import annotations

import os
import shlex
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssmtunneld.base.paths import is_file
from ssmtunneld.cli.database import VERIFY_CA, VERIFY_FULL
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError

if TYPE_CHECKING:
    from ssmtunneld.cli.database import Database

_SYSTEM_ROOTS: Final = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Alpine, Arch
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora, RHEL
    Path("/etc/ssl/ca-bundle.pem"),  # openSUSE
    Path("/etc/ssl/cert.pem"),  # macOS, FreeBSD
)


def level_for(
    database: Database, client: str, *, checks_name: bool, by_hosts: bool = True
) -> str | None:
    """Return the level of TLS that a client is told, one of libpq's.

    What the file says; else what the database's service or a password by IAM wants;
    None to leave it to the client.

    Args:
        database: The database.
        client: The client's name.
        checks_name: True if it can compare the certificate with the database's name.
        by_hosts: True if it could with the name in the hosts file.

    Raises:
        CommandError: The file asks for more than the client can do.
    """
    if database.tls == VERIFY_FULL and not checks_name:
        hosts = "let the real name lead to the tunnel, with ssmtunneld hosts, or "
        raise CommandError(
            f"{client} cannot check the name in the certificate of {database.tunnel}, "
            f'as db_tls = "{VERIFY_FULL}" asks for',
            f'{hosts if by_hosts else ""}set db_tls = "{VERIFY_CA}"',
            code=EXIT_USAGE,
        )
    return database.wanted_level(checks_name=checks_name) or database.usual_level


_RDS_AUTHORITIES: Final = (
    "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
)
"""Those of all regions of the partition ``aws`` (RDS's manual, "Using SSL/TLS")."""


def authorities(database: Database) -> str | None:
    """Return the file of the authorities that sign for a database.

    Of clients that must be told: the tunnel's, or else the system's; None if there is
    no such file.
    """
    if database.ca is not None:
        if not is_file(database.ca):
            raise CommandError(
                f"db_ca of {database.tunnel}: {database.ca} is not a file",
                "fetch it (of RDS and Aurora: curl -o "
                f"{shlex.quote(str(database.ca))} {_RDS_AUTHORITIES}), or correct "
                "db_ca",
                code=EXIT_USAGE,
            )
        return str(database.ca)
    # As OpenSSL itself would be told; what it was built with is often a folder.
    said = os.environ.get(ssl.get_default_verify_paths().openssl_cafile_env)
    places = [Path(said)] if said else list(_SYSTEM_ROOTS)
    return next((str(place) for place in places if is_file(place)), None)
