"""The scenarios of requests and of bulk: what relaying costs by protocol, by the size of bodies, and by the number of fields.

The figure is the server's CPU per request (or GB) in a closed loop, its handshakes at the start among it: one for some
hundred requests. The families of sizes have ten connections, for HTTP/2 with ten streams each, and fewer for 1 MiB, so that what
is under way when the time is up is little beside what was completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from . import load
from .axes import size as words
from .origin import SIZES
from .samples import Sample, Scenario, Site, Target

__all__ = ["requests", "sizes"]

_Take = Callable[[Target, Site, float], Sample]

_NAMES = {"h1": "HTTP/1.1", "h2": "HTTP/2"}
_LARGEST = 1 << 20


def _cpu_per(generate: Callable[[int, Site, float], load.Load]) -> _Take:
    """Server CPU seconds for each operation of a load."""

    def take(target: Target, site: Site, seconds: float) -> Sample:
        before, upstream = target.child.cpu(), site.upstream()
        seen = generate(target.port, site, seconds)
        used, upstream = target.child.cpu() - before, site.upstream() - upstream
        if not seen.count:
            raise RuntimeError("no operation was completed")
        busy = min(1.0, used / seen.seconds), min(1.0, (seen.cpu + upstream) / seen.seconds)
        return Sample(used / seen.count, seen.count, seen.seconds, *busy, seen.errors)

    return take


def requests() -> Iterator[Scenario]:
    """The core set."""
    yield _scenario(
        "h1-small", "CPU per small HTTP/1.1 request", lambda port, site, s: load.h1(port, site.core, s), "h1-fields", 0
    )
    yield _scenario(
        "h1-headers",
        "CPU per HTTP/1.1 request with ten more fields",
        lambda port, site, s: load.h1(port, site.core, s, fields=10),
        "h1-fields",
        10,
    )
    yield _scenario(
        "h2-small",
        "CPU per small HTTP/2 request (50 connections of 10 streams)",
        lambda port, site, s: load.h2(port, site.core, s, path="/small", connections=50, streams=10),
        "h2-fields",
        0,
    )
    yield _scenario(
        "h2-64k",
        "CPU per HTTP/2 answer of 64 KiB",
        lambda port, site, s: load.h2(port, site.core, s, path="/64k", connections=10, streams=10),
        "h2-down",
        SIZES["64k"],
    )
    for name, what, generate in (
        ("bulk-down", "downloaded", lambda port, site, s: load.download(port, site.core, site.bulk)),
        ("bulk-up", "uploaded", lambda port, site, s: load.upload(port, site.core, site.large)),
    ):
        yield Scenario(name, f"CPU per GB {what}", "s/GB", 1, _cpu_per(generate), ("curl",), relayed=True)


def sizes() -> Iterator[Scenario]:
    """What the core set has no time for: bodies both ways, and ten and forty fields."""
    for protocol, name in _NAMES.items():
        for short, size in SIZES.items():
            if (protocol, short) != ("h2", "64k"):
                what = f"CPU per {name} answer of {words(size)}"
                yield _scenario(f"{protocol}-{short}", what, _down(protocol, short, size), f"{protocol}-down", size, core=False)
        for short in ("16k", "1m"):
            size, what = SIZES[short], f"CPU per {name} request with a body of {words(SIZES[short])}"
            yield _scenario(f"{protocol}-up-{short}", what, _up(protocol, size), f"{protocol}-up", size, core=False)
        for fields in (10, 40):
            if (protocol, fields) != ("h1", 10):
                what = f"CPU per {name} request with {fields} more fields"
                yield _scenario(
                    f"{protocol}-fields-{fields}", what, _with(protocol, fields), f"{protocol}-fields", fields, core=False
                )


def _scenario(
    name: str, what: str, generate: Callable[[int, Site, float], load.Load], axis: str, x: int, *, core: bool = True
) -> Scenario:
    return Scenario(name, what, "µs", 1e6, _cpu_per(generate), core=core, axis=axis, x=x, relayed=True)


def _down(protocol: str, short: str, size: int) -> Callable[[int, Site, float], load.Load]:
    path, few = f"/{short}", size >= _LARGEST

    def generate(port: int, site: Site, seconds: float) -> load.Load:
        if protocol == "h1":
            return load.h1(port, site.core, seconds, path=path, connections=4 if few else 10)
        return load.h2(port, site.core, seconds, path=path, connections=4 if few else 10, streams=1 if few else 10)

    return generate


def _up(protocol: str, size: int) -> Callable[[int, Site, float], load.Load]:
    few = size >= _LARGEST

    def generate(port: int, site: Site, seconds: float) -> load.Load:
        body = _body(site, size)
        if protocol == "h1":
            return load.h1(port, site.core, seconds, path="/sink", connections=4 if few else 10, body=body)
        streams = 1 if few else 10
        return load.h2(port, site.core, seconds, path="/sink", connections=4 if few else 10, streams=streams, body=body)

    return generate


def _body(site: Site, size: int) -> Path:
    """A file of `size` zeros."""
    path = site.large.parent / f"body-{size}"
    if not path.exists():
        path.write_bytes(bytes(size))
    return path


def _with(protocol: str, fields: int) -> Callable[[int, Site, float], load.Load]:
    def generate(port: int, site: Site, seconds: float) -> load.Load:
        if protocol == "h1":
            return load.h1(port, site.core, seconds, fields=fields)
        return load.h2(port, site.core, seconds, path="/small", connections=50, streams=10, fields=fields)

    return generate
