"""Where OpenSSL keeps a context's ticket keys: found, proven and only then used.

The binding has no call that sets ticket keys, and none for the number of tickets. Without the first, contexts made at
different times (before and after a reload, on two machines) do not take each other's tickets; without the second, TLS 1.3
sends tickets even where they are switched off. Both are fields of `SSL_CTX` at offsets that no header promises.

So they are looked for in contexts that are made for it and thrown away, by reading alone:

* The 16 bytes with which a real ticket begins are the key's name. In two contexts they must lie at the same offset, and at
  no other.
* Near them lies a pointer to 64 bytes. One half of these must be the HMAC-SHA-256 key of both real tickets, and the
  other half must decrypt them (AES-256-CBC) to DER. No other pointer may do so. Every address is looked up in the process's
  map before it is followed.
* The number of tickets is 2 by default and stands behind the field that `SSL_CTX_set_max_early_data` writes, which is found
  by writing a number that is nowhere else.

What was found is then written, in the same contexts, and must do what it says: a ticket of one resumes in the other, with
TLS 1.2 and 1.3, under the name that was written, and not in a third one; and the number of tickets changes how many are sent.

If one step fails nothing is ever written into a context that serves. The reason is in the error; what it costs is for the
caller to say. The whole takes some ten milliseconds, once per process.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from OpenSSL import SSL

from edge.errors import Fault
from edge.tls.binding import ffi, lib, reasons
from edge.tls.trial import VERSIONS, WINDOW, Memory, TrialError, TrialServer, ticket_of

__all__ = ["KEYS", "MAC", "NAME", "Layout", "LayoutError", "layout"]

NAME = 16
"""Bytes of a key's name, with which a ticket begins (RFC 5077 section 4)."""

MAC = 32
"""Bytes of a ticket's HMAC-SHA-256, with which it ends."""

KEYS = 64
"""Bytes of a key: one half for the HMAC, one for AES-256."""

_NEAR = 64  # bytes between the name and the pointer to its keys
_BEHIND = 128  # bytes behind max_early_data
_MARK = 0x5A3C_1177
_TICKETS = 2  # OpenSSL's default


class LayoutError(Exception):
    """The fields were not found, or they do not do what they should. Nothing was touched."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in bytes."""

    name: int  # the key's name, in the context
    pointer: int  # the pointer to the keys, in the context
    mac: int  # the HMAC key, in the keys: 0 or 32; the AES key is the other half
    tickets: int | None  # the number of TLS 1.3 tickets in the context; None: not found

    def name_field(self, context: Any) -> Any:
        """Where an `SSL_CTX *` has the 16 bytes of its key's name. As long-lived as the context."""
        return ffi.cast("unsigned char *", context) + self.name

    def keys_field(self, context: Any) -> Any:
        """Where the keys of an `SSL_CTX *` are: 64 bytes. As long-lived as the context."""
        return ffi.cast("unsigned char **", ffi.cast("unsigned char *", context) + self.pointer)[0]

    def set_tickets(self, context: Any, number: int) -> bool:
        """How many tickets TLS 1.3 sends after a full handshake. False: this binding cannot be told."""
        if self.tickets is None:
            return False
        ffi.cast("size_t *", ffi.cast("unsigned char *", context) + self.tickets)[0] = number
        return True


@cache
def _outcome() -> Layout | LayoutError:
    try:
        return _proven()
    except LayoutError as error:
        return error
    except (OSError, ValueError, SSL.Error, Fault, TrialError) as error:
        reasons()
        return LayoutError(f"{type(error).__name__}: {error}")


def layout() -> Layout:
    """The proven layout of this process's OpenSSL. Raises LayoutError, always the same one."""
    found = _outcome()
    if isinstance(found, LayoutError):
        raise found
    return found


def _proven() -> Layout:
    one, other, stranger = (TrialServer() for _ in range(3))
    found = _find(one, other)
    number = _find_tickets(one)
    found = Layout(found.name, found.pointer, found.mac, number)
    _prove_keys(found, one, other, stranger)
    return found


