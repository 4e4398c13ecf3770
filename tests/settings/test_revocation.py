"""Revocation lists: which ones count, which are errors, and what a change of them means."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from edge.settings import certificates, source, tickets
from edge.settings import revocation as revocation_lists
from edge.settings.client_rules import ClientLeaf
from edge.settings.difference import compare
from edge.settings.files import read_file, state_of
from edge.settings.identity import policy_id, same_terms
from edge.settings.load import load
from edge.settings.model import Settings, Trust
from edge.settings.outline import outline
from edge.settings.transfer import decode, encode
from edge.tls import revocation
from edge.tls.revocation import revocation_of

from .certs import NOW, Authority, Leaf
from .conftest import HOST, Load, told

UP = 'upstream = "http://127.0.0.1:1"\n'
CRITICAL = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
DELTA = x509.DeltaCRLIndicator(1)


def scope(*, indirect: bool = False, url: str = "") -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier(url)] if url else None, relative_name=None, only_contains_user_certs=not url,
        only_contains_ca_certs=False, only_some_reasons=None, indirect_crl=indirect, only_contains_attribute_certs=False,
    )  # fmt: skip


def crl(
    issuer: Authority, *serials: int, key: ec.EllipticCurvePrivateKey | None = None, days: float = 7, age: float = 1,
    extension: x509.ExtensionType | None = None, name: x509.Name | None = None,
) -> x509.CertificateRevocationList:  # fmt: skip
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name or issuer.name)
        .last_update(NOW - datetime.timedelta(days=age))
        .next_update(NOW + datetime.timedelta(days=days))
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW).build()
        builder = builder.add_revoked_certificate(entry)
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key or issuer.key, hashes.SHA256())  # type: ignore[arg-type]


def write(path: Path, *lists: x509.CertificateRevocationList, encoding: Encoding = Encoding.PEM) -> None:
    path.write_bytes(b"".join(one.public_bytes(encoding) for one in lists))


def text(trust: str = 'crl = "list.pem"\n') -> str:
    return f'[trust.mesh]\nca = "ca.pem"\n{trust}{HOST}{UP}client_auth = {{ trust = "mesh" }}\n'


def loaded(loads: Load, trust: str = 'crl = "list.pem"\n') -> Settings:
    found = loads(text(trust))
    assert found.settings is not None, told(found)
    settings: Settings = found.settings
    return settings


def store(settings: Settings) -> Trust:
    trust = settings.hosts[0].client_auth.trust
    assert trust is not None
    return trust


def verdict(trust: Trust, leaf: Leaf, at: datetime.datetime = NOW) -> str:
    checks = revocation_of(trust)
    assert checks is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revocation, "time", at.timestamp)
        found = checks.objection(ClientLeaf(leaf.certificate.public_bytes(Encoding.DER)))
    return "" if found is None else found[0]


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_revoked_serial_number_is_found(loads: Load, conf: Path, authority: Authority, encoding: Encoding) -> None:
    good, bad = authority.issue(["a.test"]), authority.issue(["b.test"])
    others = [x509.random_serial_number() for _ in range(100)]
    write(conf / "list.pem", crl(authority, *others, bad.certificate.serial_number), encoding=encoding)
    settings = loaded(loads)
    trust = store(settings)
    assert (trust.crl_check, trust.crl_grace) == ("leaf", 86_400.0)
    assert verdict(trust, bad) == "revoked"
    assert verdict(trust, good) == ""
    assert decode(encode(settings)) == settings
    assert str(conf / "list.pem") in settings.files


@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, 0xFF, 0x100, (1 << 159) - 1, 1 << 158])
def test_serial_numbers_of_all_lengths(loads: Load, conf: Path, authority: Authority, serial: int) -> None:
    write(conf / "list.pem", crl(authority, 5, serial, 1 << 150))
    checks = revocation_of(store(loaded(loads)))
    assert checks is not None
    serials = checks._by_issuer["cn=test root"][0][1]
    assert serials.hold(serial)
    assert not serials.hold(serial + 1)
    assert not serials.hold(-serial)
    assert not serials.hold(serial << 300)
    assert not serials.hold(0)


def test_an_empty_list_revokes_nothing(loads: Load, conf: Path, authority: Authority) -> None:
    write(conf / "list.pem", crl(authority))
    assert verdict(store(loaded(loads)), authority.issue(["a.test"])) == ""


def test_a_list_is_believed_for_its_grace_and_then_refuses_its_own_issuers_alone(
    loads: Load, conf: Path, authority: Authority
) -> None:
    other = Authority("Other Root")
    (conf / "ca.pem").write_bytes(authority.pem + other.pem)
    mine, bad, theirs = authority.issue(["a.test"]), authority.issue(["b.test"]), other.issue(["c.test"])
    write(conf / "list.pem", crl(authority, bad.certificate.serial_number, days=1))
    trust = store(loaded(loads))
    late, too_late = NOW + datetime.timedelta(days=1.9), NOW + datetime.timedelta(days=2.1)
    assert [verdict(trust, leaf, late) for leaf in (mine, bad, theirs)] == ["", "revoked", ""]
    assert [verdict(trust, leaf, too_late) for leaf in (mine, bad, theirs)] == ["revocation-unknown", "revoked", ""]


def test_a_list_that_is_out_of_date_is_a_warning(loads: Load, conf: Path, authority: Authority) -> None:
    write(conf / "list.pem", crl(authority, days=-1, age=3))
    found = loads(text())
    assert found.settings is not None
    assert any("warning: the revocation list of CN=Test Root should have been replaced on" in line for line in told(found))


def test_the_newest_list_of_a_scope_counts_and_shards_add_up(loads: Load, conf: Path, authority: Authority) -> None:
    leaves = [authority.issue([f"{number}.test"]) for number in range(4)]
    numbers = [leaf.certificate.serial_number for leaf in leaves]
    first, second = scope(url="http://ca.test/1.crl"), scope(url="http://ca.test/2.crl")
    lists = [
        crl(authority, numbers[0], age=5, extension=first),
        crl(authority, numbers[1], age=2, extension=first),
        crl(authority, numbers[2], age=9, extension=second),
    ]
    write(conf / "list.pem", *lists)
    found = [verdict(store(loaded(loads)), leaf) for leaf in leaves]
    assert found == ["", "revoked", "revoked", ""]


def test_an_issuer_that_is_spelt_otherwise_is_the_same(loads: Load, conf: Path, authority: Authority) -> None:
    leaf = authority.issue(["a.test"])
    spelt = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "TEST  Root", _type=x509.name._ASN1Type.PrintableString)])
    write(conf / "list.pem", crl(authority, leaf.certificate.serial_number, name=spelt))
    assert verdict(store(loaded(loads)), leaf) == "revoked"


def test_lists_that_do_not_count_are_errors(loads: Load, conf: Path, authority: Authority) -> None:
    stranger = Authority("Stranger")
    forger = ec.generate_private_key(ec.SECP256R1())
    for made, message in (
        (crl(stranger), "is a list of CN=Stranger, which is not among the authorities of this store | add that authority to ca"),
        (crl(authority, key=forger), "is not signed by CN=Test Root"),
        (crl(authority, extension=DELTA), "is a delta list of CN=Test Root"),
        (crl(authority, extension=scope(indirect=True)), "about other issuers' certificates"),
        (crl(authority, extension=CRITICAL), "has a critical extension that is not known (1.2.3.4)"),
    ):
        write(conf / "list.pem", made)
        found = loads(text())
        assert found.settings is None
        assert any(message in line for line in told(found)), told(found)


def test_files_that_are_no_lists_are_errors(loads: Load, conf: Path) -> None:
    for data in (b"", b"nonsense", (conf / "ca.pem").read_bytes(), b"\x30\x03\x02\x01\x01"):
        (conf / "list.pem").write_bytes(data)
        assert loads(text()).settings is None
    found = loads(text('crl = "missing.pem"\n'))
    assert any("missing.pem cannot be read" in line for line in told(found))
    found = loads(text('crl = "nothing/*.pem"\n'))
    assert any("matches no file" in line for line in told(found))
    assert any("no list to look into" in line for line in told(loads(text('crl_check = "chain"\n'))))


def test_the_directory_of_a_pattern_is_watched(loads: Load, conf: Path, authority: Authority) -> None:
    (conf / "crl").mkdir()
    write(conf / "crl" / "one.pem", crl(authority))
    files = loaded(loads, 'crl = "crl/*.pem"\n').files
    assert str(conf / "crl") in files
    assert str(conf / "crl" / "one.pem") in files


def test_a_new_list_leaves_tickets_alone_unless_the_chain_is_checked(loads: Load, conf: Path, authority: Authority) -> None:
    for check, equal in (("leaf", True), ("chain", False)):
        trust = f'crl = "list.pem"\ncrl_check = "{check}"\n'
        write(conf / "list.pem", crl(authority, 1))
        one = loaded(loads, trust).hosts[0]
        write(conf / "list.pem", crl(authority, 1, days=9, age=0))
        same = loaded(loads, trust).hosts[0]
        write(conf / "list.pem", crl(authority, 1, 2))
        other = loaded(loads, trust).hosts[0]
        assert one != same != other, "contexts are made anew"
        assert policy_id(one) == policy_id(same)
        assert (policy_id(one) == policy_id(other)) is equal
        assert same_terms(one, other) is equal


def test_what_weakens_the_check_is_told(loads: Load, conf: Path, authority: Authority) -> None:
    write(conf / "list.pem", crl(authority, 1))
    full = loaded(loads)

    def weaker(other: Settings) -> list[str]:
        return [change.text for change in compare(outline(full), outline(other)) if change.weaker]

    assert any("crl" in line for line in weaker(loaded(loads, "")))
    assert any("crl_check leaf → off" in line for line in weaker(loaded(loads, 'crl = "list.pem"\ncrl_check = "off"\n')))
    assert any("crl_grace 1d → 7d" in line for line in weaker(loaded(loads, 'crl = "list.pem"\ncrl_grace = "7d"\n')))
    write(conf / "list.pem", crl(authority, 1, 2))
    assert not weaker(loaded(loads))
    changes = compare(outline(full), outline(loaded(loads)))
    assert [change.text for change in changes] == ["host api.example.com: client_auth.trust.crl: changes CN=Test Root"]


def test_what_changes_while_it_is_read_is_not_what_was_seen(
    loads: Load, conf: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates, keys, authorities, revocation lists, the directory of a pattern, and the tickets' secret."""
    (conf / "lists").mkdir()
    write(conf / "lists" / "a.pem", crl(authority))
    (conf / "secret").write_bytes(bytes(32))
    (conf / "secret").chmod(0o600)
    (conf / "edge.toml").write_text('[tls]\nticket_secret = "secret"\n' + text('crl = "lists/*.pem"\n'))

    def reading(path: Path, most: int) -> bytes:
        data = read_file(path, most)
        os.utime(path, ns=(1, 1))
        return data

    for module in (certificates, revocation_lists, source, tickets):
        monkeypatch.setattr(module, "read_file", reading)
    found = load(conf / "edge.toml", environ={}, now=NOW.timestamp())
    assert found.settings is not None, told(found)
    (conf / "lists" / "b.pem").touch()
    states = found.source.states
    assert set(found.settings.files) == states.keys()
    assert len(states) == 7
    assert [file for file, state in states.items() if state == state_of(file)] == []
