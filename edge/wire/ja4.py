"""JA4: a fingerprint of a TLS client (FoxIO, "JA4: TLS Client Fingerprinting").

``t13d1516h2_8daaf6152771_e5627efa2ab1``: transport, version, whether a server_name was sent, the numbers of cipher
suites and extensions, first and last character of the first ALPN name; then the first twelve hex digits of SHA-256 over
the sorted suites; then the same over the sorted extensions (without server_name and ALPN), followed by the signature
algorithms in the client's order. GREASE values (RFC 8701) count nowhere.

There are few kinds of clients and many connections, so results are remembered: the whole one for a hello that is equal
in all that counts, and both digests for clients that shuffle their extensions or draw new GREASE values, because those
are keyed by the sorted lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from struct import unpack

__all__ = ["fingerprint"]

GREASE = frozenset(value << 8 | value for value in range(0x0A, 0x100, 0x10))
_Digest = Callable[[tuple[int, ...], tuple[int, ...]], str]
_NONE = "000000000000"
_VERSIONS = {
    0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2",
    0xFEFF: "d1", 0xFEFD: "d2", 0xFEFC: "d3",
}  # fmt: skip


def _hex(values: Sequence[int]) -> str:
    return ",".join(f"{value:04x}" for value in values)


def _digest(values: tuple[int, ...], tail: tuple[int, ...]) -> str:
    if not values:
        return _NONE
    text = f"{_hex(values)}_{_hex(tail)}" if tail else _hex(values)
    return sha256(text.encode()).hexdigest()[:12]


def _ends(name: bytes) -> str:
    """First and last character of an ALPN name; of its hex form when either is not alphanumeric."""
    if not name:
        return "00"
    first, last = name[:1], name[-1:]
    if first.isalnum() and last.isalnum():
        return (first + last).decode()
    return name.hex()[0] + name.hex()[-1]


_remembered_digest = lru_cache(maxsize=1024)(_digest)


def _fingerprint(
    versions: tuple[int, ...],
    ciphers: bytes,
    extensions: tuple[int, ...],
    alpn: bytes,
    signatures: bytes,
    sni: bool,
    digest: _Digest,
) -> str:
    suites = _counted(unpack(f">{len(ciphers) // 2}H", ciphers))
    kinds = _counted(extensions)
    hashed = tuple([value for value in kinds if value not in (0, 16)])
    algorithms = tuple([value for value in unpack(f">{len(signatures) // 2}H", signatures) if value not in GREASE])
    version = _VERSIONS.get(max(_counted(versions), default=0), "00")
    return (
        f"{version}{'d' if sni else 'i'}{min(len(suites), 99):02}{min(len(kinds), 99):02}{_ends(alpn)}"
        f"_{digest(tuple(suites), ())}_{digest(hashed, algorithms)}"
    )


_remembered_fingerprint = lru_cache(maxsize=1024)(_fingerprint)


def _counted(values: tuple[int, ...]) -> list[int]:
    return sorted([value for value in values if value not in GREASE])


def fingerprint(
    versions: tuple[int, ...], ciphers: bytes, extensions: tuple[int, ...], alpn: bytes, signatures: bytes, *, sni: bool
) -> str:
    """The fingerprint without its first letter, the transport.

    Suites and signature algorithms as on the wire, two bytes each; `alpn` is the first name offered, or ``b""``.
    Lists of a length that only somebody sends who wants to fill our memory are not remembered.
    """
    if len(ciphers) + len(signatures) + 2 * len(extensions) + len(alpn) + len(versions) > 512:
        return _fingerprint(versions, ciphers, extensions, alpn, signatures, sni, _digest)
    return _remembered_fingerprint(versions, ciphers, extensions, alpn, signatures, sni, _remembered_digest)