# --- finding ---


def _find(one: TrialServer, other: TrialServer) -> Layout:
    tickets = [server.ticket(SSL.TLS1_2_VERSION) for server in (one, other)]
    if any(len(ticket) < NAME + 16 + 16 + MAC for ticket in tickets):
        raise LayoutError("a ticket is too short")
    memory = Memory()
    images = [server.image(memory) for server in (one, other)]
    pairs = list(zip(images, tickets, strict=True))
    offsets = [at for at in range(WINDOW - NAME) if all(image[at : at + NAME] == ticket[:NAME] for image, ticket in pairs)]
    if len(offsets) != 1:
        raise LayoutError(f"the key's name stands in {len(offsets)} places")
    name = offsets[0]
    places = [
        (at, mac)
        for at in range(max(0, name - name % 8 - _NEAR), name + _NEAR + NAME, 8)
        for mac in (0, MAC)
        if all(_fits(memory, image, at, mac, ticket) for image, ticket in pairs)
    ]
    if len(places) != 1:
        raise LayoutError(f"the keys stand in {len(places)} places")
    return Layout(name, *places[0], None)


def _fits(memory: Memory, image: bytes, at: int, mac: int, ticket: bytes) -> bool:
    """Whether the pointer at an offset leads to the keys of a ticket."""
    address = int.from_bytes(image[at : at + 8], "little")
    if not address or address % 8 or not memory.holds(address, KEYS):
        return False
    keys = memory.read(address, KEYS)
    if not hmac.compare_digest(hmac.digest(keys[mac : mac + 32], ticket[:-MAC], "sha256"), ticket[-MAC:]):
        return False
    cipher = Cipher(algorithms.AES(keys[32 - mac : 64 - mac]), modes.CBC(ticket[NAME : NAME + 16])).decryptor()
    return (cipher.update(ticket[NAME + 16 : -MAC]) + cipher.finalize())[:1] == b"\x30"


def _find_tickets(server: TrialServer) -> int | None:
    """The offset of the number of tickets, or None when it cannot be told beyond doubt."""
    memory = Memory()
    lib.SSL_CTX_set_max_early_data(server.pointer, _MARK)
    image = server.image(memory)
    lib.SSL_CTX_set_max_early_data(server.pointer, 0)
    mark = _MARK.to_bytes(4, "little")
    at = image.find(mark)
    if at < 0 or image.count(mark) != 1:
        return None
    first = at + 8 - at % 8
    places = [
        place for place in range(first, first + _BEHIND, 8) if int.from_bytes(image[place : place + 8], "little") == _TICKETS
    ]
    if len(places) != 1:
        return None
    field = ffi.cast("size_t *", ffi.cast("unsigned char *", server.pointer) + places[0])
    sent = []
    for number in (0, 1, _TICKETS):
        field[0] = number
        sent.append(server.bytes_after_handshake())
    field[0] = _TICKETS
    return places[0] if sent[0] == 0 < sent[1] and sent[2] == 2 * sent[1] else None


def _prove_keys(found: Layout, one: TrialServer, other: TrialServer, stranger: TrialServer) -> None:
    name, keys = b"edge's own proof", bytes(range(KEYS))
    stale = [(version, one.session(version)) for version in VERSIONS]
    for server in (one, other):
        ffi.memmove(found.name_field(server.pointer), name, NAME)
        ffi.memmove(found.keys_field(server.pointer), keys, KEYS)
    for version, session in stale:
        if other.resumes(version, session):
            raise LayoutError("a ticket under another key was taken")
    for version in VERSIONS:
        session = one.session(version)
        if ticket_of(session, version)[:NAME] != name:
            raise LayoutError("a new ticket does not have the name that was written")
        if not other.resumes(version, session):
            raise LayoutError(f"a ticket did not resume in another context ({version:#06x})")
        if stranger.resumes(version, session):
            raise LayoutError("a ticket resumed in a context of other keys")
