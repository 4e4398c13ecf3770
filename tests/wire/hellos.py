"""Hellos for the parser: built byte by byte, written by OpenSSL, and cut up in every way."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence
from functools import lru_cache

from OpenSSL import SSL

from edge.tls.binding import lib


def u16(value: int) -> bytes:
    return struct.pack(">H", value)


def block(data: bytes) -> bytes:
    """A two-byte length and the data."""
    return u16(len(data)) + data


def words(*values: int) -> bytes:
    return b"".join(map(u16, values))


def extension(kind: int, body: bytes) -> bytes:
    return u16(kind) + block(body)


def sni(name: bytes) -> bytes:
    return extension(0, block(b"\0" + block(name)))


def alpn(*names: bytes) -> bytes:
    return extension(16, block(b"".join(bytes([len(name)]) + name for name in names)))


def versions(*values: int) -> bytes:
    return extension(43, bytes([2 * len(values)]) + words(*values))


def psk(identity: bytes, *, binders: bytes = b"\x20" + bytes(32)) -> bytes:
    return extension(41, block(block(identity) + bytes(4)) + block(binders))


def body(
    extensions: Iterable[bytes] | None = (),
    *,
    version: int = 0x0303,
    session: bytes = bytes(32),
    ciphers: Sequence[int] = (0x1301, 0x1302, 0xC02B),
    compression: bytes = b"\0",
) -> bytes:
    """The ClientHello without its header. `extensions` None: no block of them at all."""
    head = u16(version) + bytes(range(32)) + bytes([len(session)]) + session + block(words(*ciphers))
    head += bytes([len(compression)]) + compression
    return head if extensions is None else head + block(b"".join(extensions))


def message(data: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + len(data).to_bytes(3, "big") + data


def records(data: bytes, size: int = 16384, version: int = 0x0301) -> bytes:
    return b"".join(b"\x16" + u16(version) + block(data[at : at + size]) for at in range(0, len(data), size))


def hello(*extensions: bytes, **options: object) -> bytes:
    """A whole ClientHello in one record; TLS 1.3 is offered unless the extensions say otherwise."""
    return records(message(body(extensions or (sni(b"a.test"), versions(0x0304, 0x0303)), **options)))  # type: ignore[arg-type]


@lru_cache
def openssl_hello(groups: str = "X25519MLKEM768:X25519", name: str = "a.test", tls12: bool = False) -> bytes:
    """The first flight of the OpenSSL that the binding brings."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    assert lib.SSL_CTX_set1_curves_list(context._context, groups.encode()) == 1
    context.set_alpn_protos([b"h2", b"http/1.1"])
    if tls12:
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
    connection = SSL.Connection(context, None)
    connection.set_tlsext_host_name(name.encode())
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        pass
    return connection.bio_read(65536)


def captured(*arguments: str) -> bytes:
    """The first flight of the system's `openssl s_client`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                return connection.recv(65536)
        finally:
            process.kill()
            process.wait()
