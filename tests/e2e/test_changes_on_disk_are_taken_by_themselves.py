"""Certificates renewed on disk, in the ways in which they are; and reloads over the admin listener."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as prometheus

from .admin import Admin
from .clients import Wire
from .conftest import Curl, StartAdmin, StartGateway
from .gateway import free_port, wait_for
from .pki import Leaf, Pki

TOKEN = "0123456789abcdef0123456789abcdef"
JSON = ("-H", "Content-Type: application/json", "-d")
Renew = Callable[[], Leaf]


@pytest.fixture
def renew(pki: Pki) -> Renew:
    """Another certificate for localhost, with another key, at every call."""
    numbers = iter(range(100))
    return lambda: pki.server(f"renewed-{id(numbers)}-{next(numbers)}", "localhost", "127.0.0.1")


def fingerprint(leaf: Leaf) -> str:
    pem = leaf.chain.read_text()
    end = "-----END CERTIFICATE-----"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[: pem.index(end) + len(end)])).hexdigest()


def served(admin: Admin, pki: Pki) -> str:
    """The SHA-256 of the certificate that a client gets."""
    with Wire(admin.gateway.port, pki.ca) as wire:
        assert isinstance(wire.sock, ssl.SSLSocket)
        return hashlib.sha256(wire.sock.getpeercert(binary_form=True) or b"").hexdigest()


def replace(source: Path, target: Path) -> None:
    """As a careful renewal does it: under another name first."""
    fresh = target.with_suffix(".new")
    shutil.copy(source, fresh)
    fresh.chmod(0o600)
    fresh.rename(target)


class Files:
    """A chain and a key where a gateway reads them."""

    def __init__(self, folder: Path, leaf: Leaf) -> None:
        self.leaf = Leaf(folder / "chain.pem", folder / "key.pem")
        self.take_chain(leaf)
        self.take_key(leaf)

    def take_chain(self, leaf: Leaf) -> None:
        replace(leaf.chain, self.leaf.chain)

    def take_key(self, leaf: Leaf) -> None:
        replace(leaf.key, self.leaf.key)


@pytest.fixture
def files(tmp_path: Path, pki: Pki) -> Files:
    return Files(tmp_path, pki.localhost)


@pytest.mark.parametrize("order", [("chain", "key"), ("key", "chain")], ids="-then-".join)
def test_a_renewal_that_is_half_done_is_waited_for(
    start_admin: StartAdmin, pki: Pki, files: Files, renew: Renew, order: tuple[str, str]
) -> None:
    admin, new = start_admin(leaf=files.leaf), renew()
    old = served(admin, pki)
    first, second = (files.take_chain if what == "chain" else files.take_key for what in order)
    first(new)
    admin.gateway.event_line(event="files-changed")
    assert served(admin, pki) == old
    second(new)
    wait_for(lambda: served(admin, pki) == fingerprint(new), "the new certificate")
    reloaded = admin.gateway.event_line(event="reloaded")
    assert reloaded["generation"] == 2
    assert "certificate renewed" in reloaded["changes"][0]
    assert not [event for event in admin.gateway.events() if event["event"] == "reload-refused"]
    assert admin.ask("/readyz").json()["degraded"] == []
    assert fingerprint(new) in admin.ask("/metrics").body.decode()


def test_a_renewal_that_is_never_done_is_told_and_the_old_pair_goes_on(
    start_admin: StartAdmin, pki: Pki, files: Files, renew: Renew
) -> None:
    admin, new = start_admin(leaf=files.leaf), renew()
    old = served(admin, pki)
    files.take_chain(new)
    refused = wait_for(
        lambda: next((event for event in admin.gateway.events() if event["event"] == "reload-refused"), None), "refusal", 25
    )
    assert refused["error"] == "invalid-settings"
    assert "the key does not belong to the certificate" in refused["detail"]
    assert served(admin, pki) == old
    ready = admin.ask("/readyz")
    assert ready.status == 200
    assert any("what is on disk is not what runs" in text for text in ready.json()["degraded"])
    files.take_key(new)
    wait_for(lambda: served(admin, pki) == fingerprint(new), "the new certificate")
    wait_for(lambda: admin.ask("/readyz").json()["degraded"] == [], "all to be well")


def test_a_secret_that_kubernetes_renews(start_admin: StartAdmin, pki: Pki, tmp_path: Path, renew: Renew) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()

    def mount(leaf: Leaf, number: int) -> None:
        dated = folder / f"..2026_{number}"
        dated.mkdir()
        for source, name in ((leaf.chain, "tls.crt"), (leaf.key, "tls.key")):
            shutil.copy(source, dated / name)
            (dated / name).chmod(0o600)
        (folder / "..data_tmp").symlink_to(dated.name)
        (folder / "..data_tmp").rename(folder / "..data")
        shutil.rmtree(folder / f"..2026_{number - 1}", ignore_errors=True)

    mount(pki.localhost, 0)
    for name in ("tls.crt", "tls.key"):
        (folder / name).symlink_to(f"..data/{name}")
    admin = start_admin(leaf=Leaf(folder / "tls.crt", folder / "tls.key"))
    for number in (1, 2):
        new = renew()
        mount(new, number)
        wait_for(lambda new=new: served(admin, pki) == fingerprint(new), "the new certificate")  # type: ignore[misc]
    assert not [event for event in admin.gateway.events() if event["event"] == "reload-refused"]


def test_files_that_vanish_and_come_back(start_admin: StartAdmin, pki: Pki, files: Files, renew: Renew) -> None:
    admin, new = start_admin(leaf=files.leaf), renew()
    old = served(admin, pki)
    files.leaf.chain.unlink()
    files.leaf.key.unlink()
    admin.gateway.event_line(event="files-changed")
    assert served(admin, pki) == old
    files.take_chain(new)
    files.take_key(new)
    wait_for(lambda: served(admin, pki) == fingerprint(new), "the new certificate")


class Pipe:
    """A chain that is read from a pipe once: who reads it waits, in the middle of the settings, until `then` was done."""

    def __init__(self, path: Path, leaf: Leaf) -> None:
        os.mkfifo(path)
        self.leaf = Leaf(path, leaf.key)
        self._chain = leaf.chain

    def _opened(self) -> int | None:
        with contextlib.suppress(OSError):  # nobody reads it yet
            return os.open(self.leaf.chain, os.O_WRONLY | os.O_NONBLOCK)
        return None

    def answer(self, then: Callable[[], object]) -> None:
        descriptor = wait_for(self._opened, "the pipe to be read")
        then()
        replace(self._chain, self.leaf.chain)
        os.write(descriptor, self._chain.read_bytes())
        os.close(descriptor)


def test_a_renewal_during_the_start_is_taken(
    start_gateway: StartGateway, pki: Pki, tmp_path: Path, files: Files, renew: Renew
) -> None:
    pipe, new = Pipe(tmp_path / "pipe.pem", pki.server("piped", "b.test")), renew()
    answering = threading.Thread(target=pipe.answer, args=(lambda: (files.take_chain(new), files.take_key(new)),))
    answering.start()
    gateway = start_gateway(pki.host("http://127.0.0.1:9", leaf=files.leaf) + pki.host(name="b.test", leaf=pipe.leaf))
    answering.join()
    assert {str(files.leaf.chain), str(files.leaf.key)} <= set(gateway.event_line(event="files-changed")["files"])
    assert "certificate renewed" in gateway.event_line(event="reloaded")["changes"][0]
    with Wire(gateway.port, pki.ca) as wire:
        assert isinstance(wire.sock, ssl.SSLSocket)
        assert hashlib.sha256(wire.sock.getpeercert(binary_form=True) or b"").hexdigest() == fingerprint(new)


def test_a_renewal_during_the_reload_that_names_it_first_is_taken(start_gateway: StartGateway, pki: Pki, tmp_path: Path) -> None:
    one, new, other = (pki.server(f"during-{number}", name) for number, name in enumerate(("a.test", "a.test", "b.test")))
    files, pipe = Files(tmp_path, one), Pipe(tmp_path / "pipe.pem", other)
    gateway = start_gateway(pki.host("http://127.0.0.1:9"))
    gateway.event_line(event="serving")
    more = pki.host("http://127.0.0.1:9", "a.test", files.leaf) + pki.host("http://127.0.0.1:9", "b.test", pipe.leaf)
    gateway.config.write_text(gateway.config.read_text() + more)
    gateway.signal(signal.SIGHUP)
    pipe.answer(lambda: (files.take_chain(new), files.take_key(new)))
    assert {str(files.leaf.chain), str(files.leaf.key)} <= set(gateway.event_line(event="files-changed")["files"])
    assert "certificate renewed" in gateway.event_line(event="reloaded", generation=3)["changes"][0]


# -- over the admin listener ---------------------------------------------------------------------------------------------


def edit(admin: Admin, old: str, new: str) -> None:
    text = admin.gateway.config.read_text()
    assert old in text
    admin.gateway.config.write_text(text.replace(old, new))


def samples(admin: Admin) -> dict[str, float]:
    families = prometheus(admin.ask("/metrics").body.decode())
    return {f"{one.name}{''.join(one.labels.values())}": one.value for family in families for one in family.samples}


def test_a_reload_over_the_admin_listener(start_admin: StartAdmin, run_curl: Curl) -> None:
    admin = start_admin(more='[[route]]\npath = "/word"\nrespond = { body = "old" }\n')
    edit(admin, '"old"', '"new"')
    answer = admin.ask("/api/v1/reload", "-X", "POST", seconds=30)
    told = answer.json()
    assert (answer.status, told["ok"], told["generation"]) == (200, True, 2)
    assert run_curl(admin.gateway, "/word").body == b"new"
    ready = admin.ask("/readyz").json()
    assert (ready["generation"], ready["digest"]) == (2, told["digest"])
    found = samples(admin)
    assert (found["edge_config_generation"], found["edge_reloads_totalaccepted"], found["edge_last_reload_success"]) == (2, 1, 1)
    assert f"edge_config_info{told['digest']}" in found
    assert admin.gateway.event_line(event="reloaded")["by"] == "admin"


def test_mistakes_are_told_and_nothing_changes(start_admin: StartAdmin, run_curl: Curl) -> None:
    admin = start_admin()
    edit(admin, "workers = 2", "wokers = 2")
    answer = admin.ask("/api/v1/reload", "-X", "POST", seconds=30)
    assert (answer.status, answer.json()["error"]) == (422, "invalid-settings")
    assert "wokers" in answer.json()["problems"][0]
    assert run_curl(admin.gateway, "/").status == 200
    found = samples(admin)
    assert (found["edge_config_generation"], found["edge_reloads_totalrefused"], found["edge_last_reload_success"]) == (1, 1, 0)
    assert admin.ask("/readyz").status == 200


def test_weaker_security_has_to_be_allowed_with_the_token(start_admin: StartAdmin) -> None:
    admin = start_admin(f'token = "{TOKEN}"\n', more="[limits]\nstreams = 50\n")
    edit(admin, "streams = 50", "streams = 60")
    shown = ("-H", f"Authorization: Bearer {TOKEN}")
    refused = admin.ask("/api/v1/reload", *shown, "-X", "POST", seconds=30)
    assert (refused.status, refused.json()["error"]) == (409, "weaker")
    assert "streams 50 → 60" in refused.json()["changes"][0]["text"]
    allowed = admin.ask("/api/v1/reload", *shown, *JSON, '{"allow_weaker": true}', seconds=30)
    assert (allowed.status, allowed.json()["generation"]) == (200, 2)


def test_the_admin_listener_moves_with_a_reload(start_admin: StartAdmin) -> None:
    admin = start_admin()
    old, admin_port = admin.port, free_port()
    edit(admin, f"127.0.0.1:{old}", f"127.0.0.1:{admin_port}")
    assert admin.ask("/api/v1/reload", "-X", "POST", seconds=30).status == 200
    admin.port = admin_port
    wait_for(admin.ready, "the new address")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old), timeout=60)
    os.kill(admin.controller(), 9)
    wait_for(admin.ready, "another controller, with the new socket and the new settings")
    assert admin.ask("/readyz").json()["generation"] == 2
    # a port that is taken is told, and hinders nothing
    with socket.create_server(("127.0.0.1", free_port())) as holder:
        edit(admin, f"127.0.0.1:{admin_port}", f"127.0.0.1:{holder.getsockname()[1]}")
        with contextlib.suppress(ConnectionError):  # the answer may meet the end of the listener
            admin.ask("/api/v1/reload", "-X", "POST", seconds=30)
        assert "the port is taken" in admin.gateway.event_line(event="admin-unavailable")["detail"]


def test_the_controllers_events_follow_the_log(start_admin: StartAdmin, tmp_path: Path) -> None:
    admin = start_admin()
    moved = tmp_path / "moved.log"
    edit(admin, str(admin.gateway.events_path), str(moved))
    assert admin.ask("/api/v1/reload", "-X", "POST", seconds=30).status == 200
    wait_for(lambda: admin.ask("/readyz").json()["generation"] == 2, "the new settings")
    assert admin.ask("/healthz", "-H", "Host: evil.example").status == 421
    wait_for(lambda: '"admin-refused"' in moved.read_text(), "the event in the new file")


def test_an_admin_listener_that_begins_with_a_reload(start_gateway: StartGateway, pki: Pki) -> None:
    """Also under an account that may not read where the packages lie."""
    user = 'user = "nobody"\n' if os.geteuid() == 0 else ""
    server = f'[server]\nworkers = 1\n{user}state_dir = "$FOLDER/state"\nruntime_dir = "$FOLDER/run"\n'
    gateway = start_gateway(f'{server}[admin]\naddress = "off"\n{pki.host("http://127.0.0.1:9")}')
    admin = Admin(gateway, free_port())
    edit(admin, '"off"', f'"127.0.0.1:{admin.port}"')
    gateway.event_line(event="serving")
    gateway.signal(signal.SIGHUP)
    wait_for(admin.ready, "the admin listener")
    pid = admin.controller()
    status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert os.geteuid() != 0 or "Uid:\t0" not in status
    assert admin.ask("/metrics").status == 200


def test_an_answer_of_any_size_comes_whole(start_admin: StartAdmin) -> None:
    admin = start_admin()
    routes = "".join(f'[[route]]\npath = "/{"long" * 20}/{n}"\nrespond = {{ body = "{n}" }}\n' for n in range(400))
    admin.gateway.config.write_text(admin.gateway.config.read_text() + routes + "wrong = 1\n" * 2)
    assert admin.ask("/api/v1/reload", "-X", "POST", seconds=30).status == 422
    text = admin.gateway.config.read_text().replace("wrong = 1\n", "")
    admin.gateway.config.write_text(text.replace("respond", "rspond"))
    answer = admin.ask("/api/v1/reload", "-X", "POST", seconds=30)
    assert answer.status == 422
    assert len(answer.json()["problems"]) >= 400
    assert len(answer.body) > 64 * 1024
