"""``bench handshake``: what handshakes with one TLS server take, wherever it is, seen from here.

Nothing of the server is needed but its address. Every row of the matrix (version × full or resumed × group × certificate) is
tried once; those that the server does not do are named with its reason. Then the others take turns, one handshake at a time,
so that a change of the network or the machine meets all of them. That is a few hundred handshakes and no load to speak of.

Rates are load: `--seconds` adds a closed loop (`--connections` in flight) and with `--rate` an open one. They are refused
without `--yes` when the address is not loopback.

The client's own share is in every figure: it signs, agrees on keys and checks as much as the server does. Latency includes it.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from .conclusions import of_handshakes
from .handshakes import Job, Seen
from .latency import Latency, curve
from .load import drive
from .machine import describe
from .offer import GROUPS, VERSIONS, Offer
from .probe import INITIAL_WINDOW, Prober, Refused, Taken
from .report import write
from .terminal import show_handshakes

__all__ = ["Address", "look", "main", "matrix", "measure_target", "parse_target", "rates", "told"]

_PHASES = ("tcp", "hello_to_flight", "flight_to_finished", "to_first_byte")
_BUSY = 0.95  # of its core: a client that uses more is the limit
_LATE = 0.001  # seconds that a client may be late at the 99th percentile


class Address:
    """Where a target is: `host` and `port` as given, `ip` as resolved, and `name`, the SNI ("" for an address)."""

    def __init__(self, host: str, port: int, name: str | None = None) -> None:
        """Raises OSError when `host` cannot be resolved."""
        self.host = host
        self.port = port
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.ip = str(found[0][4][0])
        try:
            ipaddress.ip_address(host)
            given = ""
        except ValueError:
            given = host
        self.name = given if name is None else name

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.ip.partition("%")[0]).is_loopback


def parse_target(text: str, name: str | None = None) -> Address:
    """``HOST``, ``HOST:PORT`` or ``[V6]:PORT``; 443 by default. Raises ValueError, or OSError for a name without address."""
    host, port = text, "443"
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"{text} is no target: HOST:PORT, or [V6]:PORT")
        port = rest[1:] or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{text} is no target: HOST:PORT, or [V6]:PORT")
    return Address(host, int(port), name)


def matrix(
    groups: list[str], versions: list[str], *, staple: bool = False, chain: str = "", key: str = "", early: bool = False
) -> list[Offer]:
    """The rows: per version full with each group, full with each kind of certificate, resumed with the first group.

    With `early` one of TLS 1.3 whose request goes as early data.
    """
    rows = []
    for version in versions:
        base = Offer(version, groups[0], staple=staple, chain=chain, key=key)
        usable = [group for group in groups if version == "1.3" or "MLKEM" not in group]  # hybrids are of TLS 1.3 alone
        if not usable:
            continue
        base = replace(base, group=usable[0])
        rows += [replace(base, group=group) for group in usable]
        rows += [replace(base, certificate=kind) for kind in ("ecdsa", "rsa")]
        rows.append(replace(base, resumed=True))
        if early and version == "1.3":
            rows.append(replace(base, resumed=True, request=True, early=True))
    return rows


def look(
    address: Address, offers: list[Offer], *, count: int, path: str | None, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Measure every row `count` times, in turn. A row that the server does not do has `refused` instead of figures."""
    probers: list[tuple[Offer, Prober, list[Taken]]] = []
    rows: dict[Offer, dict[str, Any]] = {}
    for offer in offers:
        progress(f"{offer.label}: can it?")
        prober = Prober((address.ip, address.port), address.name, offer, path)
        try:
            first = prober.take()
            if offer.resumed and not first.resumed:
                raise Refused("the server does not resume")
        except (Refused, OSError) as error:
            rows[offer] = {"label": offer.label, "offer": offer.facts(), "refused": str(error) or type(error).__name__}
            continue
        probers.append((offer, prober, []))
    for number in range(1, count + 1):
        progress(f"handshakes: {number} of {count} per row, {len(probers)} rows")
        for _, prober, samples in probers:
            try:
                samples.append(prober.take())
            except (Refused, OSError):
                continue  # counted: there are fewer samples than were asked for
    for offer, _, samples in probers:
        rows[offer] = _row(offer, samples) | {"failed": count - len(samples)}
    return [rows[offer] for offer in offers]


