from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edge.settings.certificates import covers
from edge.settings.load import load
from edge.settings.problems import Severity
from tests.settings.certs import API, NOW, PAIR, Authority, host, only, write_key
from tests.settings.conftest import Load, told


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_a_pair_is_read(loads: Load, conf: Path, authority: Authority) -> None:
    leaf = authority.issue(API).write(conf, "c", authority.pem)
    loaded = loads(host(PAIR))
    assert not loaded.problems
    assert loaded.settings is not None
    certificate = loaded.settings.hosts[0].certificates[0]
    assert certificate.name == "c.pem"
    assert certificate.chain_pem == leaf.pem + authority.pem
    assert certificate.key_pem == leaf.key_pem()
    assert (certificate.key_type, certificate.names) == ("ecdsa", ("api.example.com",))
    assert certificate.not_before < NOW.timestamp() < certificate.not_after
    assert certificate.place.line == 3
    assert "PRIVATE" not in repr(certificate)
    assert {Path(name).name for name in loaded.settings.files} == {"edge.toml", "c.pem", "c.key"}


def test_bundle_and_directories(loads: Load, conf: Path, authority: Authority) -> None:
    leaf = authority.issue(API)
    write_key(conf / "bundle.pem", leaf.pem + authority.pem + leaf.key_pem())
    for directory, chain, key in (("k8s", "tls.crt", "tls.key"), ("certbot", "fullchain.pem", "privkey.pem")):
        (conf / directory).mkdir()
        (conf / directory / chain).write_bytes(leaf.pem)
        write_key(conf / directory / key, leaf.key_pem())
    (conf / "empty").mkdir()
    for source in ('{ bundle = "bundle.pem" }', '[{ dir = "k8s" }]', '[{ dir = "certbot" }]'):
        loaded = loads(host(source))
        assert not loaded.problems, told(loaded)
        assert loaded.settings is not None
        assert loaded.settings.hosts[0].certificates[0].names == ("api.example.com",)
    for name in ("empty", "none"):
        assert f"{name} holds no certificate | it needs tls.crt and tls.key" in only(told(loads(host(f'{{ dir = "{name}" }}'))))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{}", "a certificate needs a source"),
        ('{ chain = "api.pem" }', "a certificate needs 'key'"),
        ('{ key = "api.key" }', "a certificate needs 'chain'"),
        ('{ chain = "api.pem", key = "api.key", dir = "x" }', "a certificate has one source"),
        ('{ bundle = "a", dir = "x" }', "a certificate has one source"),
        ('"wildcard"', "there is no certificate 'wildcard'"),
        ('{ chain = "none.pem", key = "api.key" }', "none.pem cannot be read: no such file or directory"),
        ('{ chain = "api.pem", key = "." }', "cannot be read: is a directory"),
        ('{ chain = "api.key", key = "api.key" }', "api.key holds no certificate"),
        ('{ chain = "api.pem", key = "api.pem" }', "api.pem holds no private key"),
        ("[]", "a list without a certificate"),
    ],
)
def test_sources_that_are_not(loads: Load, source: str, words: str) -> None:
    assert words in only(told(loads(host(source))))


