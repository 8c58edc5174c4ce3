"""A self-signed certificate for `gateway serve --tls-auto`; its fingerprint is what to pin."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAYS_VALID = 365


def self_signed(directory: Path, host: str, *, now: float) -> tuple[Path, Path, str]:
    """Return (certificate, key, SHA-256 fingerprint); made once, kept 0600, renewed when expired.

    P-256, because every TLS client takes it (Ed25519 certificates are still refused by many).
    """
    certificate, key = directory / "tls.crt", directory / "tls.key"
    if certificate.exists() and key.exists():
        known = x509.load_pem_x509_certificate(certificate.read_bytes())
        if known.not_valid_after_utc.timestamp() > now and _names(known, host):
            return certificate, key, known.fingerprint(hashes.SHA256()).hex()
    private = ec.generate_private_key(ec.SECP256R1())
    made = _build(private, host, now)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(key, pem)
    _write(certificate, made.public_bytes(serialization.Encoding.PEM))
    return certificate, key, made.fingerprint(hashes.SHA256()).hex()


def _build(private: ec.EllipticCurvePrivateKey, host: str, now: float) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dataset-gateway")])
    start = dt.datetime.fromtimestamp(now, tz=dt.UTC) - dt.timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=DAYS_VALID))
        .add_extension(x509.SubjectAlternativeName(_alternatives(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )


def _alternatives(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    try:
        names.append(x509.IPAddress(ipaddress.ip_address(host)))
    except ValueError:
        names.append(x509.DNSName(host))
    return names


def _names(certificate: x509.Certificate, host: str) -> bool:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return all(name in found for name in _alternatives(host))


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
