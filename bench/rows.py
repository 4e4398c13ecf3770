"""The handshake scenarios: cost per handshake in a closed loop for the whole matrix, and latency in open loops at a fixed rate.

Cost and the rate at saturation come from the same closed loop: server CPU per handshake, handshakes a second, and the share
of its core that the server used meanwhile. Latency comes from open loops at a rate that every target can hold, because at
saturation each target's latency is only the length of its own queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .conclusions import LATE
from .handshakes import Job
from .latency import percentile
from .load import drive, load_of
from .offer import Offer
from .samples import Sample, Scenario, Site, Target

__all__ = ["RATE", "handshakes", "lateness"]

RATE = 600.0
"""Handshakes a second of the open loops."""

_IN_FLIGHT = 512  # of an open loop
_LATE = 0.0005  # seconds that a client may be late: it has a handshake of its own in hand now and then


def handshakes() -> Iterator[Scenario]:
    """Every row; those of the core set are what a client of today does, and what a change of certificates would cost."""
    for version in ("1.3", "1.2"):
        for kind in ("full", "resumed"):
            core = Offer(version, resumed=kind == "resumed")
            name = f"tls{version}-{kind}"
            yield _cost(name, core, "", "ECDSA P-256, X25519", core=True)
            groups = ("P-256", "X25519MLKEM768") if version == "1.3" else ("P-256",)
            for group in groups:
                hybrid = group == "X25519MLKEM768"
                offer = Offer(version, group, resumed=core.resumed)
                short = "mlkem" if hybrid else "p256"
                yield _cost(f"{name}-{short}", offer, "", f"ECDSA P-256, {group}", core=hybrid and kind == "full")
            first = (version, kind) == ("1.3", "full")
            yield _cost(f"{name}-rsa", core, "rsa", "RSA 2048, X25519", core=first)
            yield _cost(f"{name}-mutual", core, "mutual", "mutual TLS, ECDSA P-256, X25519", core=first)
        stapled, beside = Offer(version, staple=True), Offer(version)
        words = "ECDSA P-256, X25519, its issuer and an OCSP staple"
        yield _cost(f"tls{version}-full-staple", stapled, "staple", words, core=False)
        words = "ECDSA P-256, X25519, its issuer, no staple asked for"
        yield _cost(f"tls{version}-full-unstapled", beside, "staple", words, core=False)
        both = Offer(version)
        yield _cost(
            f"tls{version}-full-both", both, "both", "the server's choice of an ECDSA and an RSA certificate, X25519", core=False
        )
    after = Offer(resumed=True, request=True)
    ahead = replace(after, early=True)
    yield _cost("tls1.3-resumed-request", after, "", "ECDSA P-256, X25519, and one request after it", core=False)
    yield _cost("tls1.3-early", ahead, "early", "ECDSA P-256, X25519, and one request in its early data", core=False)
    for version in ("1.3", "1.2"):
        for kind in ("full", "resumed"):
            offer, first = Offer(version, resumed=kind == "resumed"), (version, kind) == ("1.3", "full")
            yield _latency(f"latency{version}-{kind}", offer, "", f"{kind} TLS {version} handshakes", core=first)
    words = "resumed TLS 1.3 handshakes to the first byte of an answer"
    yield _latency("latency1.3-resumed-request", after, "", f"{words}, request after them,", core=False)
    yield _latency("latency1.3-early", ahead, "early", f"{words}, request in early data,", core=False)


def _latency(name: str, offer: Offer, variant: str, what: str, *, core: bool) -> Scenario:
    return Scenario(
        name,
        f"p99 latency of {what} at {RATE:.0f} a second",
        "ms",
        1e3,
        _at_rate(offer, variant),
        core=core,
        loop="open",
        offer=offer,
        variant=variant,
    )


def _cost(name: str, offer: Offer, variant: str, what: str, *, core: bool) -> Scenario:
    kind = "resumed" if offer.resumed else "full"
    return Scenario(
        name,
        f"CPU per {kind} TLS {offer.version} handshake ({what})",
        "µs",
        1e6,
        _saturated(offer, variant),
        core=core,
        loop="closed",
        offer=offer,
        variant=variant,
    )


def _for(site: Site, offer: Offer, variant: str) -> Offer:
    """The offer with the client's certificate, where the server demands one."""
    if variant != "mutual" or site.client is None:
        return offer
    return Offer(offer.version, offer.group, resumed=offer.resumed, chain=str(site.client.chain), key=str(site.client.key))


def _saturated(offer: Offer, variant: str) -> Callable[[Target, Site, float], Sample]:
    """Server CPU seconds for each handshake of a closed loop."""

    def take(target: Target, site: Site, seconds: float) -> Sample:
        target = target.variant(variant)
        job = Job("127.0.0.1", target.port, offer=_for(site, offer, variant), seconds=seconds)
        before = target.child.cpu()
        seen = drive(job, site.core)
        used = target.child.cpu() - before
        load = load_of(seen, job)
        if not seen.count:
            raise RuntimeError("no handshake was completed")
        # how busy both were is said of the time of the loop alone, not of the start of its process
        return Sample(used / load.count, seen.count, seen.seconds, min(1.0, used / seen.seconds), seen.busy, load.errors)

    return take


def _at_rate(offer: Offer, variant: str) -> Callable[[Target, Site, float], Sample]:
    """The 99th percentile in seconds of an open loop at `RATE`."""

    def take(target: Target, site: Site, seconds: float) -> Sample:
        target = target.variant(variant)
        job = Job(
            "127.0.0.1", target.port, offer=offer, mode="open", rate=RATE, seconds=max(1.0, seconds), connections=_IN_FLIGHT
        )
        before = target.child.cpu()
        seen = drive(job, site.core)
        used = target.child.cpu() - before
        p99 = percentile(sorted(seen.durations), 99)
        if p99 is None:
            raise RuntimeError(f"only {len(seen.durations)} handshakes: too few for p99")
        errors = load_of(seen, job).errors
        late = percentile(sorted(seen.late), 99) or max(seen.late, default=0.0)  # too few for p99: the worst
        return Sample(
            p99,
            seen.count,
            seen.seconds,
            used / seen.seconds,
            seen.busy,
            errors,
            {LATE: late * 1e3},
            tuple(seen.durations),
            lateness(late, p99),
        )

    return take


def lateness(late: float, value: float) -> str:
    """What is in doubt about a 99th percentile of `value` seconds when `late` is the one of the client's own lateness.

    "" if nothing is. A client that begins late, or that is late to read, is as slow as the server to whoever waits.
    """
    if late <= _LATE or late <= value / 10:
        return ""
    return f"the client was late itself by {late * 1e3:.1f} ms (p99), of {value * 1e3:.1f} ms that were measured"
