"""Where a process spends its cycles in native code, by ``perf``: the interpreter, libraries, the kernel where that is permitted.

py-spy knows the functions of Python and stops the process for each look. perf is interrupted by the processor's cycles and sees
what really runs, OpenSSL inside of cryptography's module among it; but of Python's functions it sees only the interpreter that
runs them. So the two pictures belong together. Stacks are unwound by the libraries' own tables (DWARF), for hardly any of
them keeps frame pointers.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from .flame import Frame
from .processes import environment

__all__ = ["Unseen", "Stacks", "by_library", "by_symbol", "folded", "read", "record"]

K = TypeVar("K")
Stacks = dict[tuple[Frame, ...], int]

_FREQUENCY = 499  # a second; prime to whatever the process does in step with a clock
_STACK = 16_384  # bytes of stack that are kept with each sample
_EVENTS = ("cycles", "cycles:u", "cpu-clock:u")  # the best that the machine permits
_LINE = re.compile(r"\s*[0-9a-f]+ (?P<symbol>.*) \((?P<library>[^()]*(?:\([^()]*\))?[^()]*)\)$")


class Unseen(Exception):
    """perf can see nothing here; the text says why."""


def _library(path: str) -> str:
    if path.startswith(("[kernel", "[guest.kernel")) or path.endswith((".ko", ".ko.xz")):
        return "kernel"
    return path.rsplit("/", 1)[-1]


def read(lines: Iterable[str]) -> Stacks:
    """The stacks that ``perf script -F ip,sym,dso`` prints, from root to leaf, with how often each was seen."""
    found: Counter[tuple[Frame, ...]] = Counter()
    stack: list[Frame] = []
    for line in [*lines, ""]:
        if not line.strip():
            while stack and stack[-1].library == "[unknown]":
                stack.pop()  # where the unwinding ended
            if stack:
                found[tuple(reversed(stack))] += 1
            stack = []
        elif match := _LINE.match(line):
            stack.append(Frame(match["symbol"].strip(), _library(match["library"])))
    return dict(found)


def record(pid: int, seconds: float, folder: Path) -> tuple[Stacks, str]:
    """Watch process `pid` for `seconds`: its stacks, and the event that was counted (with ":u" at its end: without the kernel).

    Raises Unseen.
    """
    if (perf := shutil.which("perf")) is None:
        raise Unseen("perf is not installed")
    data, said = folder / "perf.data", ""
    given = environment() | {"LC_ALL": "C"}
    for event in _EVENTS:
        command = [perf, "record", "-q", "-F", str(_FREQUENCY), "--call-graph", f"dwarf,{_STACK}", "-e", event, "-p", str(pid)]
        command += ["-o", str(data), "--", "sleep", f"{seconds:g}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60, env=given)
        if done.returncode == 0 and data.exists():
            break
        said = said or " ".join(done.stderr.split())[:200]
    else:
        raise Unseen(f"perf may not record here: {said}")
    # what was counted in the end: perf leaves the kernel out by itself where it may not look into it
    done = subprocess.run([perf, "evlist", "-i", str(data)], capture_output=True, text=True, check=False, timeout=60, env=given)
    event = next(iter(done.stdout.split()), event)
    command = [perf, "script", "-i", str(data), "--no-inline", "-F", "ip,sym,dso"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=300, env=given)
    stacks = read(done.stdout.splitlines())
    if not stacks:
        raise Unseen(f"perf saw nothing: {' '.join(done.stderr.split())[:200]}")
    return stacks, event


def by_library(stacks: Stacks) -> list[tuple[str, float]]:
    """The share of the samples (0 to 1) in which a library's own code ran, from the greatest."""
    return _shares((stack[-1].library, count) for stack, count in stacks.items())


def by_symbol(stacks: Stacks) -> list[tuple[Frame, float]]:
    """The same for each function."""
    return _shares((stack[-1], count) for stack, count in stacks.items())


def _shares(counts: Iterable[tuple[K, int]]) -> list[tuple[K, float]]:
    found: Counter[K] = Counter()
    for what, count in counts:
        found[what] += count
    return [(what, count / found.total()) for what, count in found.most_common()]


def folded(stacks: Stacks) -> str:
    """One stack to a line, as flame graph tools read them: frames from the root, with semicolons between, and the count."""
    lines = (
        ";".join(f"{frame.symbol} ({frame.library})".replace(";", ",") for frame in stack) + f" {count}"
        for stack, count in stacks.items()
    )
    return "".join(f"{line}\n" for line in sorted(lines))
