"""JA4: a fingerprint of a TLS client (FoxIO, "JA4: TLS Client Fingerprinting").

``t13d1516h2_8daaf6152771_e5627efa2ab1``: transport, version, whether a server_name was sent, the numbers of cipher
suites and extensions, first and last character of the first ALPN name; then the first twelve hex digits of SHA-256 over
the sorted suites; then the same over the sorted extensions (without server_name and ALPN), followed by the signature
algorithms in the client's order. GREASE values (RFC 8701) count nowhere.

There are few kinds of clients and many connections, so both digests are remembered; clients that shuffle their
extensions meet the same entry, because what is remembered is keyed by the sorted list.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

__all__ = ["fingerprint"]

GREASE = frozenset(value << 8 | value for value in range(0x0A, 0x100, 0x10))
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


_remembered = lru_cache(maxsize=1024)(_digest)


def _digest_of(values: tuple[int, ...], tail: tuple[int, ...]) -> str:
    """`_digest`, remembered unless the lists are of a length that only somebody who wants to fill our memory sends."""
    return _remembered(values, tail) if len(values) + len(tail) <= 128 else _digest(values, tail)


@lru_cache(maxsize=1024)
def _ends(name: bytes) -> str:
    """First and last character of an ALPN name; of its hex form when either is not alphanumeric."""
    if not name:
        return "00"
    first, last = name[:1], name[-1:]
    if first.isalnum() and last.isalnum():
        return (first + last).decode()
    return name.hex()[0] + name.hex()[-1]


def fingerprint(
    versions: Sequence[int],
    ciphers: Sequence[int],
    extensions: Sequence[int],
    alpn: Sequence[bytes],
    signatures: Sequence[int],
    *,
    sni: bool,
) -> str:
    """The fingerprint without its first letter, the transport."""
    suites = sorted([value for value in ciphers if value not in GREASE])
    kinds = sorted([value for value in extensions if value not in GREASE])
    hashed = tuple([value for value in kinds if value not in (0, 16)])
    version = _VERSIONS.get(max([value for value in versions if value not in GREASE], default=0), "00")
    algorithms = tuple([value for value in signatures if value not in GREASE])
    return (
        f"{version}{'d' if sni else 'i'}{min(len(suites), 99):02}{min(len(kinds), 99):02}{_ends(alpn[0] if alpn else b'')}"
        f"_{_digest_of(tuple(suites), ())}_{_digest_of(hashed, algorithms)}"
    )
