"""What the admin listener answers, path by path.

``/healthz`` says that this process lives and that the supervisor answers it; ``/readyz`` whether clients may be sent here. Both
give the generation and the digest of the settings, so that a fleet can be compared. The API gives what the control socket gives,
word for word; its errors become HTTP statuses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from edge.control.access import Refused
from edge.control.exposition import exposition
from edge.control.plane import Message, NoAnswer, Plane

__all__ = ["PATHS", "Answer", "Endpoint", "refusal"]

_RELOAD_TIMEOUT = 60.0  # seconds: rehearsals are bounded by less
_STATUSES = {  # of the control socket's errors
    "invalid-request": 400,
    "weaker": 409,
    "busy": 409,
    "invalid-settings": 422,
    "rehearsal-failed": 422,
    "unknown-operation": 501,
}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class _Responder(Protocol):
    def __call__(self, plane: Plane, accept: str, body: bytes, *, fully: bool) -> Awaitable[Answer]: ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path. `what` is the word in ``[admin] open``; "reload" is in none."""

    what: str
    methods: tuple[str, ...]
    answer: _Responder


def _json(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2)
    return Answer(status, body, {"Content-Type": "application/json", **(headers or {})})


def refusal(refused: Refused, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer to a request that is not answered."""
    more = {"WWW-Authenticate": 'Bearer realm="edge"'} if refused.status == 401 else {}
    value = {"version": 1, "ok": False, "error": refused.error, "detail": refused.detail}
    return _json(refused.status, value, {**more, **(headers or {})})


def _no_answer(error: NoAnswer) -> Answer:
    return _json(503, {"version": 1, "ok": False, "error": "no-answer", "detail": str(error)})


async def _live(plane: Plane, accept: str, body: bytes, *, fully: bool) -> Answer:
    del accept, body, fully
    try:
        status = await plane.status()
    except NoAnswer as error:
        return _json(503, {"live": False, "reasons": [str(error)]})
    return _json(200, {"live": True, "state": status.get("state"), **_which(status)})


async def _ready(plane: Plane, accept: str, body: bytes, *, fully: bool) -> Answer:
    del accept, body, fully
    try:
        status = await plane.status()
    except NoAnswer as error:
        return _json(503, {"ready": False, "reasons": [str(error)]})
    ready = bool(status.get("ready"))
    told = {
        "ready": ready,
        "state": status.get("state"),
        "reasons": status.get("reasons", []),
        "degraded": status.get("degraded", []),
        **_which(status),
    }
    return _json(200 if ready else 503, told)


def _which(status: Message) -> dict[str, object]:
    return {"generation": status.get("generation"), "digest": status.get("digest")}


async def _status(plane: Plane, accept: str, body: bytes, *, fully: bool) -> Answer:
    del accept, body, fully
    try:
        return _json(200, await plane.status())
    except NoAnswer as error:
        return _no_answer(error)


async def _reload(plane: Plane, accept: str, body: bytes, *, fully: bool) -> Answer:
    del accept
    try:
        asked = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        return refusal(Refused(400, "not-json", "the body is not JSON"))
    weaker = asked.get("allow_weaker", False) if isinstance(asked, dict) else None
    if not isinstance(weaker, bool) or set(asked) - {"allow_weaker"}:
        return refusal(Refused(400, "invalid-request", 'the body is {"allow_weaker": true} or nothing'))
    if weaker and not fully:
        return refusal(Refused(403, "token-needed", "only who shows [admin] token may allow weaker security"))
    try:
        told = await plane.ask("reload", _RELOAD_TIMEOUT, allow_weaker=weaker, by="admin")
    except NoAnswer as error:
        return _no_answer(error)
    return _json(200 if told.get("ok") else _STATUSES.get(str(told.get("error")), 500), told)


async def _metrics(plane: Plane, accept: str, body: bytes, *, fully: bool) -> Answer:
    del body, fully
    try:
        await plane.status()  # so that what it says of workers and reloads is of now
    except NoAnswer:
        pass  # the counters are readable without the supervisor
    content_type, text = exposition(plane, accept)
    return Answer(200, text, {"Content-Type": content_type})


_READ = ("GET", "HEAD")
PATHS: dict[str, Endpoint] = {
    "/healthz": Endpoint("health", _READ, _live),
    "/readyz": Endpoint("health", _READ, _ready),
    "/metrics": Endpoint("metrics", _READ, _metrics),
    "/api/v1/status": Endpoint("status", _READ, _status),
    "/api/v1/reload": Endpoint("reload", ("POST",), _reload),
}
