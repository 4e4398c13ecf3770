"""Fuzzes the HTTP/1.1 codecs: ``python -m tests.fuzz.fuzz_h1 [SECONDS]``, from the root of the repository.

Guided by coverage, or by random changes to the corpus (`tests.fuzz.driver`). Invariants: `tests.http.h1_oracles`. What breaks
one is written to ``.fuzz/``; a useful input belongs into ``tests/corpus/h1``.
"""

from __future__ import annotations

import random
import sys

from tests.fuzz.driver import fuzz
from tests.http.h1_oracles import check_requests, check_response
from tests.http.test_h1_oracles import REQUESTS, RESPONSES, mutate


def one_input(data: bytes) -> None:
    """The first byte chooses the role and the request's method, the rest is what the peer sends."""
    if not data:
        return
    kind, rest = data[0] % 4, data[1:]
    if kind < 2:
        check_requests(rest, data[0])
    else:
        check_response(rest, b"GET" if kind == 2 else b"HEAD", data[0])


def invent(chance: random.Random) -> bytes:
    """Something of the corpus, changed."""
    kind = chance.randrange(4)
    pool = REQUESTS if kind < 2 else RESPONSES
    return bytes([kind]) + mutate(chance.choice(pool), chance, pool)


if __name__ == "__main__":
    fuzz("h1", one_input, invent, sys.argv)
