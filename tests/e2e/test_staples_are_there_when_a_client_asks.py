"""OCSP stapling from outside: `openssl s_client -status` sees a staple whenever there is a good answer, and never a bad one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.authority import Authority, Issued

from .admin import Admin
from .conftest import StartGateway
from .gateway import Gateway, free_port, wait_for
from .responder import Responder, Speech, truth

VERSIONS = ("1.2", "1.3")
CA = Authority()
STRANGER = Authority("somebody else")
StartResponder = Callable[..., Responder]


@pytest.fixture
def start_responder() -> Iterator[StartResponder]:
    running: list[Responder] = []

    def start(speech: Speech, port: int = 0) -> Responder:
        running.append(Responder(speech, port))
        return running[-1]

    yield start
    for responder in running:
        responder.close()


def status(gateway: Gateway, version: str = "1.3", *more: str, name: str = "localhost") -> str:
    """What `openssl s_client -status` says: ``good``, ``none``, or ``failed`` without a handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-servername", name, "-status"]
    done = subprocess.run(
        [*command, f"-tls{version.replace('.', '_')}", *more], input=b"", capture_output=True, check=False, timeout=20
    )
    text = done.stdout.decode("latin-1")
    if "OCSP response: no response sent" in text:
        return "none"
    if "Cert Status: good" in text:
        return "good"
    found = re.search(r"Cert Status: (\w+)", text)
    return found[1] if found else "failed"


def toml(*certificates: str, ocsp: str = "", more: str = "") -> str:
    return f"""
        [[host]]
        names = ["localhost"]
        certificates = [{", ".join(certificates)}]
        [[route]]
        respond = {{ status = 200, body = "ok" }}
        [ocsp]
        {ocsp}
        {more}
        """


def stapled(gateway: Gateway, name: str = "localhost") -> None:
    wait_for(lambda: status(gateway, name=name) == "good", "a staple")


def asked(gateway: Gateway, *words: str) -> dict[str, Any]:
    """What a command of the gateway says, as JSON."""
    found: dict[str, Any] = json.loads(gateway.command(*words, "--json").stdout)
    return found


def reloaded(gateway: Gateway) -> str:
    """``accepted``, or the word of the refusal."""
    return str(asked(gateway, "reload").get("error", "accepted"))


def staple_of(gateway: Gateway, fingerprint: str) -> dict[str, Any]:
    found = asked(gateway, "certs")["certificates"]
    staple: dict[str, Any] = next(one for one in found if one["fingerprint"] == fingerprint)["staple"]
    return staple


def failed(gateway: Gateway, reason: str) -> dict[str, Any]:
    return gateway.event_line(event="ocsp-failed", reason=reason)


# --- with openssl's responder ---


