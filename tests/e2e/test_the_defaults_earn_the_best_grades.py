"""The defaults, judged by those who judge TLS servers: testssl.sh (A+ by the rules of SSL Labs), sslyze (Mozilla intermediate).

The certificate is as a good one is (90 days, a place for its CRL); nothing else is configured than a name and an upstream.
"""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .conftest import StartGateway
from .gateway import Gateway
from .grade import grade
from .upstreams import ScriptedUpstream

NAME = "edge.test"
SSLYZE = Path(__file__).parents[2] / ".venv" / "sslyze" / "bin" / "python"
# Its client ends with the handshake, before the ticket comes where the machine is busy, and then has nothing to come back with.
LEFT_TOO_EARLY = [
    (f"sessionresumption_{kind}", ("WARN", text))
    for kind in ("ticket", "ID")
    for text in ("check failed because of connect problem", "check failed, pls report")
]
PATIENCE = {"HEADER_MAXSLEEP": "60", "MAX_WAITSOCK": "60", "CCS_MAX_WAITSOCK": "60", "HEARTBLEED_MAX_WAITSOCK": "60"}
NOT_OURS = {"engine_problem", "security_headers"}  # of its own OpenSSL; of the application behind the gateway
PROFILE = Path(__file__).with_name("mozilla-intermediate-6.0.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ca.pem, leaf.pem and leaf.key."""
    folder = tmp_path_factory.mktemp("graded")
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "tests"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests")]
    )

    def certificate(name: x509.Name, public: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    ca = (
        certificate(ca_name, ca_key.public_key(), 365)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    crl = x509.DistributionPoint([x509.UniformResourceIdentifier("http://127.0.0.1:9/ca.crl")], None, None, None)
    leaf = (
        certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]), key.public_key(), 89)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.CRLDistributionPoints([crl]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "leaf.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    private = folder / "leaf.key"
    private.touch(0o600)
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, folder: Path, echo_upstream: ScriptedUpstream) -> Gateway:
    return start_shared(
        f'[[host]]\nnames = ["{NAME}"]\ncertificates = [{{ chain = "{folder}/leaf.pem", key = "{folder}/leaf.key" }}]\n'
        f'upstream = "{echo_upstream.url}"\n'
    )


@pytest.mark.long
@pytest.mark.timeout(900)
def test_testssl_finds_nothing_and_the_grade_is_a_plus(edge: Gateway, folder: Path, tmp_path: Path) -> None:
    program = shutil.which("testssl.sh") or shutil.which("testssl")
    if program is None:
        pytest.skip("testssl.sh is not installed")
    report = tmp_path / "testssl.json"
    sections = ("-p", "-s", "-f", "-P", "-S", "-h", "-U", "-e")  # all but the simulation of clients
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "ADDITIONAL_CA_FILES": str(folder / "ca.pem")}
    subprocess.run(
        [program, "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1", *sections,
         "--jsonfile", str(report), f"https://{NAME}:{edge.port}"],
        env=environment | PATIENCE, stdin=subprocess.DEVNULL, capture_output=True, timeout=880, check=False,
    )  # fmt: skip
    found = {entry["id"]: (entry["severity"], entry["finding"]) for entry in json.loads(report.read_text())}
    left = [entry for entry in found.items() if entry[1][0] not in ("OK", "INFO") and entry[0] not in NOT_OURS]
    bad = dict(entry for entry in left if entry not in LEFT_TOO_EARLY)
    assert bad == {}
    result = grade(found)
    assert (result.letter, result.reasons) == ("A+", ())
    assert found["TLS1_3"][1].startswith("offered")
    assert found["secure_client_renego"][0] == "OK"


def sslyze(edge: Gateway, folder: Path, profile: Path) -> str:
    """What it says of the server, held against `profile`."""
    if not SSLYZE.exists():
        pytest.skip("sslyze is not installed: make test installs it")
    command = [SSLYZE, "-W", "ignore", "-m", "sslyze", "--slow_connection", "--custom_tls_config", profile]
    target = f"{NAME}:{edge.port}{{127.0.0.1}}"
    done = subprocess.run(
        [*command, "--certinfo_ca_file", folder / "ca.pem", target], capture_output=True, text=True, timeout=280, check=False
    )
    return done.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2] or done.stdout + done.stderr


def test_sslyze_finds_it_compliant_with_mozilla_intermediate(edge: Gateway, folder: Path) -> None:
    assert f"{NAME}:{edge.port}: OK - Compliant." in sslyze(edge, folder, PROFILE)


def test_sslyze_finds_what_is_not_compliant(edge: Gateway, folder: Path, tmp_path: Path) -> None:
    """The check can fail: the same server, held against a profile without TLS 1.2."""
    modern = tmp_path / "modern.json"
    modern.write_text(json.dumps({**json.loads(PROFILE.read_text()), "tls_versions": ["TLSv1.3"]}))
    said = sslyze(edge, folder, modern)
    assert "FAILED - Not compliant" in said
    assert "* tls_versions: TLS versions {'TLSv1.2'} are supported, but should be rejected." in said
