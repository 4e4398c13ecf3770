"""Which OCSP answers are believed: each rule of `edge.tls.ocsp` with an answer that breaks it and one that does not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from edge.tls.ocsp import LARGEST, SKEW, UNBOUNDED, OcspError, Question, question, verify
from tests.authority import Authority

CA = Authority()
OTHER = Authority("somebody else")
TWIN = Authority()  # of the same name, with another key
LEAF = CA.leaf("localhost")
SIBLING = CA.leaf("localhost")
DELEGATE = CA.delegate()
Make = Callable[[], bytes]


@pytest.fixture(scope="module")
def asked() -> Question:
    return question(LEAF.chain_pem)


GOOD: dict[str, Make] = {
    "signed by the issuer": lambda: CA.answer(LEAF.certificate),
    "by a delegate": lambda: CA.answer(LEAF.certificate, signer=DELEGATE),
    "by a delegate, named by its key": lambda: CA.answer(LEAF.certificate, signer=DELEGATE, by_hash=True),
    "by the issuer, named by its key": lambda: CA.answer(LEAF.certificate, by_hash=True),
    "with the issuer hashed by SHA-256": lambda: CA.answer(LEAF.certificate, algorithm=hashes.SHA256()),
    "without a nextUpdate": lambda: CA.answer(LEAF.certificate, ends=None),
    "from a clock that is a little ahead": lambda: CA.answer(LEAF.certificate, begins=SKEW - 30),
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_a_good_answer_is_believed(make: Make, asked: Question) -> None:
    response = make()
    found = verify(asked, response, time.time())
    assert found.response == response
    assert found.this_update < found.until


BAD: dict[str, tuple[str, Make]] = {
    "another serial number": ("wrong-certificate", lambda: CA.answer(SIBLING.certificate)),
    "another issuer of the same name": ("wrong-certificate", lambda: CA.answer(LEAF.certificate, issuer=TWIN.certificate)),
    "an authority of its own": ("wrong-signer", lambda: OTHER.answer(LEAF.certificate, issuer=CA.certificate)),
    "the issuer's name with another key": ("bad-signature", lambda: TWIN.answer(LEAF.certificate, issuer=CA.certificate)),
    "a delegate of another authority": (
        "wrong-signer",
        lambda: CA.answer(LEAF.certificate, signer=OTHER.delegate()),
    ),
    "a delegate of the issuer's twin": ("wrong-signer", lambda: CA.answer(LEAF.certificate, signer=TWIN.delegate())),
    "a delegate that is not for that": ("wrong-signer", lambda: CA.answer(LEAF.certificate, signer=CA.delegate(usage=False))),
    "the certificate itself": ("wrong-signer", lambda: CA.answer(LEAF.certificate, signer=LEAF)),
    "a delegate that has expired": ("wrong-signer", lambda: CA.answer(LEAF.certificate, signer=CA.delegate(days=-1))),
    "an old answer": ("expired", lambda: CA.answer(LEAF.certificate, begins=-7200, ends=-600)),
    "an old answer without nextUpdate": ("expired", lambda: CA.answer(LEAF.certificate, begins=-UNBOUNDED - 60, ends=None)),
    "an answer of the future": ("not-yet-valid", lambda: CA.answer(LEAF.certificate, begins=SKEW + 60)),
    "revoked": ("revoked", lambda: CA.answer(LEAF.certificate, status="revoked")),
    "unknown": ("unknown", lambda: CA.answer(LEAF.certificate, status="unknown")),
    "revoked, by a stranger": (
        "wrong-signer",
        lambda: OTHER.answer(LEAF.certificate, issuer=CA.certificate, status="revoked"),
    ),
    "nothing": ("garbage", lambda: b""),
    "bytes": ("garbage", lambda: b"0" * 683),
    "a page": ("garbage", lambda: b"<html>Welcome to the hotel's network</html>"),
    "an answer cut short": ("garbage", lambda: CA.answer(LEAF.certificate)[:-5]),
    "too much": ("too-large", lambda: b"0" * (LARGEST + 1)),
    "try later": (
        "refused",
        lambda: ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(
            serialization.Encoding.DER
        ),
    ),
}


@pytest.mark.parametrize(("kind", "make"), BAD.values(), ids=BAD)
def test_a_bad_answer_is_not(kind: str, make: Make, asked: Question) -> None:
    with pytest.raises(OcspError) as caught:
        verify(asked, make(), time.time())
    assert caught.value.kind == kind
    assert str(caught.value) not in ("", kind)


def test_no_byte_can_be_changed(asked: Question) -> None:
    response = CA.answer(LEAF.certificate, signer=DELEGATE)
    for at in range(0, len(response), 7):
        changed = bytearray(response)
        changed[at] ^= 1
        try:
            found = verify(asked, bytes(changed), time.time())
        except OcspError:
            continue
        # outside of what is signed: unused parts of the delegate's certificate, for instance
        assert ocsp.load_der_ocsp_response(found.response).tbs_response_bytes == (
            ocsp.load_der_ocsp_response(response).tbs_response_bytes
        )


def test_an_answer_is_not_good_for_longer_than_its_signer(asked: Question) -> None:
    brief = CA.delegate(days=1)
    found = verify(asked, CA.answer(LEAF.certificate, signer=brief, ends=7 * 86_400), time.time())
    assert found.until == brief.certificate.not_valid_after_utc.timestamp()


def test_each_certificate_has_a_question_of_its_own() -> None:
    assert question(LEAF.chain_pem).key == question(LEAF.chain_pem).key != question(SIBLING.chain_pem).key


def test_without_the_issuer_nothing_can_be_asked() -> None:
    alone = LEAF.chain_pem[: LEAF.chain_pem.index(b"-----BEGIN", 10)]
    with pytest.raises(OcspError) as caught:
        question(alone)
    assert caught.value.kind == "no-issuer"


def test_openssl_reads_the_question_and_our_judgement_is_its_own(asked: Question, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(LEAF.chain_pem[LEAF.chain_pem.index(b"-----BEGIN", 10) :])
    (tmp_path / "request").write_bytes(asked.request)
    (tmp_path / "response").write_bytes(CA.answer(LEAF.certificate, signer=DELEGATE))
    (tmp_path / "leaf.pem").write_bytes(LEAF.chain_pem)
    command = ["openssl", "ocsp", "-reqin", "request", "-respin", "response", "-CAfile", "ca.pem", "-issuer", "ca.pem"]
    done = subprocess.run(
        [*command, "-cert", "leaf.pem", "-no_nonce"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20
    )
    assert "Response verify OK" in done.stderr + done.stdout
    assert "leaf.pem: good" in done.stdout


def test_an_answer_that_is_signed_over_sha1_is_not_believed(asked: Question, tmp_path: Path) -> None:
    form = serialization.PrivateFormat.PKCS8
    (tmp_path / "ca.key").write_bytes(CA.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    (tmp_path / "ca.pem").write_bytes(CA.certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "index").write_text(f"V\t330101000000Z\t\t{LEAF.certificate.serial_number:X}\tunknown\t/CN=localhost\n")
    (tmp_path / "request").write_bytes(asked.request)
    command = ["openssl", "ocsp", "-index", "index", "-rsigner", "ca.pem", "-rkey", "ca.key", "-CA", "ca.pem", "-ndays", "1"]
    found = []
    for digest in ("sha256", "sha1"):
        more = ["-rmd", digest, "-reqin", "request", "-respout", "response"]
        subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, check=True, timeout=60)
        try:
            verify(asked, (tmp_path / "response").read_bytes(), time.time())
            found.append("good")
        except OcspError as error:
            found.append(error.kind)
    assert found == ["good", "weak-signature"]
