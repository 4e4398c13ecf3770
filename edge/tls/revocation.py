"""Whether a certificate was revoked, as the lists of a trust store know it.

Each issuer is asked about by itself: one that has no list revokes nothing, so a list for one authority never locks out the
clients of another. One whose list should have been replaced more than `crl_grace` ago is no longer believed when it says that all
is well: its certificates are refused (fail closed). What it lists as revoked stays revoked.
"""

from __future__ import annotations

from bisect import bisect_left
from time import time

from edge.settings.client_rules import ClientLeaf
from edge.settings.model import Crl, Trust

__all__ = ["Revocation", "revocation_of"]


class _Serials:
    """Serial numbers that lie sorted in one piece of memory, which workers share."""

    __slots__ = ("_data", "_width")

    def __init__(self, data: bytes, width: int) -> None:
        self._data = data
        self._width = width

    def __len__(self) -> int:
        return len(self._data) // self._width

    def __getitem__(self, at: int) -> bytes:
        return self._data[at * self._width : (at + 1) * self._width]

    def hold(self, serial: int) -> bool:
        if serial < 0 or serial.bit_length() > 8 * self._width:
            return False
        wanted = serial.to_bytes(self._width, "big")
        return self[bisect_left(self, wanted)] == wanted


class Revocation:
    """The lists of one trust store."""

    __slots__ = ("_by_issuer", "_grace", "whole_chain")

    def __init__(self, trust: Trust) -> None:
        self.whole_chain = trust.crl_check == "chain"
        self._grace = trust.crl_grace
        self._by_issuer: dict[str, list[tuple[Crl, _Serials]]] = {}
        for crl in trust.crls:
            self._by_issuer.setdefault(crl.issuer, []).append((crl, _Serials(crl.serials, crl.width)))

    def objection(self, leaf: ClientLeaf) -> tuple[str, str] | None:
        """``revoked`` or ``revocation-unknown`` with a sentence, or None. Raises ValueError for what cannot be read."""
        lists = self._by_issuer.get(leaf.issuer, ())
        serial = leaf.certificate.serial_number
        for crl, serials in lists:
            if serials.hold(serial):
                return "revoked", f"serial number {serial:x} of {crl.name}"
        now = time()
        for crl, _ in lists:
            if crl.next_update is not None and now > crl.next_update + self._grace:
                return "revocation-unknown", f"the list of {crl.name} is out of date"
        return None


def revocation_of(trust: Trust | None) -> Revocation | None:
    """None where nothing is checked."""
    return Revocation(trust) if trust is not None and trust.crls and trust.crl_check != "off" else None
