"""The engines over real sockets against the system's `openssl`: another library version, another implementation's quirks."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from edge.errors import Fault
from edge.settings.model import ClientAuthMode
from edge.tls.choice import HostTable, ServerContext
from edge.tls.client import ClientContext
from edge.tls.engine import Engine
from edge.wire.hello import HelloReader
from tests.tls.peers import PKI, host, upstream_tls

VERSIONS = pytest.mark.parametrize("flag", ["-tls1_2", "-tls1_3"])


def pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


@contextlib.contextmanager
def openssl(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = ["openssl", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def s_client(
    table: HostTable, *arguments: str, name: str = "a.test"
) -> Iterator[tuple[Engine, socket.socket, subprocess.Popen[bytes]]]:
    """`openssl s_client` connected to an engine, whose handshake is done; the connection's first bytes chose its context."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        with openssl("s_client", "-connect", target, "-servername", name, *arguments) as process:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                reader = HelloReader(32768)
                hello = None
                while hello is None:
                    hello = reader.feed(connection.recv(65536))
                engine = table.choose(hello.sni).engine(hello.sni)
                engine.receive(reader.raw)
                connection.sendall(engine.drain())
                try:
                    while not engine.established:
                        engine.receive(connection.recv(65536))
                finally:
                    connection.sendall(engine.drain())
                yield engine, connection, process


def table(**changes: object) -> HostTable:
    return HostTable([ServerContext(host(**changes))], None)  # type: ignore[arg-type]


def read(engine: Engine, connection: socket.socket, size: int) -> bytes:
    plain = b""
    while len(plain) < size:
        data = connection.recv(65536)
        assert data
        plain += engine.receive(data)
        connection.sendall(engine.drain())
    return plain


@VERSIONS
def test_s_client_talks(flag: str) -> None:
    with s_client(table(), flag, "-quiet", "-alpn", "h2") as (engine, connection, process):
        stdin, stdout = pipes(process)
        assert engine.info().alpn == b"h2"
        stdin.write(b"question\n")
        stdin.flush()
        assert read(engine, connection, 9) == b"question\n"
        engine.send(b"answer\n")
        engine.shutdown()
        connection.sendall(engine.drain())
        lines = [line for line in stdout if not line.startswith((b"depth", b"verify"))]
        assert b"answer\n" in lines


@VERSIONS
def test_s_client_sends_and_gets_much(flag: str) -> None:
    data = bytes(range(256)) * 4096 * 10
    with s_client(table(), flag, "-quiet", "-no_ign_eof", "-nocommands") as (engine, connection, process):
        _, stdout = pipes(process)
        for start in range(0, len(data), 262_144):
            engine.send(memoryview(data)[start : start + 262_144])
        engine.shutdown()
        connection.settimeout(None)
        writer = threading.Thread(target=connection.sendall, args=(engine.drain(),))
        writer.start()
        got = stdout.read()
        writer.join(60)
        assert got.endswith(data)


def test_the_key_update_budget_has_something_to_count() -> None:
    with s_client(table(), "-tls1_3") as (engine, connection, process):
        stdin, _ = pipes(process)
        stdin.write(b"k\n")
        stdin.flush()
        while engine.disturbances < 1:
            engine.receive(connection.recv(65536))
        assert engine.disturbances == 1
        assert engine.empty_records == 0
        stdin.write(b"K\n")  # asks for an update of ours as well
        stdin.flush()
        while engine.disturbances < 2:
            engine.receive(connection.recv(65536))
        engine.send(b"with our update in front")
        connection.sendall(engine.drain())
        stdin.write(b"data\n")
        stdin.flush()
        assert read(engine, connection, 5) == b"data\n"
        assert engine.disturbances == 2


def test_renegotiation_is_refused() -> None:
    with s_client(table(), "-tls1_2") as (engine, connection, process):
        stdin, stdout = pipes(process)
        stdin.write(b"R\n")
        stdin.flush()
        while engine.disturbances < 1:
            engine.receive(connection.recv(65536))
        connection.sendall(engine.drain())
        assert b"no renegotiation" in stdout.read()
        with pytest.raises(Fault, match="alert-from-client"):
            engine.receive(connection.recv(65536))


