"""Ticket keys: who can decrypt a ticket, and until when (RFC 5077, RFC 8446 section 4.6.1).

Theory. A *generation* is a random secret with a life of its own; the supervisor makes them and all processes hold the same
(`KeyRing`). From it and a host's policy identity come the *key* of that host: 16 bytes of name, 32 for the HMAC, 32 for AES, by
HKDF. So a ticket means nothing to a host of another policy, nor to the same host once its policy has changed; and yet nothing has
to be kept for each host, and a reload keeps the tickets of all hosts that it does not change.

A context holds one key at a time, the newest, under which it issues. A ClientHello names the key that its ticket is under, by
position and in the clear; if it is an older one, that key is written into the context for the calls that process a
ClientHello and the newest is put back in the same call (one microsecond). A process has one thread, so nobody sees the context in
between. Where clients prove who they are, the older key stays for all calls of the handshake, so that the ticket which renews
the session is under the old key too and the chain of resumptions ends with its generation.

Invariants
* Between two calls from outside every context holds the newest key.
* A name is a claim, the HMAC is the proof (`ContextKeys.is_ours`).
* A host takes tickets under an older key for as long as its own tickets live, counted from when the next key came. Generations
  may live longer for the sake of other hosts; a chain of resumptions, where the older key stays, must not.
* A key that is over is wiped, and a wiped key is never written into a context.
* Where the layout of contexts could not be proven (`edge.tls.layout`) nothing is written: contexts keep OpenSSL's own keys, which
  processes share only when the context was made before they were forked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hmac import compare_digest
from itertools import pairwise
from math import inf
from struct import Struct
from time import time
from typing import Any
from weakref import WeakSet

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.tls.binding import ffi
from edge.tls.layout import KEYS, MAC, NAME, Layout, layout

__all__ = ["MOST", "PROCESS", "SECRET", "ContextKeys", "Generation", "KeyRing", "TicketKey", "derived", "pack", "unpack"]

SECRET = 32
"""Bytes of a generation's secret."""

MOST = 64
"""Generations that a process holds at most."""

_INFO = b"edge ticket key 1"
_INFO_OF_GENERATION = b"edge ticket generation 1"
_PARCEL = b"edge tickets 1\n"
_epoch = Struct(">dq")
_generation = Struct(f">{SECRET}sddB")


@dataclass(frozen=True, slots=True)
class Generation:
    """A secret and its life, in POSIX seconds."""

    secret: bytes = field(repr=False)
    since: float  # issues from then on
    until: float  # accepted before that


def pack(generations: Iterable[Generation], newest: Generation) -> bytes:
    """Generations for another process. Secret: not for a disk, not for a log."""
    return _PARCEL + b"".join(_generation.pack(one.secret, one.since, one.until, one == newest) for one in generations)


def unpack(data: bytes) -> tuple[list[Generation], Generation]:
    """What `pack` wrote. Raises ValueError."""
    body = data.removeprefix(_PARCEL)
    if body == data or len(body) % _generation.size or len(body) > MOST * _generation.size:
        raise ValueError("no ticket secrets")
    generations: list[Generation] = []
    newest = None
    for secret, since, until, is_newest in _generation.iter_unpack(body):
        generations.append(Generation(secret, since, until))
        if is_newest:
            newest = generations[-1]
    if newest is None:
        raise ValueError("no newest ticket secret")
    return generations, newest


def derived(shared: bytes, rotation: float, epoch: int) -> bytes:
    """The secret of an epoch's generation from a secret that machines share. `rotation` is the epoch's length in seconds."""
    info = _INFO_OF_GENERATION + _epoch.pack(rotation, epoch)
    return HKDF(hashes.SHA256(), SECRET, None, info).derive(shared)


class TicketKey:
    """The key of one generation for one policy."""

    __slots__ = ("_hmac", "_keys", "_mac", "name", "until", "wiped")

    def __init__(self, secret: bytes, policy: bytes, mac: int) -> None:
        """`policy` is the policy identity; the HMAC key lies at `mac` in what goes into the context."""
        derived = HKDF(hashes.SHA256(), NAME + KEYS, None, _INFO + policy).derive(secret)
        self.name = derived[:NAME]
        self._keys: Any = ffi.new("unsigned char[]", derived[NAME:])
        self._mac: Any = ffi.buffer(self._keys + mac, 32)
        self._hmac: HMAC | None = None  # with the key in it already: that is more than half of the work
        self.wiped = False
        self.until = inf  # POSIX seconds; set by who has other keys beside it

    def proves(self, ticket: bytes) -> bool:
        """Whether the ticket was made with this key."""
        if self.wiped or len(ticket) < NAME + 16 + 16 + MAC:
            return False
        if self._hmac is None:
            self._hmac = HMAC(self._mac[:], hashes.SHA256())
        found = self._hmac.copy()
        found.update(ticket[:-MAC])
        return compare_digest(found.finalize(), ticket[-MAC:])

    def wipe(self) -> None:
        """Forget the secret part, as far as that is in our hands."""
        self.wiped = True
        self._hmac = None
        ffi.memmove(self._keys, bytes(KEYS), KEYS)