def test_files_that_hold_something_else(loads: Load, conf: Path, authority: Authority) -> None:
    leaf = authority.issue(API).write(conf, "c")
    der = leaf.certificate.public_bytes(serialization.Encoding.DER)
    for data, words in (
        (der, "is DER, not PEM | convert it"),
        (b"hello", "c.pem is not PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds a certificate that cannot be read"),
        (b"", "c.pem is not PEM"),
        (b"x" * (4 * 1024 * 1024 + 1), "longer than 4 MiB"),
    ):
        (conf / "c.pem").write_bytes(data)
        assert words in only(told(loads(host(PAIR))))
    leaf.write(conf, "c")
    for data, words in (
        (b"hello", "c.key is not PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "the key in c.key cannot be read"),
        (b"-----BEGIN PRIVATE KEY-----", "the key in c.key cannot be read"),
    ):
        write_key(conf / "c.key", data)
        assert words in only(told(loads(host(PAIR))))


def test_parameters_before_the_key_are_passed_over(loads: Load, conf: Path, authority: Authority) -> None:
    leaf = authority.issue(API).write(conf, "c")
    traditional = leaf.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    write_key(conf / "c.key", parameters + traditional)
    assert not loads(host(PAIR)).problems


def test_passphrases(loads: Load, conf: Path, authority: Authority) -> None:
    leaf = authority.issue(API).write(conf, "c", passphrase="hunter22")

    def with_phrase(text: str) -> str:
        return host(f'[{{ chain = "c.pem", key = "c.key", passphrase = "{text}" }}]')

    loaded = loads(with_phrase("${env:PW}"), PW="hunter22")
    assert not loaded.problems
    assert loaded.settings is not None
    assert loaded.settings.hosts[0].certificates[0].key_pem == leaf.key_pem()
    assert "is encrypted | write passphrase" in only(told(loads(host(PAIR))))
    wrong = only(told(loads(with_phrase("${env:PW}"), PW="wrong-one")))
    assert "cannot be read with this passphrase" in wrong
    assert "wrong-one" not in wrong
    leaf.write(conf, "c")
    assert "warning: a passphrase, but the key is not encrypted" in only(told(loads(with_phrase("x"))))


def test_a_certificate_for_clients_only_is_a_warning(loads: Load, conf: Path, authority: Authority) -> None:
    authority.issue(API, client_only=True).write(conf, "c")
    assert "is not for servers" in only(told(loads(host(PAIR))))


def test_a_trusted_authority_that_expired_is_a_warning(conf: Path) -> None:
    text = host('{ chain = "api.pem", key = "api.key" }') + 'client_auth = { trust = "m" }\n[trust.m]\nca = "ca.pem"\n'
    later = NOW.timestamp() + 1001 * 86_400
    lines = told(load(conf / "edge.toml", text=text, environ={}, now=later))
    assert any("warning: the authority CN=Test Root expired on 2029-02-25" in line for line in lines), lines


def test_a_certificate_that_is_no_authority_is_told(loads: Load, conf: Path, authority: Authority) -> None:
    authority.issue(API).write(conf, "leaf")
    text = host('{ chain = "api.pem", key = "api.key" }') + 'client_auth = { trust = "m" }\n[trust.m]\nca = "leaf.pem"\n'
    wanted = "is no authority: certificates that it signed count for nothing | name the one that issued it: CN="
    assert any(wanted in line for line in told(loads(text)))
    assert not any("is no authority" in line for line in told(loads(text.replace("leaf.pem", "ca.pem"))))


def test_modes_of_key_files(loads: Load, conf: Path, authority: Authority) -> None:
    leaf = authority.issue(API).write(conf, "c")
    for mode, words in (
        (0o644, "error: everybody on this machine can read the private key c.key (mode 0644) | chmod 600 c.key"),
        (0o640, "warning: a group can read the private key c.key (mode 0640) | chmod 600 c.key"),
    ):
        write_key(conf / "c.key", leaf.key_pem(), mode)
        assert words in only(told(loads(host(PAIR))))


def test_all_problems_of_a_certificate_are_told_at_once(loads: Load, conf: Path, authority: Authority) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    leaf = authority.issue(["other.example.com"], key=weak, end=-1).write(conf, "c")
    write_key(conf / "c.key", leaf.key_pem(), 0o644)
    words = " ".join(told(loads(host(PAIR))))
    for part in ("too weak", "expired", "everybody on this machine"):
        assert part in words


def test_a_certificate_must_cover_the_names(loads: Load) -> None:
    text = host('[{ chain = "api.pem", key = "api.key" }]').replace(
        '"api.example.com"]', '"a.b.mesh.internal", "x.mesh.internal"]'
    )
    assert "does not cover a.b.mesh.internal | it covers api.example.com" in only(told(loads(text)))


def test_covering() -> None:
    assert covers(("*.a.example",), "x.a.example")
    assert covers(("*.a.example",), "*.a.example")
    assert covers(("127.0.0.1",), "127.0.0.1")
    assert not covers(("*.a.example",), "a.example")
    assert not covers(("*.a.example",), "x.y.a.example")
    assert not covers(("*.0.0.1",), "127.0.0.1")


def test_one_of_each_key_type(loads: Load, conf: Path, authority: Authority, rsa_key: rsa.RSAPrivateKey) -> None:
    authority.issue(API, key=rsa_key).write(conf, "r")
    authority.issue(API).write(conf, "c")
    both = '[{ chain = "c.pem", key = "c.key" }, { chain = "r.pem", key = "r.key" }]'
    loaded = loads(host(both))
    assert not loaded.problems
    assert loaded.settings is not None
    assert [certificate.key_type for certificate in loaded.settings.hosts[0].certificates] == ["ecdsa", "rsa"]
    twice = '[{ chain = "c.pem", key = "c.key" }, { chain = "api.pem", key = "api.key" }]'
    assert "two certificates with a key of one type (ecdsa)" in only(told(loads(host(twice))))


NAMED = '[[certificate]]\nname = "{0}"\nchain = "{0}.pem"\nkey = "{0}.key"\n'


def test_named_certificates_are_found_by_their_names(
    loads: Load, conf: Path, authority: Authority, rsa_key: rsa.RSAPrivateKey
) -> None:
    authority.issue(["other.example.com"]).write(conf, "o")
    authority.issue(API).write(conf, "c")
    authority.issue(["*.example.com"], key=rsa_key).write(conf, "r")
    pool = "".join(NAMED.format(stem) for stem in ("o", "c", "r"))
    plain = '[[host]]\nnames = ["api.example.com"]\nupstream = "http://127.0.0.1:8000"\n'
    loaded = loads(pool + plain)
    assert loaded.settings is not None
    assert [certificate.name for certificate in loaded.settings.hosts[0].certificates] == ["c", "r"]
    assert "warning: certificate 'o' is not used" in only(told(loaded))
    named = loads(pool + plain + 'certificates = ["c"]\n')
    assert named.settings is not None
    assert [certificate.name for certificate in named.settings.hosts[0].certificates] == ["c"]
    missing = told(loads(pool + plain.replace("api.example.com", "x.y.example")))
    assert "error: no [[certificate]] covers x.y.example" in only(missing)
    typing = told(loads(pool + plain + 'certificates = "cc"\n'))
    assert "there is no certificate 'cc'" in only(typing)
    again = told(loads(pool + NAMED.format("c") + plain))
    assert "two certificates are called 'c', the first at" in only(again)


def test_a_host_without_any_certificate(loads: Load) -> None:
    text = '[[host]]\nnames = ["api.example.com"]\nupstream = "http://127.0.0.1:8000"\n'
    assert "1:1:8 error: api.example.com has no certificate | write certificates" in only(told(loads(text)))


def test_a_plain_host_needs_none(loads: Load) -> None:
    text = '[[listener]]\nname = "p"\naddress = ":8080"\ntls = "off"\n'
    text += '[[host]]\nnames = ["api.example.com"]\nupstream = "http://127.0.0.1:8000"\n'
    loaded = loads(text)
    assert not loaded.problems
    assert loaded.settings is not None
    assert loaded.settings.hosts[0].certificates == ()


def test_five_hundred_certificates_load_quickly(tmp_path: Path, authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    parts: list[str] = []
    for index in range(500):
        authority.issue([f"h{index}.example.com"], key=key).write(tmp_path, f"h{index}", authority.pem)
        parts.append(
            f'[[host]]\nnames = ["h{index}.example.com"]\ncertificates = {{ chain = "h{index}.pem", key = "h{index}.key" }}\n'
            'upstream = "http://127.0.0.1:8000"\n'
        )
    before = time.process_time()
    loaded = load(tmp_path / "edge.toml", text="".join(parts), environ={}, now=NOW.timestamp())
    spent = time.process_time() - before
    assert loaded.settings is not None
    assert len(loaded.settings.hosts) == 500
    assert not [problem for problem in loaded.problems if problem.severity is Severity.ERROR]
    assert spent < 3.0, spent  # a second on a quiet machine
