"""Fuzzes the ClientHello parser: ``python -m tests.fuzz.fuzz_hello``, with libFuzzer's arguments.

Invariants: whatever comes, there is a hello, a Fault of the client's, or a wish for more; how the bytes were cut into
segments changes nothing; a hello's name is a canonical host name; the reader gives back exactly what it was fed.
"""

from __future__ import annotations

import re
import sys

from edge.errors import Fault, Side
from edge.wire.hello import ClientHello, HelloReader
from tests.fuzz.driver import guided

LIMIT = 32768
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


def read(data: bytes, size: int = 0, limit: int = LIMIT) -> ClientHello | None:
    """What the reader makes of `data`, in segments of `size` (0: at once)."""
    reader = HelloReader(limit)
    step = size or max(1, len(data))
    for at in range(0, len(data), step):
        found = reader.feed(data[at : at + step])
        assert reader.raw == data[: at + step]
        if found is not None:
            return found
    return None


def verdict(data: bytes, size: int = 0) -> tuple[object, ...]:
    """Everything that can be seen of the outcome, to compare two ways of feeding."""
    try:
        found = read(data, size)
    except Fault as fault:
        return ("fault", fault.side, fault.kind, fault.alert)
    if found is None:
        return ("more",)
    return seen(found)


def seen(found: ClientHello | None) -> tuple[object, ...]:
    """Everything that a hello says."""
    assert found is not None
    assert found.sni is None or (len(found.sni) <= 253 and _NAME.fullmatch(found.sni))
    return (
        found.sni, found.alpn, found.versions, found.legacy_version, found.ciphers, found.extensions, found.groups,
        found.sig_algs, found.session_ticket, found.psk_offered, found.early_data, found.sni_sent, found.ja4(),
    )  # fmt: skip


def check(data: bytes) -> None:
    """Raises AssertionError where an invariant does not hold."""
    whole = verdict(data)
    assert whole[0] != "fault" or whole[1] is Side.CLIENT
    assert verdict(data, 13) == whole
    if len(data) <= 2048:
        assert verdict(data, 1) == whole


if __name__ == "__main__":
    guided(check, sys.argv)
