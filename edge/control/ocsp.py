"""Fetching OCSP answers: one task for each certificate, so that no responder and no certificate holds up another one.

A task asks every responder that the certificate names (or the one of the settings) in turn, by GET where the question is short
enough to be cached on the way (RFC 5019 section 5) and by POST otherwise or when that did not help, until an answer is good
(`edge.tls.ocsp`). A good one is told at once and asked for again at half of its window; the moment varies, so that a thousand
gateways do not ask together. Without a good answer the task tries again, waiting twice as long each time, up to ten minutes; what
was good before stays in use until it is over, and that is nobody's decision here.

``revoked`` ends the round, for a verified answer says so: no other responder is asked in the hope of a better one.

What comes from the network is bounded: in time, in bytes, in questions to one server at a time. Redirects are not followed, for a
responder has no reason to send us elsewhere. Nothing but http and https is spoken, with no cookies and no compression.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from edge.control.plane import Plane
from edge.settings.model import Ocsp, Settings
from edge.settings.ocsp import Stapled, stapled
from edge.tls.ocsp import LARGEST, Answer, OcspError, Question, question, verify

__all__ = ["Fetcher", "Report", "refresh_in"]

_LONGEST_GET = 255  # bytes of the URL (RFC 5019 section 5)
_AT_A_TIME = 4  # questions to one server
_PAUSES = (1.0, 600.0)  # seconds before the second attempt, and at most
_LONGEST_SLEEP = 60.0  # seconds
_STAGED = 120.0  # seconds for which certificates are remembered that are about to come
_TYPE = {"Content-Type": "application/ocsp-request"}
_HEADERS = {"Accept": "application/ocsp-response", "Accept-Encoding": "identity", "User-Agent": "edge"}


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one attempt. `result`: ``good``, a kind of `OcspError`, or how the responders failed."""

    key: str
    result: str
    detail: str
    at: float  # POSIX seconds
    again: float  # seconds until the next attempt
    response: bytes = b""


def refresh_in(answer: Answer, now: float, chance: float, *, just_fetched: bool = True) -> float:
    """Seconds until a good answer is asked for again: half of its window, give or take a twentieth of it by `chance` (0 to 1)."""
    window = answer.until - answer.this_update
    wait = answer.this_update + window * (0.45 + 0.1 * chance) - now
    least = max(1.0, min(3600.0, (answer.until - now) / 2)) if just_fetched else 2.0 * chance
    return max(wait, least)


async def _sleep(seconds: float) -> None:
    """By the clock on the wall, by which answers end: a machine that was suspended does not sleep on."""
    until = time.time() + seconds
    while True:
        left = until - time.time()
        if left <= 0.0:
            return
        await asyncio.sleep(min(left, _LONGEST_SLEEP))


def _pause(failures: int, chance: float) -> float:
    first, most = _PAUSES
    return min(most, first * 2.0 ** min(failures - 1, 20)) * (0.75 + 0.5 * chance)


@dataclass(frozen=True, slots=True)
class _Job:
    """Everything that decides how a certificate is asked about."""

    key: str
    responders: tuple[str, ...]
    how: Ocsp


