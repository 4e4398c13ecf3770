"""The binding is checked at import, and the words for its errors are right."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from OpenSSL import SSL

import edge.tls
from edge.errors import Fault, Side
from edge.tls import binding, faults
from edge.tls.binding import ffi, lib

SSL.Context(SSL.TLS_METHOD)  # with the first one OpenSSL loads its words


def test_what_is_missing_is_named_all_at_once() -> None:
    names = [*binding._FUNCTIONS, *binding._CONSTANTS]
    complete = SimpleNamespace(**dict.fromkeys(names, 1))
    assert binding.missing(complete) == []
    del complete.SSL_read
    del complete.TLS1_2_VERSION
    with pytest.raises(binding.BindingError, match="lacks SSL_read, TLS1_2_VERSION; install") as raised:
        binding.check(complete)
    assert "cryptography" in str(raised.value)


def test_everything_that_is_used_is_checked_and_nothing_else() -> None:
    folder = Path(edge.tls.__file__).parent
    used: set[str] = set()
    for source in folder.glob("*.py"):
        used.update(re.findall(r"\blib\.(\w+)", source.read_text()))
    assert used == {*binding._FUNCTIONS, *binding._CONSTANTS}


def test_only_one_module_imports_the_binding() -> None:
    folder = Path(edge.tls.__file__).parent.parent
    users = [
        source.name for source in folder.rglob("*.py") if "OpenSSL._util" in source.read_text() and source.name != "binding.py"
    ]
    assert users == []


@pytest.mark.parametrize("number", faults.REASONS)
def test_reason_numbers(number: int) -> None:
    assert binding.string(lib.ERR_reason_error_string(20 << 23 | number)) == faults.REASONS[number][2]


@pytest.mark.parametrize("number", faults.ALERTS)
def test_alert_numbers(number: int) -> None:
    text = binding.string(lib.ERR_reason_error_string(20 << 23 | (1000 + number)))
    name = faults.ALERTS[number].replace("_", " ")
    assert (
        not text
        or name in text.replace("bad record mac", "bad_record_mac").replace("_", " ")
        or name.replace("canceled", "cancelled") in text
    )


@pytest.mark.parametrize(
    ("number", "words"), [(10, "expired"), (9, "not yet valid"), (18, "self-signed"), (26, "purpose"), (62, "hostname")]
)
def test_verify_numbers(number: int, words: str) -> None:
    assert words in binding.string(lib.X509_verify_cert_error_string(number))


def test_an_unknown_error_is_still_a_fault() -> None:
    lib.ERR_clear_error()
    fault = faults.handshake_fault(ffi.NULL, Side.CLIENT)
    assert isinstance(fault, Fault)
    assert fault.kind == "tls-error"
    assert faults.handshake_fault(ffi.NULL, Side.UPSTREAM).kind == "upstream-tls-error"
