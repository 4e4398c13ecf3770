"""What the demo upstream answers. Imported only in the process that serves: aiohttp is a quarter of a second of import.

Whatever a request may ask for has a bound: sizes, pauses, counts, the length of a WebSocket message; bodies are hashed and
echoed as they come, never kept.

``/`` a page that uses the rest; ``/inspect`` what was received, as JSON; ``/bytes/N``; ``/delay/SECONDS``; ``/status/CODE``;
``/events?count=N&interval=MS``; ``/ws`` echoes messages; ``/echo`` echoes the body.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from importlib.resources import files

import orjson
from aiohttp import WSMsgType, hdrs, web
from aiohttp.typedefs import Handler

__all__ = ["application", "serve"]

MAX_BYTES = 16 * 1024**3
MAX_DELAY = 60.0  # seconds
MAX_EVENTS = 10_000
MAX_MESSAGE = 1024 * 1024  # bytes of one WebSocket message
_CHUNK = bytes(range(256)) * 256
_SHUTDOWN = 1.0  # seconds for open requests when it ends
_PAGES = {"/": ("index.html", "text/html"), "/demo.css": ("demo.css", "text/css"), "/demo.js": ("demo.js", "text/javascript")}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


async def serve(sock: socket.socket, lifeline: int) -> None:
    """Serve on a listening socket until the descriptor `lifeline` becomes readable (data or end of file)."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(lifeline, ended.set)
    runner = web.AppRunner(application(), handle_signals=False, access_log=None, shutdown_timeout=_SHUTDOWN)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    await ended.wait()
    loop.remove_reader(lifeline)
    await runner.cleanup()


def application() -> web.Application:
    """The service's routes."""
    app = web.Application(middlewares=[_until_gone])
    for path in _PAGES:
        app.router.add_get(path, _page)
    app.router.add_route("*", "/inspect", _inspect)
    app.router.add_get(r"/bytes/{size:\d{1,12}}", _bytes)
    app.router.add_get(r"/delay/{seconds:\d{1,3}(?:\.\d{1,6})?}", _delay)
    app.router.add_route("*", r"/status/{code:[2-5]\d\d}", _status)
    app.router.add_get("/events", _events)
    app.router.add_get("/ws", _websocket)
    app.router.add_route("*", "/echo", _echo)
    app.on_response_prepare.append(_name_server)
    return app


@web.middleware
async def _until_gone(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whoever asked may go away in the middle of an answer: that is no error."""
    try:
        return await handler(request)
    except ConnectionResetError:
        return web.Response()  # it is written to nobody


async def _name_server(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = "edge-demo"


async def _page(request: web.Request) -> web.Response:
    name, kind = _PAGES[request.path]
    text = files("edge.control").joinpath("pages", name).read_text("utf-8")
    return web.Response(text=text, content_type=kind, charset="utf-8", headers=_PAGE_HEADERS)


async def _inspect(request: web.Request) -> web.Response:
    digest = hashlib.sha256()
    size = 0
    async for chunk in request.content.iter_any():
        digest.update(chunk)
        size += len(chunk)
        _bound(size)
    seen = {
        "method": request.method,
        "target": request.raw_path,
        "version": f"HTTP/{request.version.major}.{request.version.minor}",
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers],
        "body": {"bytes": size, "sha256": digest.hexdigest()},
    }
    body = orjson.dumps(seen, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _bound(size: int) -> None:
    if size > MAX_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BYTES, size)


async def _bytes(request: web.Request) -> web.StreamResponse:
    left = int(request.match_info["size"])
    if left > MAX_BYTES:
        raise web.HTTPBadRequest(text=f"at most {MAX_BYTES} bytes\n")
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = left
    await response.prepare(request)
    while left > 0:
        chunk = _CHUNK if left >= len(_CHUNK) else _CHUNK[:left]
        await response.write(chunk)
        left -= len(chunk)
    await response.write_eof()
    return response


async def _delay(request: web.Request) -> web.Response:
    seconds = float(request.match_info["seconds"])
    if seconds > MAX_DELAY:
        raise web.HTTPBadRequest(text=f"at most {MAX_DELAY:.0f} seconds\n")
    await asyncio.sleep(seconds)
    return web.Response(text=f"waited {seconds:g} s\n")


async def _status(request: web.Request) -> web.Response:
    status = int(request.match_info["code"])
    if status in (204, 205, 304):
        return web.Response(status=status)
    return web.Response(status=status, text=f"{status}\n")


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal() or len(text) > 9 or int(text) > most:
        raise web.HTTPBadRequest(text=f"{name}: a number up to {most}\n")
    return int(text)


async def _events(request: web.Request) -> web.StreamResponse:
    count = _number(request, "count", 10, MAX_EVENTS)
    interval = _number(request, "interval", 1000, int(MAX_DELAY * 1000)) / 1000
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    for number in range(1, count + 1):
        await response.write(b"id: %d\nevent: tick\ndata: tick %d of %d\n\n" % (number, number, count))
        await asyncio.sleep(interval)
    await response.write(b"event: end\ndata: end\n\n")
    await response.write_eof()
    return response


async def _websocket(request: web.Request) -> web.StreamResponse:
    echo = web.WebSocketResponse(max_msg_size=MAX_MESSAGE)
    if not echo.can_prepare(request).ok:
        return web.Response(status=426, text="this path speaks WebSocket\n", headers={"Upgrade": "websocket"})
    await echo.prepare(request)
    async for message in echo:
        if message.type is WSMsgType.TEXT:
            await echo.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await echo.send_bytes(message.data)
    return echo


async def _echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": request.headers.get(hdrs.CONTENT_TYPE, "application/octet-stream")})
    if request.content_length is not None:
        response.content_length = request.content_length
    else:
        response.enable_chunked_encoding()
    await response.prepare(request)
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > MAX_BYTES:
            break
        await response.write(chunk)
    await response.write_eof()
    return response
