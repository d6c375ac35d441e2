"""The network between us and AWS: trusted certificates and proxies."""

from __future__ import annotations

import errno
import os
import ssl
import stat
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ssmtunneld.aws.api.endpoints import SettingError
from ssmtunneld.base.paths import exists, expanded
from ssmtunneld.base.record import Record

if TYPE_CHECKING:
    from botocore.session import Session


class Network(Record):
    """Network settings of the configuration; the environment supplies the rest."""

    ca_bundle: str | None = None
    """A file of trusted certificates."""
    proxy: str | None = None
    """A proxy's URL, without credentials; empty for none, whatever else says so."""


def ca_bundle_of(session: Session, network: Network) -> str | None:
    """Return the file or folder of certificates that a session trusts.

    In the order of other AWS tools: the configuration, ``AWS_CA_BUNDLE``, the
    profile's ``ca_bundle``, ``REQUESTS_CA_BUNDLE``. None is the usual authorities.

    Raises:
        BotoCoreError: There is no such profile, or the configuration is broken.
        SettingError: What is named is not there.
    """
    profile: str | None = session.get_config_variable("ca_bundle")
    named = {
        "ca_bundle": network.ca_bundle,
        "AWS_CA_BUNDLE": os.environ.get("AWS_CA_BUNDLE"),
        "the profile's ca_bundle": profile,
        "REQUESTS_CA_BUNDLE": os.environ.get("REQUESTS_CA_BUNDLE"),
    }
    for name, text in named.items():
        if text:
            path = expanded(text)
            if not exists(path):
                raise SettingError(f"{name} names {path}, which is not a file")
            return str(path)
    return None


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return what trusts ``ca_bundle``, or without one the usual authorities.

    API and data channel use the same. It is read again when the file has changed.
    Thread-safe; blocks for about 30 ms where it has to read, and never for a pipe.

    Raises:
        OSError: There are no certificates in it.
    """
    if ca_bundle is None:
        return _usual_context()
    found = Path(ca_bundle).stat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise OSError(errno.EINVAL, "it is neither a regular file nor a folder")
    return _context(ca_bundle, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=1)
def _usual_context() -> ssl.SSLContext:
    # Importing botocore here keeps it out of the programs that only show a status.
    from botocore.httpsession import get_cert_path  # noqa: PLC0415 - nothing else needs it

    context = ssl.create_default_context()
    # The system's may be missing, as in small containers and in Python's own builds
    # for macOS; a company's authority may be only there.
    context.load_verify_locations(cafile=get_cert_path(verify=True))
    return context


@lru_cache(maxsize=16)
def _context(ca_bundle: str, _changed: int, _size: int) -> ssl.SSLContext:
    is_folder = Path(ca_bundle).is_dir()  # as REQUESTS_CA_BUNDLE may be
    context = ssl.create_default_context(
        cafile=None if is_folder else ca_bundle,
        capath=ca_bundle if is_folder else None,
    )
    # On by default since Python 3.13, and refuses the certificates of most gateways
    # that inspect TLS: they lack extensions that RFC 5280 asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