@VERSIONS
def test_s_client_resumes(flag: str, tmp_path: Path) -> None:
    found = table()
    session = tmp_path / "session.pem"
    with s_client(found, flag, "-sess_out", str(session)) as (engine, connection, process):
        engine.send(b"ready\n")
        connection.sendall(engine.drain())
        stdin, stdout = pipes(process)
        while b"ready" not in stdout.readline():
            pass
        stdin.write(b"Q\n")
        stdin.flush()
        process.wait(60)
        engine.close()
    with s_client(found, flag, "-sess_in", str(session)) as (engine, _, _):
        assert engine.info().resumed


@pytest.mark.parametrize("group", ["P-256", "X25519", "P-384"])
def test_s_client_and_groups(group: str) -> None:
    with s_client(table(), "-tls1_3", "-groups", group) as (engine, _, _):
        assert engine.info().version == "TLSv1.3"


@pytest.mark.parametrize(("sigalgs", "words"), [("ECDSA+SHA256", b"ECDSA"), ("RSA-PSS+SHA256", b"RSA-PSS")])
def test_s_client_gets_the_certificate_that_it_can_check(sigalgs: str, words: bytes, tmp_path: Path) -> None:
    roots = tmp_path / "root.pem"
    roots.write_bytes(PKI.root.cert_pem.bytes())
    arguments = ("-tls1_3", "-sigalgs", sigalgs, "-CAfile", str(roots), "-verify_return_error", "-brief")
    with s_client(table(rsa=True), *arguments) as (engine, connection, process):
        engine.shutdown()
        connection.sendall(engine.drain())
        out = pipes(process)[1].read()
        assert b"Signature type: " + words in out
        assert b"Verification: OK" in out


@VERSIONS
def test_s_client_without_a_certificate(flag: str) -> None:
    with pytest.raises(Fault, match="client-certificate-missing"), s_client(table(client_auth=ClientAuthMode.REQUIRE), flag):
        pass


@contextlib.contextmanager
def s_server(tmp_path: Path, *arguments: str) -> Iterator[int]:
    """`openssl s_server` with the certificate of a.test; its port."""
    certificate = PKI.certificate("a.test")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(certificate.chain_pem)
    key.write_bytes(certificate.key_pem)
    files = ("-cert", str(chain), "-cert_chain", str(chain), "-key", str(key))
    with openssl("s_server", "-accept", "127.0.0.1:0", "-naccept", "3", *files, *arguments) as process:
        for line in pipes(process)[1]:
            if line.startswith(b"ACCEPT"):
                yield int(line.rpartition(b":")[2])
                return


def get(context: ClientContext, port: int) -> tuple[bytes, bool]:
    """A request to `s_server -www`: what it answered, and whether the session was resumed."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        engine = context.engine()
        while not engine.established:
            connection.sendall(engine.drain())
            engine.receive(connection.recv(65536))
        engine.send(b"GET / HTTP/1.0\r\n\r\n")
        connection.sendall(engine.drain())
        plain = b""
        while not engine.closed:
            data = connection.recv(65536)
            if not data:
                break
            plain += engine.receive(data)
        resumed = engine.info().resumed
        engine.shutdown()
        connection.sendall(engine.drain())
        engine.close()
        return plain, resumed


@VERSIONS
def test_s_server_answers_and_resumes(flag: str, tmp_path: Path) -> None:
    with s_server(tmp_path, "-www", flag) as port:
        context = ClientContext(upstream_tls(), "a.test")
        plain, resumed = get(context, port)
        assert b"HTTP/1.0 200 ok" in plain
        assert not resumed
        assert get(context, port)[1]


def test_s_server_is_a_stranger(tmp_path: Path) -> None:
    with s_server(tmp_path, "-www") as port, pytest.raises(Fault, match="upstream-certificate-wrong-name"):
        get(ClientContext(upstream_tls(), "b.test"), port)
