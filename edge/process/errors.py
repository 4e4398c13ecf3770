"""Why a gateway did not start."""

from __future__ import annotations

__all__ = ["NOT_PERMITTED", "StartError"]

NOT_PERMITTED = 4  # exit status: a socket, a port or a key file


class StartError(Exception):
    """A sentence for the person who started it, and the program's exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
