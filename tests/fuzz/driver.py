"""How a fuzz target runs: guided by coverage when atheris is installed, else at random for a time.

Arguments are libFuzzer's; a single number is seconds of the random loop (60 without atheris). What breaks an invariant in
the loop is written to ``.fuzz/``.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["fuzz", "guided"]

Check = Callable[[bytes], object]


def guided(check: Check, arguments: list[str]) -> None:
    """Hand inputs to `check` until one raises. Needs atheris; does not return."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(arguments, check)
    atheris.Fuzz()


def fuzz(name: str, check: Check, invent: Callable[[random.Random], bytes], arguments: list[str]) -> None:
    """`guided`, or inputs that `invent` makes, one after the other."""
    seconds = float(arguments[1]) if len(arguments) == 2 and arguments[1].isdecimal() else 0.0
    if not seconds:
        try:
            guided(check, arguments)
        except ImportError:
            seconds = 60.0
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}: {_loop(name, check, invent, seconds, seed)} inputs, nothing found")


def _loop(name: str, check: Check, invent: Callable[[random.Random], bytes], seconds: float, seed: int) -> int:
    chance = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        data = invent(chance)
        try:
            check(data)
        except BaseException:
            found = Path(".fuzz") / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
            found.parent.mkdir(exist_ok=True)
            found.write_bytes(data)
            print(f"seed {seed}, input {count}: {found}", file=sys.stderr)
            raise
        count += 1
    return count
