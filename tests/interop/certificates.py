"""Certificates for servers, signed by an authority that nobody else knows."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: the authority's certificate, the server's own and its key."""

    ca: Path
    own: Path
    key: Path


def certify(name, folder):
    """Make a certificate of the server ``name``, and return its files in ``folder``."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    is_ca = x509.BasicConstraints(ca=True, path_length=0)
    # Two of one name would be taken for one, and fail in the words of a signature.
    authority = f"Authority {x509.random_serial_number():x}"
    ca = _sign(authority, ca_key, _subject(authority), ca_key, is_ca)
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    own = _sign(name, key, ca.subject, ca_key, names)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    files = Certificates(*(folder / name for name in ("ca.pem", "own.pem", "key.pem")))
    files.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    files.own.write_bytes(own.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(secret)
    return files


def _subject(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _sign(name, key, issuer, signer, extension):
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(extension, critical=True)
        .sign(signer, hashes.SHA256())
    )
