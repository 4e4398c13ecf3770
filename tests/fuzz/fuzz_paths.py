"""Fuzzes paths: ``python -m tests.fuzz.fuzz_paths``, with libFuzzer's arguments.

Invariants: a path is refused with `bad-path` or has a normal form that is its own normal form, is a URI's path, hides no
dot segment, slash or backslash, even from somebody who decodes it twice, and agrees with what routes are matched against.
"""

from __future__ import annotations

import re
import sys

from edge.errors import Fault
from edge.route.paths import normalise
from tests.fuzz.driver import guided

_URI = re.compile(rb"(/|%[0-9A-F]{2}|[A-Za-z0-9._~!$&'()*+,;=:@-])+")
_NEEDLESS = re.compile(rb"%(2[DEF]|5[CF]|00|3[0-9]|[46][1-9A-F]|[57][0-9A]|7E)")  # escapes that are decoded or refused


def check(target: bytes) -> None:
    """Raises AssertionError where an invariant does not hold."""
    try:
        path = normalise(target)
    except Fault as fault:
        if fault.kind != "bad-path":
            raise
        return
    if path.normal == b"*":
        assert path.match == "/"
        return
    again = normalise(path.normal)
    assert (again.normal, again.match) == (path.normal, path.match)
    assert path.normal.startswith(b"/") and _URI.fullmatch(path.normal)
    assert not _NEEDLESS.search(path.normal)
    assert not {b".", b".."} & {part.partition(b";")[0] for part in path.normal.split(b"/")}
    assert path.match.startswith("/") and "//" not in path.match
    assert not {".", ".."} & {part.partition(";")[0] for part in path.match.split("/")}
    twice = re.sub(rb"%25([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), path.normal)
    for special in b"./\\\x00?#;":
        assert twice.count(special) == path.normal.count(special)
    named = [part for part in path.normal.split(b"/") if part]
    assert len(named) == len([part for part in path.match.split("/") if part])


if __name__ == "__main__":
    guided(check, sys.argv)
