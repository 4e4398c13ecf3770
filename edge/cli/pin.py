"""`edge pin`: the pins of a server's chain, or of certificates in a file, ready to be written into the settings."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.cli.terminal import Exit, Stop, answer, note, print_json, printable, table
from edge.errors import Fault
from edge.settings.model import Trust, UpstreamTls

__all__ = ["run"]

_SECONDS = 10.0


def run(args: argparse.Namespace) -> int:
    """Ask, then print. What is pinned is up to whoever reads it: leaf, issuer or root."""
    if bool(args.server) == bool(args.cert):
        raise Stop(Exit.USAGE, "edge pin takes a server or --cert FILE", "For example: edge pin api.example.com")
    if args.cert:
        chain = _from_file(Path(args.cert))
    else:
        chain = _from_server(args.server, args.ca, args.server_name, verify=not args.insecure)
    rows = [(_place(chain, index), _name(found), f"{found.not_valid_after_utc:%Y-%m-%d}", _pin(found)) for index, found in
            enumerate(chain)]  # fmt: skip
    if getattr(args, "json", False):
        keys = ("place", "subject", "not_after", "pin")
        print_json({"verified": not args.cert and not args.insecure, "pins": [dict(zip(keys, row, strict=True)) for row in rows]})
        return Exit.FINE
    table(("what", "subject", "until", "pin"), rows)
    if len(rows) > 1:
        note("\nThe leaf's key and its issuer's as the backup; take another backup if you hold a second key of your own:")
        answer(f"pins = {json.dumps([rows[0][3], rows[1][3]])}")
    else:
        note("\nOne pin needs a backup: the pin of a second key, kept elsewhere (edge help pins).")
    return Exit.FINE


def _from_file(path: Path) -> list[x509.Certificate]:
    try:
        data = path.read_bytes()
        return x509.load_pem_x509_certificates(data) if b"-----BEGIN" in data else [x509.load_der_x509_certificate(data)]
    except OSError as error:
        raise _unread(str(path), error) from None
    except ValueError:
        raise Stop(Exit.NOT_FINE, f"{path} holds no certificate") from None


def _unread(path: str, error: OSError) -> Stop:
    code = Exit.NOT_PERMITTED if isinstance(error, PermissionError) else Exit.NOT_FINE
    return Stop(code, f"{path} cannot be read: {error.strerror}")


def _from_server(server: str, ca: str | None, name: str | None, *, verify: bool) -> list[x509.Certificate]:
    from edge.control.probe import certificates_of
    from edge.tls.trust import TrustError

    host, port = _address(server)
    trust = Trust(name="system", system=True)
    if ca:
        try:
            trust = Trust(name=ca, ca_pem=Path(ca).read_bytes())
        except OSError as error:
            raise Stop(
                Exit.NOT_PERMITTED if isinstance(error, PermissionError) else Exit.NOT_FINE, f"{ca}: {error.strerror}"
            ) from None
    tls = UpstreamTls(trust=trust, verify=verify)
    if name:
        tls = replace(tls, server_name=name)
    try:
        chain = certificates_of(host, port, tls, _SECONDS)
    except Fault as fault:
        detail = f" ({printable(fault.detail)})" if fault.detail else ""
        raise Stop(
            Exit.NOT_FINE, f"{host}:{port} cannot be verified: {fault.kind}{detail}", _hint(fault, verify=verify)
        ) from None
    except TrustError as error:
        raise Stop(Exit.NOT_FINE, str(error)) from None
    except OSError as error:
        raise Stop(Exit.NOT_FINE, f"{host}:{port} does not answer: {error.strerror or error}") from None
    if not verify:
        note("Not verified: these are the keys of whoever answered.")
    return [x509.load_der_x509_certificate(der) for der in chain]


def _hint(fault: Fault, *, verify: bool) -> str:
    if fault.detail == "unrecognized_name" or fault.kind == "upstream-certificate-wrong-name":
        return "The name that the server knows: --server-name NAME"
    if fault.kind == "upstream-not-tls":
        return "What listens there speaks no TLS; another port: HOST:PORT"
    return "Another authority: --ca FILE. To see what it sends without believing it: --insecure" if verify else ""


def _address(text: str) -> tuple[str, int]:
    rest = text.removeprefix("https://").partition("/")[0]
    host, colon, port = rest.rpartition(":")
    if not colon or host.endswith(":") or (host.count(":") and not host.endswith("]")):
        host, port = rest, "443"
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise Stop(Exit.USAGE, f"{text!r} is not a server", "For example: edge pin api.example.com:8443")
    return host, int(port)


def _place(chain: list[x509.Certificate], index: int) -> str:
    if index == 0:
        return "leaf"
    return "root" if chain[index].issuer == chain[index].subject else "issuer"


def _name(certificate: x509.Certificate) -> str:
    text = certificate.subject.rfc4514_string()
    if text:
        return text
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "(no name)"
    return ", ".join(names.get_values_for_type(x509.DNSName)[:3]) or "(no name)"


def _pin(certificate: x509.Certificate) -> str:
    der = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256/{base64.b64encode(hashlib.sha256(der).digest()).decode()}"
