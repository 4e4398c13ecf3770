"""Telling of certificates that expire: an event at each step of each certificate, once as long as this process lives.

A renewed certificate is another one, so it begins anew. What has been told is forgotten with the certificate.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from edge.control.plane import Plane
from edge.observe.expiry import expiring, stale

__all__ = ["Expiry"]

_LOOK = 60.0  # seconds
_MOST_NAMES = 10  # in an event


class Expiry:
    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._told: dict[str, int] = {}  # the step, by fingerprint
        self._stale: set[tuple[str, str, bool]] = set()
        plane.on_settings(self.look)

    async def run(self) -> None:
        """Look now and then, for ever."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK)

    def look(self) -> None:
        """Tell what has not been told."""
        found = expiring(self._plane.settings, time.time())
        for one in found:
            if one.step > self._told.get(one.certificate.fingerprint, 0):
                self._plane.log.event(
                    "certificate-expires",
                    level=one.level,
                    certificate=one.certificate.name,
                    hosts=one.used_by[:_MOST_NAMES],
                    not_after=datetime.fromtimestamp(one.certificate.not_after, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                    detail=one.text,
                )
        self._told = {one.certificate.fingerprint: one.step for one in found}
        self._look_at_lists()
        self._plane.log.flush()

    def _look_at_lists(self) -> None:
        found = {(one.trust, one.crl.issuer, one.refuses): one for one in stale(self._plane.settings, time.time())}
        for key, one in found.items():
            if key not in self._stale:
                self._plane.log.event(
                    "revocation-list-stale", level=one.level, trust=one.trust, issuer=one.crl.name, detail=one.text
                )
        self._stale = set(found)