class ContextKeys:
    """The keys of one context."""

    __slots__ = ("__weakref__", "_by_name", "_context", "_keys", "_keys_field", "_lifetime", "_name_field", "_policy", "newest")

    def __init__(self, context: Any, policy: bytes, lifetime: float) -> None:
        """`context` is an `SSL_CTX *` that outlives this object. It keeps the key that it has until `hold`.

        `lifetime`: seconds for which its tickets are good.
        """
        self._context = context
        self._policy = policy
        self._lifetime = lifetime
        self._by_name: dict[bytes, TicketKey] = {}
        self._keys: dict[bytes, TicketKey] = {}  # by the generation's secret
        self.newest: TicketKey | None = None
        self._name_field: Any = None
        self._keys_field: Any = None

    def hold(self, found: Layout, generations: Iterable[Generation], newest: Generation) -> Iterable[bytes]:
        """Have the keys of these generations and no others; issue under the newest from now on. The keys' names."""
        self._name_field = found.name_field(self._context)
        self._keys_field = found.keys_field(self._context)
        old, self._keys = self._keys, {}
        generations = sorted(generations, key=lambda one: one.since)
        for generation in generations:
            key = old.pop(generation.secret, None)
            self._keys[generation.secret] = key if key is not None else TicketKey(generation.secret, self._policy, found.mac)
        for one, following in pairwise(generations):
            self._keys[one.secret].until = following.since + self._lifetime
        self._by_name = {key.name: key for key in self._keys.values()}
        self.newest = self._keys[newest.secret]
        self.write(self.newest)
        for key in old.values():
            key.wipe()
        return self._by_name

    def named(self, ticket: bytes) -> TicketKey | None:
        """The key that a ticket says it is under: a claim. None when it is too old for this host."""
        key = self._by_name.get(ticket[:NAME])
        return None if key is None or (key is not self.newest and key.until < time()) else key

    def is_over(self, ticket: bytes) -> bool:
        """Whether it names a key that is there for other hosts' sake."""
        return ticket[:NAME] in self._by_name and self.named(ticket) is None

    def is_ours(self, ticket: bytes) -> bool:
        """Whether a ticket was issued under this context's policy by whoever holds its generation: a proof, in two microseconds.

        It may have expired all the same.
        """
        key = self.named(ticket)
        return key is not None and key.proves(ticket)

    def write(self, key: TicketKey) -> None:
        """Let the context have this key. Whoever writes an older one puts `newest` back before returning to the loop."""
        if not key.wiped:
            ffi.memmove(self._name_field, key.name, NAME)
            ffi.memmove(self._keys_field, key._keys, KEYS)


class KeyRing:
    """The generations of this process, and the contexts that live by them."""

    __slots__ = ("_contexts", "_names", "generations", "newest")

    def __init__(self) -> None:
        self.generations: tuple[Generation, ...] = ()
        self.newest: Generation | None = None
        self._contexts: WeakSet[ContextKeys] = WeakSet()
        self._names: set[bytes] = set()

    def enrol(self, context: Any, policy: bytes, lifetime: float) -> ContextKeys:
        """The keys of a new context (an `SSL_CTX *`): those of now, and those that come while it lives. Its tickets are good for
        `lifetime` seconds."""
        keys = ContextKeys(context, policy, lifetime)
        if self.newest is not None:
            self._names.update(keys.hold(layout(), self.generations, self.newest))
        self._contexts.add(keys)
        return keys

    def update(self, generations: Iterable[Generation], newest: Generation) -> None:
        """From now on these generations, `newest` among them; what is not named any more is wiped. 10 µs for each new key.

        Raises LayoutError where keys cannot be written: then nothing has changed.
        """
        found = layout()
        self.generations = tuple(generations)
        self.newest = newest
        self._names = set()
        for keys in self._contexts:
            self._names.update(keys.hold(found, self.generations, newest))

    def knows(self, ticket: bytes) -> bool:
        """Whether a ticket names a key of some policy of this process."""
        return ticket[:NAME] in self._names


PROCESS = KeyRing()
"""The ring of this process: filled by the supervisor before contexts are made, inherited by forks, renewed by orders."""
