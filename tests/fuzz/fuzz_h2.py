"""Fuzzes HTTP/2 connections: ``python -m tests.fuzz.fuzz_h2 [SECONDS]``, from the root of the repository.

With atheris installed it is a coverage-guided target (further arguments are libFuzzer's); without it, and always when SECONDS is
given, a loop of random changes to the corpus runs for that long (60 s by default). Invariants: see `tests.http.h2_oracles`. What
breaks one is written to ``.fuzz/``; a useful input belongs into ``tests/corpus/h2``.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from pathlib import Path

from tests.http.h2_oracles import check, dialogues, mutate


def one_input(data: bytes) -> None:
    """The first octet chooses our role and how the rest, which the peer sends, is cut."""
    if data:
        check(data[1:], client=bool(data[0] & 1), seed=data[0] >> 1)


def run(seconds: float, seed: int) -> int:
    """Changes the corpus at random for so long; returns the number of inputs."""
    chance = random.Random(seed)
    end = time.monotonic() + seconds
    pools = (dialogues("client"), dialogues("server"))
    count = 0
    while time.monotonic() < end:
        first = chance.randrange(256)
        pool = pools[first & 1]
        data = bytes((first,)) + mutate(chance.choice(pool), chance, pool)
        try:
            one_input(data)
        except BaseException:
            found = Path(".fuzz") / f"h2-{hashlib.sha256(data).hexdigest()[:16]}"
            found.parent.mkdir(exist_ok=True)
            found.write_bytes(data)
            print(f"seed {seed}, input {count}: {found}", file=sys.stderr)
            raise
        count += 1
    return count


def main(arguments: list[str]) -> None:
    seconds = float(arguments[1]) if len(arguments) == 2 and arguments[1].isdecimal() else 0.0
    if not seconds:
        try:
            import atheris
        except ImportError:
            seconds = 60.0
        else:
            atheris.instrument_all()
            atheris.Setup(arguments, one_input)
            atheris.Fuzz()
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}: {run(seconds, seed)} inputs, nothing found")


if __name__ == "__main__":
    main(sys.argv)
