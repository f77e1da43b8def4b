"""A certificate authority of the tests, and certificates that it signs."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple


class Certificate(NamedTuple):
    """``chain`` and ``key`` are PEM files; ``authority`` is what a client has to trust."""

    chain: Path
    key: Path
    authority: Path


def certificate(folder: Path, *names: str) -> Certificate:
    """A certificate for these hosts or addresses, signed by a new authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def signed(name: str, public: Any, issuer: x509.Name, key: Any, *extensions: tuple[Any, bool]) -> Any:
        today = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(
            issuer, subject, public, x509.random_serial_number(),
            today - timedelta(days=1), today + timedelta(days=1),
        )  # fmt: skip
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, is_critical)
        return builder.sign(key, hashes.SHA256())

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
    authority = signed(
        "Test authority",
        authority_key.public_key(),
        issuer,
        authority_key,
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), False),
    )
    alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
    leaf = signed(names[0], key.public_key(), issuer, authority_key, (alternatives, False))
    files = Certificate(folder / "server.pem", folder / "server.key", folder / "authority.pem")
    pem = serialization.Encoding.PEM
    files.chain.write_bytes(leaf.public_bytes(pem))
    files.authority.write_bytes(authority.public_bytes(pem))
    files.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _general(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
