"""Fuzzes the HTTP/1.1 codecs: ``python -m tests.fuzz.fuzz_h1 [SECONDS]``, from the root of the repository.

With atheris installed it is a coverage-guided target (further arguments are libFuzzer's); without it, and always when SECONDS is
given, a loop of random changes to the corpus runs for that long (60 s by default). Invariants: see `tests.http.h1_oracles`. What
breaks one is written to ``.fuzz/``; a useful input belongs into ``tests/corpus/h1``.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from pathlib import Path

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


def run(seconds: float, seed: int) -> int:
    """Changes the corpus at random for so long; returns the number of inputs."""
    chance = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        kind = chance.randrange(4)
        pool = REQUESTS if kind < 2 else RESPONSES
        data = bytes([kind]) + mutate(chance.choice(pool), chance, pool)
        try:
            one_input(data)
        except BaseException:
            found = Path(".fuzz") / f"h1-{hashlib.sha256(data).hexdigest()[:16]}"
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
