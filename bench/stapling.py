"""Staples for the bench: a certificate with a signed OCSP response (RFC 6960) about it, and the responder that it names.

Each target takes the response as it can: nginx, HAProxy, hitch and Envoy from a file, `edge` and Caddy from the responder, plain
HTTP on loopback, which answers every question with the one response that there is. What a target does with it is its own affair:
nobody is measured before a client has been shown a staple.
"""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from .certificates import Stapled, issue_stapled
from .offer import Offer
from .probe import Prober, Refused

__all__ = ["Stapling", "wait_staple"]


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and POST alike (RFC 6960 appendix A.1)."""

    server: _Responder

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response")
        self.send_header("Content-Length", str(len(self.server.response)))
        self.end_headers()
        self.wfile.write(self.server.response)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Responder(ThreadingHTTPServer):
    daemon_threads = True
    response = b""


class Stapling:
    """A context manager: the certificate with its response (`given`), and the responder while the block lasts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._server = _Responder(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self.given: Stapled = issue_stapled(folder, self.url)
        self._server.response = self.given.response.read_bytes()
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Stapling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def wait_staple(port: int, seconds: float = 20.0) -> None:
    """Wait until a client that asks is shown a staple. Raises RuntimeError when none comes within `seconds`."""
    prober, end = Prober(("127.0.0.1", port), "localhost", Offer(staple=True), "/small"), time.monotonic() + seconds
    while True:
        try:
            if prober.take().stapled:
                return
        except Refused as error:
            raise RuntimeError(str(error)) from error
        if time.monotonic() > end:
            raise RuntimeError(f"no staple within {seconds:.0f} s")
        time.sleep(0.05)
