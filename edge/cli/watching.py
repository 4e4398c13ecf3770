"""Drawing the same thing again and again (`--watch`), until Ctrl-C.

On a terminal it is drawn in place, on the other screen, so that what stood there before comes back afterwards; elsewhere one
drawing follows the other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

__all__ = ["watch"]

_ENTER, _HOME, _LEAVE = "\x1b[?1049h", "\x1b[H\x1b[J", "\x1b[?1049l"


def watch(draw: Callable[[], int], interval: float) -> int:
    """Call `draw` every `interval` seconds. What it returns last is returned when Ctrl-C ends it; what it raises goes through."""
    terminal = sys.stdout.isatty()
    if terminal:
        sys.stdout.write(_ENTER)
    code = 0
    try:
        while True:
            if terminal:
                sys.stdout.write(_HOME)
            code = draw()
            sys.stdout.flush()
            time.sleep(interval)
    except KeyboardInterrupt:
        return code
    finally:
        if terminal:
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()
