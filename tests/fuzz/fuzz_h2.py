"""Fuzzes HTTP/2 connections: ``python -m tests.fuzz.fuzz_h2 [SECONDS]``, from the root of the repository.

Guided by coverage, or by random changes to the corpus (`tests.fuzz.driver`). Invariants: `tests.http.h2_oracles`. What breaks
one is written to ``.fuzz/``; a useful input belongs into ``tests/corpus/h2``.
"""

from __future__ import annotations

import random
import sys

from tests.fuzz.driver import fuzz
from tests.http.h2_oracles import check, dialogues, mutate

POOLS = (dialogues("client"), dialogues("server"))


def one_input(data: bytes) -> None:
    """The first octet chooses our role and how the rest, which the peer sends, is cut."""
    if data:
        check(data[1:], client=bool(data[0] & 1), seed=data[0] >> 1)


def invent(chance: random.Random) -> bytes:
    """Something of the corpus, changed."""
    first = chance.randrange(256)
    pool = POOLS[first & 1]
    return bytes((first,)) + mutate(chance.choice(pool), chance, pool)


if __name__ == "__main__":
    fuzz("h2", one_input, invent, sys.argv)
