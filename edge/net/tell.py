"""What a worker tells about itself when it is asked over the control socket: its failed handshakes and its upstreams.

`Failures` remembers the last `MOST` kinds of failure, each with a count and the moments of its first and last time: a client that
fails a thousand times is one entry. What a stranger chooses (names, reasons) is made printable and cut, and so many strangers
push out the oldest entries and nothing else. `tell` makes the answer of one worker, `gather` one answer of all of theirs.

An answer stays below what one message between processes may hold: what is too much is left out, the least interesting first,
and `left_out` says how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge.observe.access import HandshakeFailure, readable

if TYPE_CHECKING:
    from edge.net.endpoint import Place
    from edge.net.server import Server

__all__ = ["MOST", "Failures", "gather", "tell"]

MOST = 256  # entries
_MOST_NAME = 253  # characters, as DNS has it
_MOST_DETAIL = 160
_MOST_BYTES = 48 * 1024  # of one worker's answer; a message may have 60 KiB
_FRAME = 224  # bytes of an entry's keys and numbers, at most

Told = dict[str, Any]


class Failures:
    """The failed handshakes of one worker, by kind, name, client and listener."""

    __slots__ = ("_entries", "total")

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str | None, str, str], Told] = {}  # the one that happened last stands last
        self.total = 0

    def add(self, record: HandshakeFailure) -> None:
        """Remember one failure."""
        self.total += 1
        sni = None if record.sni is None else readable(record.sni)[:_MOST_NAME]
        key = (record.kind, sni, record.peer, record.listener)
        entry = self._entries.pop(key, None)
        if entry is None:
            entry = {
                "kind": record.kind,
                "blame": record.blame,
                "stage": record.stage,
                "sni": sni,
                "peer": record.peer,
                "listener": record.listener,
                "count": 0,
                "first": record.time,
            }
            if len(self._entries) >= MOST:
                del self._entries[next(iter(self._entries))]
        entry["count"] += 1
        entry["last"] = record.time
        entry["detail"] = readable(record.detail)[:_MOST_DETAIL]
        self._entries[key] = entry

    def told(self) -> Told:
        """The entries, the one that happened last first."""
        return {"total": self.total, **_bounded("failures", [dict(entry) for entry in reversed(self._entries.values())])}


def tell(server: Server, what: str) -> Told:
    """The answer of one worker; `what` is ``failures`` or ``upstreams``. Raises KeyError for anything else."""
    if what == "failures":
        return server.journal.failures.told()
    if what == "upstreams":
        now = server.hub.now
        endpoints = [_endpoint(place, now) for place in server.places()]
        endpoints.sort(key=lambda one: (one["healthy"] and not one["ejected_for"], not one["failures"]))
        return _bounded("endpoints", endpoints)
    raise KeyError(what)


def gather(what: str, answers: Sequence[Told]) -> Told:
    """One answer from those of all workers."""
    if what == "failures":
        return {
            "total": sum(answer["total"] for answer in answers),
            "failures": _together_failures(answers)[:MOST],
            "left_out": sum(answer["left_out"] for answer in answers),
        }
    if what == "upstreams":
        return {"endpoints": _together_endpoints(answers), "left_out": max((answer["left_out"] for answer in answers), default=0)}
    raise KeyError(what)


def _together_failures(answers: Sequence[Told]) -> list[Told]:
    found: dict[tuple[Any, ...], Told] = {}
    for answer in answers:
        for entry in answer["failures"]:
            key = (entry["kind"], entry["sni"], entry["peer"], entry["listener"])
            known = found.get(key)
            if known is None:
                found[key] = dict(entry)
                continue
            known["count"] += entry["count"]
            known["first"] = min(known["first"], entry["first"])
            if entry["last"] > known["last"]:
                known["last"], known["detail"] = entry["last"], entry["detail"]
    return sorted(found.values(), key=lambda entry: -entry["last"])


def _together_endpoints(answers: Sequence[Told]) -> list[Told]:
    """Sums over the workers; `unwell_in` counts those that do not use the endpoint, `workers` all that know it."""
    found: dict[tuple[str, str], Told] = {}
    for answer in answers:
        for one in answer["endpoints"]:
            key = (one["upstream"], one["endpoint"])
            known = found.get(key)
            unwell = int(not one["healthy"] or bool(one["ejected_for"]))
            if known is None:
                found[key] = {**one, "workers": 1, "unwell_in": unwell}
                continue
            for name in ("active", "connections", "idle", "waiting"):
                known[name] += one[name]
            for name in ("failures", "ejected_for"):
                known[name] = max(known[name], one[name])
            known["healthy"] = known["healthy"] and one["healthy"]
            known["trouble"] = known["trouble"] or one["trouble"]
            known["workers"] += 1
            known["unwell_in"] += unwell
    return sorted(found.values(), key=lambda one: (one["upstream"], one["endpoint"]))


def _endpoint(place: Place, now: float) -> Told:
    state = place.state
    total = place.pool.total(state.key)
    return {
        "upstream": place.upstream.name,
        "endpoint": state.endpoint.url,
        "weight": state.weight,
        "checked": place.upstream.health is not None,
        "healthy": state.healthy,
        "ejected_for": round(max(0.0, state.ejected_until - now), 1),  # seconds
        "failures": state.failures,  # to connect, in a row
        "trouble": readable(place.trouble)[:_MOST_DETAIL] if state.failures or not state.healthy else "",
        "active": state.active,  # requests
        "connections": total,
        "idle": total - place.pool.active(state.key),
        "waiting": place.waiting,
    }


def _bounded(name: str, entries: list[Told]) -> Told:
    size, kept = 0, 0
    for entry in entries:
        size += _FRAME + sum(_encoded(value) for value in entry.values() if isinstance(value, str))
        if size > _MOST_BYTES:
            break
        kept += 1
    return {name: entries[:kept], "left_out": len(entries) - kept}


def _encoded(text: str) -> int:
    """Bytes in JSON, for printable text: quotes and backslashes take two."""
    return len(text.encode("utf-8", "backslashreplace")) + text.count('"') + text.count("\\")
