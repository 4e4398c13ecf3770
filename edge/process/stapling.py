"""The supervisor's duty to staples: has them before the first worker, takes new ones from the controller, hands them out, and
says where one is missing.

The controller fetches; the supervisor verifies what it is given once more (`edge.process.shelf`), keeps it for workers that are
forked later and for the program that takes over, and gives it to the workers that run. So no death loses a staple, and a
controller that does not live only means that answers grow old.

Before a reload takes effect, new certificates get theirs (`ahead`): the controller is asked about them while the old settings
serve. For a moment only, unless a Must-Staple certificate would be refused for the lack of it: then the reload is.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from edge.process import parcel
from edge.process.loop import Timer
from edge.process.shelf import Shelf
from edge.process.staple_files import StapleFiles
from edge.process.transaction import Refusal
from edge.settings.model import Certificate, Settings
from edge.settings.ocsp import Stapled, stapled
from edge.settings.transfer import encode
from edge.tls import staples
from edge.tls.ocsp import OcspError, Question

if TYPE_CHECKING:
    from edge.process.privileges import Identity
    from edge.process.supervisor import Supervisor

__all__ = ["Stapling", "begin"]

_SECTION = "staples"  # of what a program leaves to the one that takes over
_LOOK = 1.0  # seconds between looks at the clock
_GATHER = 0.02  # seconds in which answers that come together are handed out together
_AHEAD = 3.0  # seconds that a reload waits for staples that nobody insists on
_MOST_NAMES = 10  # in an event
_MOST_TOLD = 20  # sentences in the status
_MOST_BYTES = 1 << 20  # of what the controller says at a time
_MOST_DETAIL = 500  # characters
_RESULTS = frozenset(
    {
        "good", "bad-signature", "expired", "garbage", "http-status", "not-yet-valid", "refused", "revoked", "timeout",
        "too-large", "unknown", "unreachable", "weak-signature", "wrong-certificate", "wrong-signer",
    }
)  # fmt: skip


def begin(settings: Settings, sections: Mapping[str, bytes], identity: Identity | None) -> Shelf:
    """The staples that there are: this process has them from now on, and so have the workers that it forks.

    `sections`: what the program before us left.
    """
    now = time.time()
    shelf = Shelf(StapleFiles(settings.server.state_dir if settings.ocsp.stapling else "", identity))
    shelf.look_at(settings, now=now)
    if _SECTION in sections:
        shelf.adopt(sections[_SECTION], now)
    staples.PROCESS.replace(shelf.staples(now))
    return shelf


class Stapling:
    """From the start of the supervisor to its end."""

    def __init__(self, supervisor: Supervisor, shelf: Shelf) -> None:
        self._supervisor = supervisor
        self._shelf = shelf
        self._current = stapled(supervisor.settings)  # the certificates in force; the shelf may have more
        self._troubles: dict[str, tuple[str, str]] = {}  # result and sentence of the last attempt that failed, by certID
        self._revoked: dict[str, float] = {}  # when that was heard, by certID
        self._tried: dict[str, float] = {}  # when the last attempt was, by certID
        self._told: set[str] = set()  # fingerprints of which it was said that nobody can be asked
        self._gathering = Timer(0.0, None)
        self._good: set[str] = set(staples.PROCESS.names())
        self._waiting: _Waiting | None = None
        self._gauges: dict[str, Any] = {}
        supervisor.on_committed.append(self._committed)
        supervisor.more_unready.append(self._unready)
        supervisor.more_degraded.append(self._degraded)
        supervisor.staple_of = self.describe
        supervisor.before_commit = self.ahead
        supervisor.sections[_SECTION] = shelf.pack
        supervisor.steward.on_staples = self._on_report
        supervisor.loop.every(_LOOK, self._look)
        self._controller_work()
        self._say_what_cannot_be()
        if shelf.files.problem and shelf.questions:
            supervisor.log.event("staples-not-kept", level="warning", detail=shelf.files.problem)

    # what comes

    def _on_report(self, descriptor: int) -> None:
        """The controller has tried."""
        if os.fstat(descriptor).st_size > _MOST_BYTES:
            os.close(descriptor)
            return
        told = orjson.loads(parcel.unpack(descriptor))
        key, result, detail = str(told["key"]), str(told["result"]), str(told["detail"])[:_MOST_DETAIL]
        now = time.time()
        if not self._shelf.knows(key):
            return
        if result == "good":
            try:
                self._shelf.put(key, base64.b64decode(told["response"]), now)
            except OcspError as error:
                result, detail = error.kind, str(error)
        self._tried[key] = now
        self._supervisor.counted.counter("edge_ocsp_fetches_total", result if result in _RESULTS else "other").add(1)
        if result == "revoked":
            self._revoked[key] = now
        if result == "good":
            if self._shelf.answers[key].this_update > self._revoked.get(key, 0.0):  # said later, and not merely heard later
                self._troubles.pop(key, None)
            self._gathering.cancel()
            self._gathering = self._supervisor.loop.later(0.0 if self._waiting else _GATHER, self._hand_out)
            self._controller_work()
        else:
            self._troubles[key] = result, detail
            self._supervisor.changed()
        if self._waiting is not None:
            self._waiting.missing.discard(key)
            if not self._waiting.missing:
                self._go_on()

    def _hand_out(self) -> None:
        """Give the workers what there is."""
        supervisor, now = self._supervisor, time.time()
        found = self._shelf.staples(now)
        staples.PROCESS.replace(found)
        descriptor = parcel.pack(staples.pack(found))
        try:
            for worker in [*supervisor.workers, *supervisor.workforce.leaving]:
                supervisor.children.send(worker, {"do": "staples"}, [descriptor])
        finally:
            os.close(descriptor)
        self._good = set(found)
        self._measure(now)
        supervisor.changed()

    def _controller_work(self) -> None:
        """A controller that is forked later begins with what there is."""
        work = self._supervisor.controller_work
        work.staple_files = self._shelf.files
        work.staples = {key: answer.response for key, answer in self._shelf.answers.items()}

    # time, and other settings

    def _look(self) -> None:
        good = {name for name in self._good if self._shelf.find(name, time.time()) is not None}
        if good != self._good:
            self._good = good
            self._measure(time.time())
            self._supervisor.changed()

    def _committed(self) -> None:
        """Other settings are in force."""
        self._current = stapled(self._supervisor.settings)
        self._shelf.look_at(self._supervisor.settings, now=time.time())
        known = {one.key for one in self._shelf.questions.values() if isinstance(one, Question)}
        self._troubles = {key: trouble for key, trouble in self._troubles.items() if key in known}
        self._revoked = {key: moment for key, moment in self._revoked.items() if key in known}
        self._tried = {key: moment for key, moment in self._tried.items() if key in known}
        self._controller_work()
        self._say_what_cannot_be()
        if self._shelf.questions or self._good:
            self._hand_out()

    def _say_what_cannot_be(self) -> None:
        """Once of each certificate that nobody can be asked about."""
        log, names = self._supervisor.log, []
        for fingerprint, one in self._current.items():
            asked = self._shelf.questions.get(fingerprint)
            if fingerprint in self._told or isinstance(asked, Question):
                continue
            if self._state(fingerprint, one)[0] == "not-applicable":
                names.append(one.certificate.name)
            elif isinstance(asked, OcspError):
                more = {"certificate": one.certificate.name, "hosts": one.hosts[:3], "detail": str(asked)}
                log.event("ocsp-failed", level="warning", reason=asked.kind, **more)
        self._told = {name for name in self._current if not isinstance(self._shelf.questions.get(name), Question)}
        if names:
            log.event("ocsp-not-applicable", certificates=list(dict.fromkeys(names))[:_MOST_NAMES], count=len(names))

    def _measure(self, now: float) -> None:
        """When each staple ends."""
        counted, seen = self._supervisor.counted, set()
        for fingerprint, one in self._current.items():
            answer = self._shelf.find(fingerprint, now)
            if answer is not None:
                seen.add(fingerprint)
                if fingerprint not in self._gauges:
                    labels = one.certificate.name, one.certificate.key_type, fingerprint
                    self._gauges[fingerprint] = counted.gauge("edge_staple_expiry_seconds", *labels)
                self._gauges[fingerprint].set(answer.until)
        for fingerprint in self._gauges.keys() - seen:
            self._gauges.pop(fingerprint).clear()

    # what is told

    def describe(self, fingerprint: str) -> dict[str, Any]:
        """For `edge certs`. `state`: ``good``, ``none`` (not yet), ``error``, ``revoked``, ``not-applicable``, ``off``."""
        one = self._current.get(fingerprint)
        if one is None:
            return {"state": "off"}
        state, detail = self._state(fingerprint, one)
        asked = self._shelf.questions.get(fingerprint)
        answer = self._shelf.find(fingerprint, time.time())
        return {
            "state": state,
            "detail": detail,
            "until": answer.until if answer is not None else None,
            "tried": self._tried.get(asked.key) if isinstance(asked, Question) else None,
            "must_staple": bool(one.certificate.staple),
        }

    def _state(self, fingerprint: str, one: Stapled) -> tuple[str, str]:
        """A word and a sentence."""
        asked = self._shelf.questions.get(fingerprint)
        if asked is None:
            return "not-applicable", "it names no responder"
        if isinstance(asked, OcspError):
            return ("not-applicable" if asked.kind == "self-signed" else "error"), str(asked)
        result, sentence = self._troubles.get(asked.key, ("", ""))
        if result == "revoked":
            return "revoked", sentence
        if self._shelf.find(fingerprint, time.time()) is not None:
            return "good", sentence
        return ("error", sentence) if result else ("none", "it is being fetched")

    def _lacking(self) -> list[tuple[Certificate, str, str]]:
        """The certificates that ought to have a staple and have none, or are revoked: with their state and a sentence."""
        found = []
        for fingerprint, one in self._current.items():
            state, detail = self._state(fingerprint, one)
            must = bool(one.certificate.staple)
            if state in ("error", "revoked") or (must and state in ("none", "not-applicable")):
                found.append((one.certificate, state, detail))
        return found

    def _unready(self) -> list[str]:
        missing = [
            one.certificate.name
            for fingerprint, one in self._current.items()
            if one.certificate.staple == "refuse" and self._shelf.find(fingerprint, time.time()) is None
        ]
        return [f"certificate {name} must have a staple and has none" for name in missing[:_MOST_TOLD]]

    def _degraded(self) -> list[str]:
        told = []
        for certificate, state, detail in self._lacking():
            what = "is revoked" if state == "revoked" else "has no staple"
            told.append(f"certificate {certificate.name} {what}: {detail}")
        if self._shelf.files.problem and self._shelf.questions:
            told.append(f"staples are not kept over a restart: {self._shelf.files.problem}")
        return told if len(told) <= _MOST_TOLD else [*told[:_MOST_TOLD], f"{len(told) - _MOST_TOLD} more staples are missing"]

    # before a reload

    def ahead(self, settings: Settings, done: Callable[[Refusal | None], None]) -> None:
        """Get the staples of certificates that come with `settings`, if that is quick; then `done`, once."""
        supervisor, now = self._supervisor, time.time()
        new = {name: one for name, one in stapled(settings).items() if one.responders and name not in self._current}
        if not new:
            done(None)
            return
        self._shelf.look_at(supervisor.settings, settings, now=now)
        missing = {
            asked.key
            for name in new
            if isinstance(asked := self._shelf.questions[name], Question) and self._shelf.find(name, now) is None
        }
        must = any(one.certificate.staple == "refuse" for one in new.values())
        self._waiting = _Waiting(missing, new, done)
        if not missing or not supervisor.controller.ready:
            self._go_on()
            return
        seconds = max(_AHEAD, settings.ocsp.timeout + 1.0) if must else _AHEAD
        self._waiting.timer = supervisor.loop.later(seconds, self._go_on)
        descriptor = parcel.pack(encode(settings, keys=False))
        try:
            supervisor.children.send(supervisor.controller, {"do": "staples"}, [descriptor])
        finally:
            os.close(descriptor)

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        waiting.timer.cancel()
        now = time.time()
        self._gathering.cancel()
        self._hand_out()
        for name, one in waiting.new.items():
            if one.certificate.staple == "refuse" and self._shelf.find(name, now) is None:
                detail = self._state(name, one)[1]
                self._shelf.look_at(self._supervisor.settings, now=now)
                waiting.done(Refusal("staple-missing", f"certificate {one.certificate.name} must have a staple: {detail}"))
                return
        waiting.done(None)


class _Waiting:
    """A reload that waits for staples."""

    __slots__ = ("done", "missing", "new", "timer")

    def __init__(self, missing: set[str], new: dict[str, Stapled], done: Callable[[Refusal | None], None]) -> None:
        self.missing = missing  # certIDs
        self.new = new
        self.done = done
        self.timer = Timer(0.0, None)