def _row(offer: Offer, samples: list[Taken]) -> dict[str, Any]:
    valid = [each for each in samples if each.resumed == offer.resumed]
    row: dict[str, Any] = {
        "label": offer.label,
        "offer": offer.facts(),
        "count": len(valid),
        "not_as_asked": len(samples) - len(valid),
    }
    if not valid:
        return row | {"refused": "no handshake was as asked for"}
    last = valid[-1]
    flight = round(median(each.flight for each in valid))
    found = Latency.of([each.handshake for each in valid])
    assert found is not None
    phases = {}
    for phase in _PHASES:
        values = [value for each in valid if (value := getattr(each, phase)) is not None]
        phases[phase] = round(median(values) * 1e3, 3) if values else None
    return row | {
        "group": last.group,
        "suite": last.suite,
        "alpn": last.alpn,
        "certificate": last.certificate,
        "stapled": last.stapled,
        "early_data": last.early_data,
        "flight_bytes": flight,
        "sent_bytes": round(median(each.sent for each in valid)),
        "round_trips": max(each.round_trips for each in valid),
        "beyond_first_window": flight > INITIAL_WINDOW,
        "phases_ms": phases,
        "handshake_ms": found.milliseconds(),
    }


def rates(
    address: Address, offer: Offer, *, seconds: float, rate: float, connections: int, processes: int, path: str | None
) -> dict[str, Any]:
    """One loop against `address`: open when there is a `rate` (handshakes a second), else closed. Raises RuntimeError."""
    job = Job(address.ip, address.port, address.name, offer, "closed", seconds, connections, 0.0, path or "/")
    if rate:
        job = replace(job, mode="open", rate=rate / processes, connections=max(connections, 512))
    with ThreadPoolExecutor(processes) as pool:
        seen = list(pool.map(lambda each: drive(each, None), [job] * processes))
    return told(seen, offer, rate)


def told(seen: list[Seen], offer: Offer, rate: float) -> dict[str, Any]:
    """What the loops of all processes saw, as one row for JSON, with who was the limit in words ("" when nobody was)."""
    durations = sorted(each for one in seen for each in one.durations)
    late = Latency.of([each for one in seen for each in one.late])
    busy = max(one.busy for one in seen)
    found = Latency.of(durations)
    limit = ""
    if not rate and busy > _BUSY:
        limit = f"the client was the limit: it used {busy:.0%} of its core"
    elif rate and late is not None and (late.p99 or late.greatest) > _LATE:
        limit = f"the client was late itself: {(late.p99 or late.greatest) * 1e3:.1f} ms at its 99th percentile"
    return {
        "label": offer.label,
        "offer": offer.facts(),
        "mode": "open" if rate else "closed",
        "wanted_rate": rate or None,
        "rate": round(sum(one.count / one.seconds for one in seen), 1),
        "count": len(durations),
        "resumed": sum(one.resumed for one in seen),
        "failed": sum(one.failed for one in seen),
        "client_busy": round(busy, 3),
        "client_late_ms": None if late is None else round((late.p99 or late.greatest) * 1e3, 3),
        "client_limit": limit,
        "handshake_ms": None if found is None else found.milliseconds(),
        "curve": [[share, round(value * 1e3, 3)] for share, value in curve(durations)],
    }


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="bench handshake",
        description="Measure the TLS handshakes of any server: versions, resumption, groups, certificates, phases, bytes.",
        epilog="Rates are load. They are refused against an address that is not loopback unless you say --yes.",
    )
    made.add_argument("--target", required=True, metavar="HOST:PORT", help="the server; without a port 443")
    made.add_argument("--name", metavar="SNI", help="the name to ask for (the host of --target; none for an address)")
    made.add_argument("--count", type=int, default=20, help="handshakes per row, one after the other, at most 1000 (20)")
    made.add_argument("--versions", default=",".join(VERSIONS), help="TLS versions, separated by commas (%(default)s)")
    made.add_argument("--groups", default=",".join(GROUPS), help="groups, separated by commas (%(default)s)")
    made.add_argument("--path", default="/", help="what to ask for after the handshake (/)")
    made.add_argument("--no-request", action="store_true", help="ask for nothing: for servers that do not speak HTTP")
    made.add_argument("--staple", action="store_true", help="ask for an OCSP response as well")
    made.add_argument("--client-cert", default="", metavar="PEM", help="the client's certificate chain")
    made.add_argument("--client-key", default="", metavar="PEM", help="its private key")
    made.add_argument("--seconds", type=float, default=0.0, help="also measure rates, this long per loop (0: no rates)")
    made.add_argument("--rate", type=float, default=0.0, metavar="N", help="an open loop of N handshakes a second too")
    made.add_argument("--connections", type=int, default=16, metavar="N", help="handshakes in flight in the closed loop (16)")
    made.add_argument("--processes", type=int, default=1, metavar="N", help="processes of the load side, at most 16 (1)")
    made.add_argument("--yes", action="store_true", help="put load on a server that is not on loopback")
    made.add_argument(
        "--output", metavar="FILE", help="the JSON; the page is written beside it (default: bench-results/handshake-DATE.json)"
    )
    return made


