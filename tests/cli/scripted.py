"""A control socket that answers from a script, for tests of the commands that ask a gateway."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Reply = dict[str, Any] | bytes | Callable[[dict[str, Any]], dict[str, Any]]


class Scripted:
    """Answers each operation with what `replies` says; bytes are sent as they are. Ends with `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replies: dict[str, Reply] = {}
        self.requests: list[dict[str, Any]] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            with sock:
                line = sock.makefile("rb").readline()
                if not line:
                    continue
                request = json.loads(line)
                self.requests.append(request)
                reply = self.replies.get(request["op"], {"ok": False, "error": "unknown-operation", "detail": ""})
                if callable(reply):
                    reply = reply(request)
                sock.sendall(reply if isinstance(reply, bytes) else json.dumps({"version": 1, **reply}).encode() + b"\n")

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(60)
        self.path.unlink(missing_ok=True)
