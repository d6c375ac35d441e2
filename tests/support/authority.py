"""A private certificate authority, as a company or a cloud has one."""

import datetime as dt
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """Signs certificates for any host; ``bundle`` is the file of its own one.

    Args:
        folder: Where its files are; must exist.
        name: Tells it from others.
    """

    def __init__(self, folder, name):
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self._contexts = {}
        self.bundle = folder / f"{name}.pem"
        # Nothing but what it needs: that is how gateways make theirs.
        extension = x509.BasicConstraints(ca=True, path_length=None)
        own = self._sign(self._name, self._key, (extension,))
        self.bundle.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def issue(self, *hosts):
        """Return the files of a certificate for ``hosts`` and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        signed = self._sign(_named(hosts[0]), key, (names,))
        stem = self._folder / hosts[0].replace(":", "_")
        certificate = stem.with_name(f"{stem.name}-cert.pem")
        private = stem.with_name(f"{stem.name}-key.pem")
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, private

    def server_context(self, host):
        """Return what serves TLS as ``host``."""
        if host not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.issue(host))
            self._contexts[host] = context
        return self._contexts[host]

    def client_context(self):
        """Return what trusts this authority alone."""
        return ssl.create_default_context(cafile=self.bundle)

    def _sign(self, subject, key, extensions):
        now = dt.datetime.now(tz=dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _named(name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _alternative(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