def _check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what makes no sense."""
    for name, low, high in (
        ("count", 1, 1000),
        ("seconds", 0, 600),
        ("rate", 0, 100_000),
        ("connections", 1, 4096),
        ("processes", 1, 16),
    ):
        if not low <= getattr(arguments, name) <= high:
            raise ValueError(f"--{name} is between {low} and {high}")
    if arguments.rate and not arguments.seconds:
        raise ValueError("--rate needs --seconds: how long?")
    if bool(arguments.client_cert) != bool(arguments.client_key):
        raise ValueError("--client-cert and --client-key belong together")


def measure_target(arguments: argparse.Namespace, progress: Callable[[str], None]) -> dict[str, Any]:
    """Everything that was asked for, as a report. Raises ValueError for wrong usage, OSError or RuntimeError for failures."""
    _check(arguments)
    try:
        address = parse_target(arguments.target, arguments.name)
    except OSError as error:
        raise ValueError(f"{arguments.target}: {error}") from error
    if arguments.seconds and not address.loopback and not arguments.yes:
        raise ValueError(f"{address.ip} is not loopback: --seconds and --rate put load on it; say --yes if it is yours")
    began = datetime.datetime.now().astimezone()
    path = None if arguments.no_request else arguments.path
    versions, groups = arguments.versions.split(","), arguments.groups.split(",")
    offers = matrix(
        groups, versions, staple=arguments.staple, chain=arguments.client_cert, key=arguments.client_key, early=path is not None
    )
    if not offers:
        raise ValueError("no version has one of these groups")
    rows = look(address, offers, count=arguments.count, path=path, progress=progress)
    loops = []
    if arguments.seconds:
        able = [Offer(**row["offer"]) for row in rows if "refused" not in row and not row["offer"]["certificate"]]
        for offer in able:
            for rate in [0.0, arguments.rate] if arguments.rate else [0.0]:
                progress(f"{offer.label}: {f'{rate:g} a second' if rate else 'as many as can be'}")
                loops.append(
                    rates(
                        address,
                        offer,
                        seconds=arguments.seconds,
                        rate=rate,
                        connections=arguments.connections,
                        processes=arguments.processes,
                        path=path,
                    )
                )
    facts: dict[str, Any] = {
        "version": 1,
        "kind": "handshake",
        "when": began.isoformat(timespec="seconds"),
        "machine": describe(None),
        "target": {
            "given": arguments.target,
            "ip": address.ip,
            "port": address.port,
            "name": address.name,
            "loopback": address.loopback,
        },
        "handshakes": rows,
        "loops": loops,
    }
    return facts | {"conclusions": of_handshakes(facts)}


def main(words: list[str], console: Console) -> int:
    """``bench handshake`` with `words` behind it. Returns 0, or 1 when no handshake came about. Raises as `measure_target`."""
    arguments = _parser().parse_args(words)
    with console.status("starting") as status:
        facts = measure_target(arguments, status.update)
    facts["command"] = ["bench", "handshake", *words]
    path = Path(arguments.output or f"bench-results/handshake-{facts['when'][:19].replace(':', '')}.json")
    write(path, facts)
    show_handshakes(facts, console)
    console.print(f"The page: {path.with_suffix('.html')}  The figures: {path}", highlight=False, soft_wrap=True)
    return 0 if any("refused" not in row for row in facts["handshakes"]) else 1
