"""A certificate authority of our own and certificates for loopback, made with the `openssl` command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority's certificate, the broker's key with its chain, a client's certificate and key."""

    authority: Path
    broker: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, a broker certificate for 127.0.0.1 and a client certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, authority_key = folder / "ca.pem", folder / "ca.key"
    _openssl(
        *f"req -x509 -newkey rsa:2048 -nodes -days 30 -keyout {authority_key} -out {authority}".split(),
        "-subj",
        "/CN=Bearwire test authority",
    )
    for name in ("broker", "client"):
        request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        _openssl(
            *f"req -newkey rsa:2048 -nodes -keyout {folder / name}.key -out {request}".split(), "-subj", f"/CN={name}"
        )
        _openssl(
            *f"x509 -req -in {request} -CA {authority} -CAkey {authority_key} -CAcreateserial -days 30".split(),
            *f"-extfile {extensions} -out {folder / name}.pem".split(),
        )
    chain = folder / "broker-chain.pem"
    chain.write_text((folder / "broker.key").read_text() + (folder / "broker.pem").read_text() + authority.read_text())
    return Certificates(authority, chain, folder / "client.pem", folder / "client.key")


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