class Fetcher:
    """All methods are called on the plane's loop."""

    def __init__(
        self,
        plane: Plane,
        known: Mapping[str, bytes],
        tell: Callable[[Report], None],
        keep: Callable[[str, bytes], Awaitable[None]],
    ) -> None:
        """`known`: answers that there are, by certID. `tell` and `keep` get each new one: to be used, and to be kept on disk."""
        self._plane = plane
        self._known = dict(known)
        self._tell = tell
        self._keep = keep
        self._tasks: dict[_Job, asyncio.Task[None]] = {}
        self._questions: dict[str, Question | None] = {}  # by fingerprint
        self._staged: tuple[Settings, float] | None = None
        self._servers: dict[str, asyncio.Semaphore] = {}
        self._session: aiohttp.ClientSession | None = None
        plane.on_settings(self.look)

    def stage(self, settings: Settings) -> None:
        """Ask also about the certificates of settings that are about to come in force."""
        self._staged = settings, time.monotonic() + _STAGED
        self.look()

    def look(self) -> None:
        """See to it that every certificate is asked about, and no other."""
        jobs = self._jobs(self._plane.settings)
        if self._staged is not None and time.monotonic() < self._staged[1]:
            known = {job.key for job in jobs}
            jobs |= {job: one for job, one in self._jobs(self._staged[0]).items() if job.key not in known}
        for job in self._tasks.keys() - jobs.keys():
            self._tasks.pop(job).cancel()
        for job, one in jobs.items():
            if job not in self._tasks:
                self._tasks[job] = asyncio.create_task(self._look_after(job, one[0], one[1]))

    def _jobs(self, settings: Settings) -> dict[_Job, tuple[Stapled, Question]]:
        found = {}
        for fingerprint, one in stapled(settings).items():
            if not one.responders:
                continue
            if fingerprint not in self._questions:
                try:
                    self._questions[fingerprint] = question(one.certificate.chain_pem)
                except OcspError:  # the supervisor tells it
                    self._questions[fingerprint] = None
            asked = self._questions[fingerprint]
            if asked is not None:
                found[_Job(asked.key, one.responders, settings.ocsp)] = one, asked
        return found

    async def close(self) -> None:
        """Ask no more."""
        tasks = [*self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    # one certificate

    async def _look_after(self, job: _Job, one: Stapled, asked: Question) -> None:
        with contextlib.suppress(KeyError, OcspError):
            answer = verify(asked, self._known[job.key], time.time())
            await _sleep(refresh_in(answer, time.time(), random.random(), just_fetched=False))
        failures = 0
        while True:
            try:
                answer = await self._fetch(job, asked)
            except OcspError as error:
                failures += 1
                wait = _pause(failures, random.random())
                self._failed(one, error, wait)
                self._tell(Report(job.key, error.kind, str(error), time.time(), wait))
            else:
                failures = 0
                wait = refresh_in(answer, time.time(), random.random())
                self._known[job.key] = answer.response
                self._tell(Report(job.key, "good", "", time.time(), wait, answer.response))
                name, hosts = one.certificate.name, one.hosts[:3]
                self._plane.log.event(
                    "ocsp-fetched", level="debug", certificate=name, hosts=hosts, until=answer.until, again_in=round(wait, 1)
                )
                await self._keep(job.key, answer.response)
            self._plane.log.flush()
            await _sleep(wait)

    def _failed(self, one: Stapled, error: OcspError, wait: float) -> None:
        more = {"certificate": one.certificate.name, "hosts": one.hosts[:3], "detail": str(error), "again_in": round(wait, 1)}
        if error.kind == "revoked":
            self._plane.log.event("ocsp-revoked", level="error", **more)
        else:
            self._plane.log.event("ocsp-failed", level="warning", reason=error.kind, **more)

    async def _fetch(self, job: _Job, asked: Question) -> Answer:
        """A good answer from the first responder that has one. Raises OcspError."""
        last = OcspError("unreachable", "there is no responder")
        for url in job.responders:
            for way in _ways(url, asked.request):
                try:
                    return verify(asked, await self._ask(job.how, *way), time.time())
                except OcspError as error:
                    last = OcspError(error.kind, f"{url}: {error}")
                if last.kind == "revoked":
                    raise last
        raise last

    async def _ask(self, how: Ocsp, url: str, body: bytes | None) -> bytes:
        """One request. Raises OcspError."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), headers=_HEADERS, trust_env=False
            )
        server = self._servers.setdefault(urlsplit(url).netloc, asyncio.Semaphore(_AT_A_TIME))
        async with server:
            try:
                async with self._session.request(
                    "GET" if body is None else "POST",
                    URL(url, encoded=True),
                    data=body,
                    headers=_TYPE if body is not None else None,
                    allow_redirects=False,
                    proxy=how.proxy or None,
                    timeout=aiohttp.ClientTimeout(total=how.timeout),
                ) as response:
                    if response.status != 200:
                        raise OcspError("http-status", f"HTTP {response.status}")
                    return await _bounded(response.content)
            except TimeoutError as error:
                raise OcspError("timeout", f"no answer within {how.timeout:g} s") from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if isinstance(error, OcspError):
                    raise
                raise OcspError("unreachable", _plainly(error)) from error


def _plainly(error: Exception) -> str:
    """Without what a library says around the system's word for it."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
    return str(error) or type(error).__name__


def _ways(url: str, request: bytes) -> list[tuple[str, bytes | None]]:
    """How one responder is asked: URL and body, in this order."""
    short = f"{url.rstrip('/')}/{quote(base64.b64encode(request), safe='')}"
    get: list[tuple[str, bytes | None]] = [(short, None)] if len(short) <= _LONGEST_GET and not urlsplit(url).query else []
    return [*get, (url, request)]


async def _bounded(stream: aiohttp.StreamReader) -> bytes:
    data = bytearray()
    while chunk := await stream.read(LARGEST + 1 - len(data)):
        data += chunk
        if len(data) > LARGEST:
            raise OcspError("too-large", f"the answer is larger than {LARGEST} bytes")
    return bytes(data)
