"""An OCSP responder that says whatever a test wants: the truth, lies, nothing, or something else altogether."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from cryptography import x509
from cryptography.x509 import ocsp

from tests.authority import Authority

from .gateway import free_port

__all__ = ["Responder", "Speech", "truth"]

Speech = Callable[[x509.Certificate], bytes | tuple[int, dict[str, str], bytes] | None]
"""What is said about a certificate: a body, or status, fields and body; None: nothing, ever."""


class Responder:
    """Listens at `url` from the beginning. `speech` may be exchanged at any time; `asked` holds the methods of all requests."""

    def __init__(self, speech: Speech, port: int = 0) -> None:
        self.speech = speech
        self.asked: list[str] = []
        self.proxied: list[str] = []  # absolute targets, as a proxy sees them
        self.certificates: dict[int, x509.Certificate] = {}
        self._release = threading.Event()
        responder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(base64.b64decode(unquote(self.path.rpartition("/")[2])))

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, request: bytes) -> None:
                responder.asked.append(self.command)
                if self.path.startswith("http://"):
                    responder.proxied.append(self.path)
                about = responder.certificates[ocsp.load_der_ocsp_request(request).serial_number]
                said = responder.speech(about)
                if said is None:
                    responder._release.wait()
                    self.close_connection = True
                    return
                status, fields, body = said if isinstance(said, tuple) else (200, {}, said)
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.port = port or free_port()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ocsp"

    def knows(self, *certificates: x509.Certificate) -> None:
        self.certificates.update({one.serial_number: one for one in certificates})

    def close(self) -> None:
        """Nobody listens any more. Idempotent."""
        self._release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def truth(authority: Authority, **more: object) -> Speech:
    """What an honest responder says."""
    return lambda certificate: authority.answer(certificate, **more)  # type: ignore[arg-type]
