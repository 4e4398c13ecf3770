"""The admin listener of a gateway under test, asked with curl."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .gateway import PATIENCE, Gateway

__all__ = ["Admin", "Answer"]


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Admin:
    """The admin listener of a gateway, asked with curl."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway = gateway
        self.port = port

    def ask(self, path: str, *args: str, seconds: float = PATIENCE) -> Answer:
        command = ["curl", "-q", "-sS", "-i", "--noproxy", "*", "--max-time", str(seconds), *args]
        done = subprocess.run([*command, f"http://127.0.0.1:{self.port}{path}"], capture_output=True, check=False)
        if done.returncode:
            raise ConnectionError(done.stderr.decode())
        *_, head, body = done.stdout.split(b"\r\n\r\n", done.stdout.count(b"HTTP/1.1 100") + 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        return Answer(int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, body)

    def ready(self) -> bool:
        with suppress(ConnectionError):
            return self.ask("/readyz").status == 200
        return False

    def controller(self) -> int:
        pid = self.ask("/api/v1/status").json()["controller"]["pid"]
        assert isinstance(pid, int)
        return pid
