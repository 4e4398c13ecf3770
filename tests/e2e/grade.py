"""The grade of a server from what testssl.sh found, by the rules of the SSL Labs Server Rating Guide, version 2009r.

testssl.sh 3.0 finds but does not grade, so the arithmetic stands here: 30 % protocols, 30 % key exchange, 40 % ciphers; then what
caps a grade; then what keeps an A from being an A+. A finding whose identifier is not known is an error, for it might be a cap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Grade", "grade"]

Findings = dict[str, tuple[str, str]]
"""Identifier → severity ("OK", "INFO", "LOW"…) and text, as in testssl.sh's JSON."""

_PROTOCOLS = {"SSLv2": 0, "SSLv3": 80, "TLS1": 90, "TLS1_1": 95, "TLS1_2": 100, "TLS1_3": 100}
_LETTERS = ((80, "A"), (65, "B"), (50, "C"), (35, "D"), (20, "E"))
_TO_F = (
    "cipherlist_NULL", "cipherlist_aNULL", "cipherlist_EXPORT", "cipherlist_LOW", "heartbleed", "CCS", "ticketbleed", "ROBOT",
    "DROWN", "FREAK", "secure_renego",
)  # fmt: skip
_TO_C = ("CRIME_TLS", "POODLE_SSL", "SWEET32", "cipherlist_3DES_IDEA")
_TO_B = ("RC4", "BEAST", "PFS", "LOGJAM", "cert_chain_of_trust")
_HALF_A_YEAR = 180 * 86_400


@dataclass(frozen=True, slots=True)
class Grade:
    letter: str
    score: float
    reasons: tuple[str, ...]  # why it is not A+


def grade(found: Findings) -> Grade:
    """Raises KeyError when a finding that the rules need is missing."""
    offered = [points for name, points in _PROTOCOLS.items() if "not offered" not in found[name][1]]
    score = 0.3 * _middle(offered) + 0.3 * _key_exchange(found) + 0.4 * _middle(_ciphers(found))
    letter = next((letter for least, letter in _LETTERS if score >= least), "F")
    reasons = []
    for capped, names in (("F", _TO_F), ("C", _TO_C), ("B", _TO_B)):
        for name in names:
            if found[name][0] not in ("OK", "INFO"):
                letter, _ = max(letter, capped), reasons.append(f"{name}: {found[name][1]}")
    for name in ("TLS1", "TLS1_1", "SSLv3"):
        if "not offered" not in found[name][1]:
            letter, _ = max(letter, "B"), reasons.append(f"{name} is offered")
    for name in ("cert_trust", "cert_expirationStatus", "cert_signatureAlgorithm"):
        if found[name][0] != "OK":
            letter, _ = "T", reasons.append(f"{name}: {found[name][1]}")
    if letter != "A":
        return Grade(letter, score, tuple(reasons))
    if "not offered" in found["TLS1_3"][1]:
        reasons.append("no TLS 1.3")
    if "HSTS_time" not in found or int(re.findall(r"\d{4,}", found["HSTS_time"][1])[0]) < _HALF_A_YEAR:
        reasons.append("no HSTS of half a year")
    if found["fallback_SCSV"][0] != "OK":
        reasons.append("no protection against downgrades")
    return Grade("A-" if "no TLS 1.3" in reasons else "A" if reasons else "A+", score, tuple(reasons))


def _middle(points: list[int]) -> float:
    return (max(points) + min(points)) / 2


def _key_exchange(found: Findings) -> int:
    """By the weakest of the certificate's key and the groups (all of at least 225 bits here, or the finding says otherwise)."""
    kind, bits = re.findall(r"(RSA|EC|ECDSA) (\d+) bits", found["cert_keySize"][1])[0]
    if kind == "RSA":
        return 100 if int(bits) >= 4096 else 90 if int(bits) >= 2048 else 40
    return 100 if int(bits) >= 225 else 90


def _ciphers(found: Findings) -> list[int]:
    points = []
    for name, (_, text) in found.items():
        if name.startswith("cipher_x"):
            bits = int(text.split()[-2])
            points.append(100 if bits >= 256 else 80 if bits >= 128 else 20)
    return points
