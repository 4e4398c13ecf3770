"""What clients would not accept of a chain is found before they do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.settings.certs import API, PAIR, Authority, Key, host, only, write_key
from tests.settings.conftest import Load, told


def test_a_key_that_belongs_to_another_certificate(loads: Load, conf: Path, authority: Authority) -> None:
    authority.issue(API).write(conf, "c")
    write_key(conf / "c.key", authority.issue(API).key_pem())
    line = only(told(loads(host(PAIR))))
    assert line.startswith("3:27:7 error: the key does not belong to the certificate CN=api.example.com")


def test_chains(loads: Load, conf: Path) -> None:
    root = Authority("Root")
    middle = Authority("Middle", root)
    other = Authority("Other")
    leaf = middle.issue(API, published=True)
    cases: list[tuple[tuple[bytes, ...], str]] = [
        ((leaf.pem, middle.pem), ""),
        ((leaf.pem, middle.pem, root.pem), ""),
        ((leaf.pem,), "warning: the chain is incomplete: CN=Middle, which issued it, is missing"),
        ((leaf.pem, root.pem), "error: the chain is incomplete: CN=Middle, the issuer of number 1, is missing"),
        ((leaf.pem, other.pem), "error: the chain is incomplete: CN=Middle, the issuer of number 1, is missing"),
        ((leaf.pem, root.pem, middle.pem), "error: the chain is misordered: number 2 did not issue number 1"),
        ((middle.pem, leaf.pem), "error: the chain is misordered: the certificate of this key, CN=api.example.com, is number 2"),
        ((leaf.pem, middle.pem, root.pem, other.pem), "error: the chain goes on after CN=Root, which is its own issuer"),
    ]
    for chain, words in cases:
        leaf.write(conf, "c")
        (conf / "c.pem").write_bytes(b"".join(chain))
        lines = told(loads(host(PAIR)))
        assert (words in only(lines)) if words else not lines, lines


def test_the_right_order_is_told(loads: Load, conf: Path) -> None:
    root = Authority("Root")
    middle = Authority("Middle", root)
    leaf = middle.issue(API)
    leaf.write(conf, "c")
    (conf / "c.pem").write_bytes(root.pem + middle.pem + leaf.pem)
    assert "the right order is: 3 (CN=api.example.com), 2 (CN=Middle), 1 (CN=Root)" in only(told(loads(host(PAIR))))


def test_an_issuer_of_the_same_name_with_another_key(loads: Load, conf: Path) -> None:
    Authority("Same").issue(API).write(conf, "c", Authority("Same").pem)
    assert "was not signed by number 2" in only(told(loads(host(PAIR))))


def test_a_self_signed_certificate_is_complete(loads: Load, conf: Path) -> None:
    own = Authority("api.example.com")
    (conf / "c.pem").write_bytes(own.pem)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_key(conf / "c.key", own.key.private_bytes(pem, form, serialization.NoEncryption()))
    assert "the certificate does not cover api.example.com | it covers no names at all" in only(told(loads(host(PAIR))))


def test_dates_are_warnings(loads: Load, conf: Path, authority: Authority) -> None:
    authority.issue(API, start=-90, end=-1).write(conf, "c")
    loaded = loads(host(PAIR))
    assert "warning: the certificate CN=api.example.com expired on 2026-05-31 00:00 UTC | renew it" in only(told(loaded))
    assert loaded.settings is not None
    authority.issue(API, start=1).write(conf, "c")
    assert "warning: the certificate CN=api.example.com is not valid before 2026-06-02 00:00 UTC" in only(told(loads(host(PAIR))))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024), "has 1024 bits, which is too weak"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "has a key on secp256k1, which clients do not accept"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), ""),
        (ed25519.Ed25519PrivateKey.generate, ""),
    ],
)
def test_kinds_of_keys(loads: Load, conf: Path, authority: Authority, make: Callable[[], Key], words: str) -> None:
    authority.issue(API, key=make()).write(conf, "c")
    lines = told(loads(host(PAIR)))
    assert (words in only(lines)) if words else not lines


def test_sha1_signatures_are_refused(loads: Load, conf: Path, authority: Authority) -> None:
    leaf = authority.issue(API).write(conf, "c")
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_key(conf / "ca.key", authority.key.private_bytes(pem, form, serialization.NoEncryption()))
    (conf / "san.txt").write_text("subjectAltName = DNS:api.example.com\n")
    request = ["openssl", "req", "-new", "-key", "c.key", "-subj", "/CN=api.example.com", "-out", "c.csr"]
    subprocess.run(request, cwd=conf, check=True, capture_output=True)
    sign = [
        "openssl",
        "x509",
        "-req",
        "-sha1",
        "-in",
        "c.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-extfile",
        "san.txt",
        "-days",
        "1",
    ]
    subprocess.run([*sign, "-out", "c.pem"], cwd=conf, check=True, capture_output=True)
    (conf / "c.key").write_bytes(leaf.key_pem())
    assert any("is signed with SHA1, which clients do not accept" in line for line in told(loads(host(PAIR))))
