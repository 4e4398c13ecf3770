"""The development certificate: private, accepted by a strict verifier, kept while it is good, made anew when it is not."""

from __future__ import annotations

import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from edge.control.devca import DevCertificate, ensure

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def serial(made: DevCertificate) -> int:
    return x509.load_pem_x509_certificate(made.chain.read_bytes()).serial_number


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_private(tmp_path: Path) -> None:
    made = ensure(tmp_path / "state")
    assert mode(tmp_path / "state" / "dev") == 0o700
    assert mode(made.key) == mode(made.ca.with_suffix(".key")) == 0o600
    assert made.created_ca
    assert sorted(path.name for path in made.ca.parent.iterdir()) == ["ca.key", "ca.pem", "localhost.key", "localhost.pem"]


def test_openssl_accepts_it_for_every_local_name(tmp_path: Path) -> None:
    made = ensure(tmp_path, ["My.Example", "192.0.2.7"])
    for flag, name in (
        ("-verify_hostname", "localhost"),
        ("-verify_hostname", "my.example"),
        ("-verify_ip", "127.0.0.1"),
        ("-verify_ip", "::1"),
        ("-verify_ip", "192.0.2.7"),
    ):
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", made.ca, flag, name, made.chain]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


def test_it_is_kept_while_it_is_good(tmp_path: Path) -> None:
    first = ensure(tmp_path, now=NOW)
    again = ensure(tmp_path, now=NOW + timedelta(days=50))
    assert serial(first) == serial(again)
    assert not again.created_ca


def test_the_leaf_is_renewed_under_the_same_authority(tmp_path: Path) -> None:
    first = ensure(tmp_path, now=NOW)
    before, authority = serial(first), first.ca.read_bytes()
    later = ensure(tmp_path, now=NOW + timedelta(days=61))
    assert serial(later) != before
    assert later.ca.read_bytes() == authority


def test_a_new_name_renews_and_keeps_the_old_names(tmp_path: Path) -> None:
    ensure(tmp_path, ["a.example"])
    made = ensure(tmp_path, ["b.example"])
    leaf = x509.load_pem_x509_certificate(made.chain.read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert {"localhost", "a.example", "b.example"} <= set(names)
    assert serial(ensure(tmp_path, ["a.example"])) == leaf.serial_number


def test_an_old_authority_is_replaced_with_its_leaf(tmp_path: Path) -> None:
    first = ensure(tmp_path, now=NOW)
    authority = first.ca.read_bytes()
    later = ensure(tmp_path, now=NOW + timedelta(days=3600))
    assert later.created_ca
    assert later.ca.read_bytes() != authority


def test_what_does_not_belong_together_is_made_anew(tmp_path: Path) -> None:
    one, other = ensure(tmp_path / "1"), ensure(tmp_path / "2")
    one.key.write_bytes(other.key.read_bytes())
    before = serial(one)
    assert serial(ensure(tmp_path / "1")) != before
    one.ca.write_text("garbage")
    assert ensure(tmp_path / "1").created_ca


def test_a_key_that_others_may_read_is_closed_again(tmp_path: Path) -> None:
    made = ensure(tmp_path)
    made.key.chmod(0o644)
    made.key.parent.chmod(0o755)
    ensure(tmp_path)
    assert mode(made.key) == 0o600
    assert mode(made.key.parent) == 0o700