class OpensslResponder:
    """`openssl ocsp` with a database of its own, as `openssl ca` keeps it."""

    def __init__(self, folder: Path, authority: Authority, port: int) -> None:
        self.folder, self.port = folder, port
        delegate = authority.delegate()
        (folder / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        (folder / "responder.pem").write_bytes(delegate.certificate.public_bytes(Encoding.PEM))
        (folder / "responder.key").write_bytes(delegate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, good: list[Issued], revoked: tuple[Issued, ...] = ()) -> None:
        lines = [f"V\t330101000000Z\t\t{one.certificate.serial_number:040X}\tunknown\t/CN=localhost\n" for one in good]
        lines += [
            f"R\t330101000000Z\t250101000000Z\t{one.certificate.serial_number:040X}\tunknown\t/CN=localhost\n" for one in revoked
        ]
        (self.folder / "index.txt").write_text("".join(lines))
        (self.folder / "index.txt.attr").write_text("unique_subject = no\n")
        command = [
            "openssl",
            "ocsp",
            "-index",
            "index.txt",
            "-CA",
            "ca.pem",
            "-rsigner",
            "responder.pem",
            "-rkey",
            "responder.key",
        ]
        with (self.folder / "responder.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-port", str(self.port), "-nmin", "60"], cwd=self.folder, stdout=log, stderr=log
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def openssl_responder(tmp_path: Path) -> Iterator[OpensslResponder]:
    responder = OpensslResponder(tmp_path, CA, free_port())
    yield responder
    responder.stop()


def test_openssl_answers_and_both_certificates_of_a_host_are_stapled(
    start_gateway: StartGateway, openssl_responder: OpensslResponder, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{openssl_responder.port}"
    ecdsa, rsa = CA.leaf("localhost", responders=(url,)), CA.leaf("localhost", responders=(url,), with_rsa=True)
    openssl_responder.start([ecdsa, rsa])
    gateway = start_gateway(toml(ecdsa.write(tmp_path, "ecdsa"), rsa.write(tmp_path, "rsa")))
    for version in VERSIONS:
        for sigalgs in ("ECDSA+SHA256", "rsa_pss_rsae_sha256:RSA+SHA256"):
            wait_for(lambda v=version, s=sigalgs: status(gateway, v, "-sigalgs", s) == "good", f"{version} {sigalgs}")  # type: ignore[misc]
    assert [staple_of(gateway, one.fingerprint)["state"] for one in (ecdsa, rsa)] == ["good", "good"]
    assert len(list((gateway.folder / "state" / "ocsp").glob("*.der"))) == 2
    assert {path.stat().st_mode & 0o777 for path in (gateway.folder / "state" / "ocsp").iterdir()} == {0o600}


def test_our_own_revoked_certificate_is_told_loudly(
    start_gateway: StartGateway, openssl_responder: OpensslResponder, tmp_path: Path
) -> None:
    leaf = CA.leaf("localhost", responders=(f"http://127.0.0.1:{openssl_responder.port}",))
    openssl_responder.start([], (leaf,))
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf")))
    found = gateway.event_line(event="ocsp-revoked", level="error")
    assert "is revoked since 2025-01-01" in found["detail"]
    assert status(gateway) == "none"
    assert staple_of(gateway, leaf.fingerprint)["state"] == "revoked"
    assert any("is revoked" in text for text in asked(gateway, "status")["degraded"])


# --- with one that lies ---

LIES: dict[str, tuple[str, Callable[[Authority], Speech]]] = {
    "another certificate": ("wrong-certificate", lambda ca: lambda _: ca.answer(ca.leaf("localhost").certificate)),
    "another signer": ("wrong-signer", lambda ca: lambda one: STRANGER.answer(one, issuer=ca.certificate)),
    "a delegate that may not": ("wrong-signer", lambda ca: truth(ca, signer=ca.delegate(usage=False))),
    "expired": ("expired", lambda ca: truth(ca, begins=-7200.0, ends=-60.0)),
    "of the future": ("not-yet-valid", lambda ca: truth(ca, begins=3600.0, ends=7200.0)),
    "unknown": ("unknown", lambda ca: truth(ca, status="unknown")),
    "garbage": ("garbage", lambda _ca: lambda _: b"0" * 683),
    "huge": ("too-large", lambda _ca: lambda _: b"\x30" * 40_000_000),
    "a redirect": ("http-status", lambda _ca: lambda _: (302, {"Location": "http://127.0.0.1:1/"}, b"")),
    "an error": ("http-status", lambda ca: lambda one: (500, {}, ca.answer(one))),
    "silence": ("timeout", lambda _ca: lambda _: None),
}


def test_a_bad_answer_is_never_stapled(start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path) -> None:
    """A host for each lie, all in one gateway: it asks all their responders at the same time."""
    responders, leaves, hosts = {}, {}, []
    for number, (about, (_, lie)) in enumerate(LIES.items()):
        responders[about] = start_responder(lie(CA))
        leaves[about] = CA.leaf(f"lie-{number}.test", responders=(responders[about].url,))
        responders[about].knows(leaves[about].certificate)
        entry = leaves[about].write(tmp_path, f"leaf-{number}")
        hosts.append(f'[[host]]\nnames = ["lie-{number}.test"]\ncertificates = [{entry}]\n')
    names = {about: f"lie-{number}.test" for number, about in enumerate(LIES)}
    route = '[[route]]\nrespond = { status = 200, body = "ok" }\n'
    gateway = start_gateway("".join([route, '[ocsp]\ntimeout = "500ms"\n', *hosts]))
    for about, (reason, _) in LIES.items():
        assert gateway.event_line(event="ocsp-failed", reason=reason, hosts=[names[about]])["again_in"] > 0.5
        assert responders[about].asked[:2] == ["GET", "POST"], about
    assert {status(gateway, version, name=name) for version in VERSIONS for name in names.values()} == {"none"}
    assert {staple_of(gateway, leaf.fingerprint)["state"] for leaf in leaves.values()} == {"error"}
    for responder in responders.values():
        responder.speech = truth(CA)
    for about in LIES:
        stapled(gateway, names[about])
    assert {staple_of(gateway, leaf.fingerprint)["state"] for leaf in leaves.values()} == {"good"}


@pytest.mark.parametrize("status_after", ["revoked", "unknown", "expired"])
def test_a_good_one_is_kept_until_it_is_over(
    status_after: str, start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(truth(CA, begins=-1.0, ends=6.0))
    leaf = CA.leaf("localhost", responders=(responder.url,))
    responder.knows(leaf.certificate)
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf")))
    stapled(gateway)
    over = staple_of(gateway, leaf.fingerprint)["until"]
    responder.speech = truth(CA, begins=-60.0, ends=-30.0) if status_after == "expired" else truth(CA, status=status_after)
    name = "ocsp-revoked" if status_after == "revoked" else "ocsp-failed"
    gateway.event_line(event=name)
    seen = status(gateway)
    assert seen == "good" or time.time() >= over
    wait_for(lambda: status(gateway) == "none", "the end of the staple")
    assert time.time() >= over


def test_it_is_refreshed_long_before_its_end(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(truth(CA, begins=0.0, ends=14.0))
    leaf = CA.leaf("localhost", responders=(responder.url,))
    responder.knows(leaf.certificate)
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf")))
    stapled(gateway)
    first = staple_of(gateway, leaf.fingerprint)["until"]
    wait_for(lambda: staple_of(gateway, leaf.fingerprint)["until"] > first, "a new staple")
    assert time.time() < first


def test_every_responder_of_a_certificate_is_asked(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    bad, good = start_responder(lambda _: b"nonsense"), start_responder(truth(CA))
    down = f"http://127.0.0.1:{free_port()}/"
    leaf = CA.leaf("localhost", responders=("ldap://127.0.0.1/", down, bad.url, good.url))
    for responder in (bad, good):
        responder.knows(leaf.certificate)
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf")))
    stapled(gateway)
    assert bad.asked


def test_the_settings_may_name_the_responder_and_a_proxy(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    proxy = start_responder(truth(CA))
    leaf = CA.leaf("localhost")
    proxy.knows(leaf.certificate)
    ocsp = f'responder = "http://ocsp.nowhere.test/x"\nproxy = "http://127.0.0.1:{proxy.port}"'
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf"), ocsp=ocsp))
    stapled(gateway)
    assert proxy.proxied[0].startswith("http://ocsp.nowhere.test/x/")


# --- starts, ends and renewals ---


def test_a_certificate_without_a_responder_is_told_once_and_without_alarm(start_gateway: StartGateway, tmp_path: Path) -> None:
    leaf = CA.leaf("localhost")
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf")))
    assert gateway.event_line(event="ocsp-not-applicable")["level"] == "info"
    assert status(gateway) == "none"
    assert staple_of(gateway, leaf.fingerprint)["state"] == "not-applicable"
    assert reloaded(gateway) == "accepted"
    assert [line["event"] for line in gateway.events()].count("ocsp-not-applicable") == 1
    assert asked(gateway, "status")["degraded"] == []


def test_after_a_restart_the_first_handshake_has_it_though_the_responder_is_down(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(truth(CA))
    leaf = CA.leaf("localhost", responders=(responder.url,))
    responder.knows(leaf.certificate)
    server = f'[server]\nworkers = 2\nstate_dir = "{tmp_path}/kept"\nruntime_dir = "$FOLDER/run"\n'
    text = toml(leaf.write(tmp_path, "leaf"), more=server)
    first = start_gateway(text)
    stapled(first)
    wait_for(lambda: list((tmp_path / "kept" / "ocsp").glob("*.der")), "a file")
    first.end()
    responder.close()
    second = start_gateway(text)
    assert status(second) == "good"
    assert status(second, "1.2") == "good"
    second.end()
    for file in (tmp_path / "kept" / "ocsp").iterdir():
        file.write_bytes(b"something else")
    third = start_gateway(text)
    assert status(third) == "none"
    failed(third, "unreachable")


def test_a_state_directory_that_cannot_be_used_only_degrades(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(truth(CA))
    leaf = CA.leaf("localhost", responders=(responder.url,))
    responder.knows(leaf.certificate)
    (tmp_path / "file").write_text("not a folder")
    server = f'[server]\nworkers = 1\nstate_dir = "{tmp_path}/file"\nruntime_dir = "$FOLDER/run"\n'
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf"), more=server))
    stapled(gateway)
    gateway.event_line(event="staples-not-kept")
    assert any("not kept" in text for text in asked(gateway, "status")["degraded"])


def test_the_death_of_a_controller_or_a_worker_costs_no_staple(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(truth(CA))
    leaf = CA.leaf("localhost", responders=(responder.url,))
    responder.knows(leaf.certificate)
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf")))
    stapled(gateway)
    responder.close()
    told = asked(gateway, "status")
    os.kill(told["controller"]["pid"], signal.SIGKILL)
    assert status(gateway) == "good"
    os.kill(told["workers"][0]["pid"], signal.SIGKILL)
    wait_for(lambda: asked(gateway, "status")["workers"][0]["pid"] != told["workers"][0]["pid"], "another worker")
    wait_for(lambda: asked(gateway, "status")["controller"]["state"] == "serving", "another controller")
    assert status(gateway) == "good"
    assert status(gateway) == "good"


def test_a_renewed_certificate_has_a_staple_of_its_own_from_the_first_handshake_on(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(truth(CA))
    old, new = [CA.leaf("localhost", responders=(responder.url,)) for _ in range(2)]
    responder.knows(old.certificate, new.certificate)
    gateway = start_gateway(toml(old.write(tmp_path, "leaf")))
    stapled(gateway)
    new.write(tmp_path, "leaf")
    assert reloaded(gateway) == "accepted"
    assert status(gateway) == "good"
    assert staple_of(gateway, new.fingerprint)["state"] == "good"


def test_a_renewed_certificate_never_carries_the_old_staple(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(truth(CA))
    old, new = [CA.leaf("localhost", responders=(responder.url,)) for _ in range(2)]
    responder.knows(old.certificate, new.certificate)
    gateway = start_gateway(toml(old.write(tmp_path, "leaf")))
    stapled(gateway)
    answer = CA.answer(old.certificate)
    responder.speech = lambda _: answer
    new.write(tmp_path, "leaf")
    assert reloaded(gateway) == "accepted"
    assert [status(gateway, version) for version in VERSIONS] == ["none", "none"]
    failed(gateway, "wrong-certificate")


def test_the_program_that_takes_over_has_it_too(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(truth(CA))
    leaf = CA.leaf("localhost", responders=(responder.url,))
    responder.knows(leaf.certificate)
    server = '[server]\nworkers = 1\nupgrade = "in-place"\nstate_dir = "$FOLDER/state"\nruntime_dir = "$FOLDER/run"\n'
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf"), more=server))
    stapled(gateway)
    responder.close()
    folder = gateway.folder / "state" / "ocsp"
    wait_for(lambda: list(folder.glob("*.der")), "a file")
    for file in folder.iterdir():
        file.unlink()
    gateway.signal(signal.SIGUSR2)
    gateway.event_line(event="took-over")
    assert status(gateway) == "good"
    assert status(gateway) == "good"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_has_no_rights_keeps_staples_all_the_same(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(truth(CA))
    leaf = CA.leaf("localhost", responders=(responder.url,))
    responder.knows(leaf.certificate)
    server = '[server]\nworkers = 1\nuser = "nobody"\nstate_dir = "$FOLDER/state"\nruntime_dir = "$FOLDER/run"\n'
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf"), more=server))
    stapled(gateway)
    (kept,) = wait_for(lambda: list((gateway.folder / "state" / "ocsp").glob("*.der")), "a file")
    assert kept.stat().st_uid != 0
    assert gateway.folder.stat().st_uid == 0


def test_a_chain_without_its_issuer_is_told(start_gateway: StartGateway, tmp_path: Path) -> None:
    leaf = CA.leaf("localhost", responders=("http://127.0.0.1:1/",))
    entry = leaf.write(tmp_path, "leaf")
    (tmp_path / "leaf.pem").write_bytes(leaf.certificate.public_bytes(Encoding.PEM))
    gateway = start_gateway(toml(entry))
    assert "again_in" not in failed(gateway, "no-issuer")
    assert staple_of(gateway, leaf.fingerprint)["state"] == "error"
    assert any("holds no issuer" in text for text in asked(gateway, "status")["degraded"])


def test_readiness_and_metrics_tell_it(start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path) -> None:
    responder = start_responder(lambda _: b"nonsense")
    leaf = CA.leaf("localhost", responders=(responder.url,), must_staple=True)
    responder.knows(leaf.certificate)
    port = free_port()
    more = f'[admin]\naddress = "127.0.0.1:{port}"\nopen = ["health", "metrics"]\n'
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf"), ocsp='must_staple = "refuse"', more=more))
    admin = Admin(gateway, port)
    failed(gateway, "garbage")
    told = admin.ask("/readyz")
    assert told.status == 503
    assert "must have a staple and has none" in told.json()["reasons"][0]
    responder.speech = truth(CA)
    wait_for(admin.ready, "readiness")
    assert status(gateway) == "good"
    wait_for(lambda: b"edge_handshakes_stapled_total 1.0" in admin.ask("/metrics").body, "the handshake in the metrics")
    text = admin.ask("/metrics").body.decode()
    assert 'edge_ocsp_fetches_total{result="good"} 1.0' in text
    assert 'edge_ocsp_fetches_total{result="garbage"}' in text
    until = re.search(rf'edge_staple_expiry_seconds{{.*fingerprint="{leaf.fingerprint}".*}} (\S+)', text)
    assert until is not None
    assert float(until[1]) == pytest.approx(time.time() + 3600, abs=60)


# --- Must-Staple ---


def test_a_must_staple_certificate_is_shown_and_told_of_by_default(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(lambda _: b"nonsense")
    leaf = CA.leaf("localhost", responders=(responder.url,), must_staple=True)
    responder.knows(leaf.certificate)
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf")))
    failed(gateway, "garbage")
    assert status(gateway) == "none"
    told = asked(gateway, "status")
    assert told["ready"]
    assert any("has no staple" in text for text in told["degraded"])


def test_where_it_is_asked_for_it_is_refused_until_there_is_a_staple(
    start_gateway: StartGateway, start_responder: StartResponder, tmp_path: Path
) -> None:
    responder = start_responder(lambda _: None)
    leaf = CA.leaf("localhost", responders=(responder.url,), must_staple=True)
    responder.knows(leaf.certificate)
    gateway = start_gateway(toml(leaf.write(tmp_path, "leaf"), ocsp='must_staple = "refuse"\ntimeout = "500ms"'))
    assert [status(gateway, version) for version in VERSIONS] == ["failed", "failed"]
    told = asked(gateway, "status")
    assert not told["ready"]
    assert [reason.endswith("must have a staple and has none") for reason in told["reasons"]] == [True]
    assert gateway.event_line(log="handshake", fault="staple-missing")["blame"] == "edge"
    responder.speech = truth(CA)
    wait_for(lambda: asked(gateway, "status")["ready"], "readiness")
    assert [status(gateway, version) for version in VERSIONS] == ["good", "good"]
    new = CA.leaf("localhost", responders=(responder.url,), must_staple=True)
    responder.knows(new.certificate)
    responder.speech = lambda _: b"nonsense"
    new.write(tmp_path, "leaf")
    assert reloaded(gateway) == "staple-missing"
    assert status(gateway) == "good"
    responder.speech = truth(CA)
    assert reloaded(gateway) == "accepted"
    assert [status(gateway, version) for version in VERSIONS] == ["good", "good"]
    assert staple_of(gateway, new.fingerprint)["state"] == "good"
