"""The ClientHello of nearly every connection: there with the first read, in one record, and alike to others before it.

Theory. One program sends the same hello again and again. What differs is the random, the session id, the name, the key share
and what resumes a session; all else, lengths included, is the same byte for byte. So the second hello of a form leaves a
template: where the parts lie that differ, and the bytes of those that do not. A hello that agrees in the latter has been
parsed before, but for its name and its ticket. That takes a fifth of the steps of parsing it.

Invariants
* What is read from a hello by its form is what parsing it yields. Names and tickets are checked by the parser's own functions.
* Anything else (several records, no known form) goes to the parser, and whatever it refuses to `HelloReader`, which says why.
* What follows the record (early data) has no part in its form and is not looked at.
* There are at most `_MOST` forms of at most `_LARGEST` bytes. Clients that shuffle their extensions find no form, and make none.
"""

from __future__ import annotations

from operator import itemgetter
from struct import Struct

from edge.errors import Fault
from edge.wire.extensions import server_name
from edge.wire.hello import ClientHello, parse
from edge.wire.psk import first_binder, first_identity

__all__ = ["whole_hello"]

_MOST = 512
_LARGEST = 2048
_SUITES = slice(76, 90)  # where most hellos have their first cipher suites: with the length, what tells forms apart
_VARIABLE = frozenset((0, 35, 41, 51, 65037))  # server_name, session_ticket, pre_shared_key, key_share, encrypted_client_hello
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_MAX_PLAINTEXT = 16_384

_record = Struct(">BHH").unpack_from
_pair = Struct(">HH").unpack_from
_short = Struct(">H").unpack_from


class _Form:
    """A hello seen before, and where others may differ from it."""

    __slots__ = ("_fixed", "_hello", "_pick", "_unpack")

    def __init__(self, data: bytes, hello: ClientHello) -> None:
        """`data` is one record with one well-formed hello in it, that was parsed to `hello`."""
        after_id = 44 + data[43]
        layout = [f"11s32s1s{data[43]}s"]
        pieces = 4
        places: dict[int, int] = {}
        fixed_from = after_id
        at = after_id + 2 + _short(data, after_id)[0]
        at += 1 + data[at] + 2
        while at < len(data):
            kind, size = _pair(data, at)
            at += 4
            if kind in _VARIABLE:
                layout.append(f"{at - fixed_from}s{size}s")
                places[kind] = pieces + 1
                pieces += 2
                fixed_from = at + size
            at += size
        layout.append(f"{len(data) - fixed_from}s")
        self._unpack = Struct("".join(layout)).unpack
        self._fixed = self._unpack(data)[::2]
        self._pick = itemgetter(*(places.get(kind, -1) for kind in (0, 35, 41)))  # the last item is None
        self._hello = hello

    def read(self, data: bytes) -> ClientHello | None:
        """The hello, if it has this form. Raises Fault for a name or a ticket that is malformed."""
        items = self._unpack(data)
        if items[::2] != self._fixed:
            return None
        name, ticket, psk = self._pick((*items, None))
        like = self._hello
        hello: ClientHello = _new(ClientHello)
        hello.legacy_version = like.legacy_version
        hello.sni_sent = like.sni_sent
        hello.sni = server_name(name) if name is not None else None
        hello.alpn = like.alpn
        hello.versions = like.versions
        hello.extensions = like.extensions
        hello.psk_offered = like.psk_offered
        hello.early_data = like.early_data
        hello.session_ticket = first_identity(psk) if psk is not None else ticket or b""
        hello.binder = first_binder(psk) if like.early_data and psk is not None else b""
        hello._ciphers = like._ciphers
        hello._groups = like._groups
        hello._signatures = like._signatures
        hello._ja4 = like._ja4
        return hello


_new = object.__new__
_forms: dict[tuple[int, bytes], _Form | None] = {}
"""By length and first suites. None: one hello came, and when the next one comes a form is made of it."""


def whole_hello(data: bytes, max_bytes: int) -> ClientHello | None:
    """The hello, when these are a connection's first bytes and it is all there in one record; what follows it is not looked at.

    None for everything else, and for a hello that is to be refused: `HelloReader` says why.
    """
    key = len(data), data[_SUITES]
    form = _forms.get(key)
    if form is not None and len(data) <= 9 + max_bytes:
        try:
            hello = form.read(data)
        except Fault:
            return None
        if hello is not None:
            return hello
    return _parsed(data, max_bytes, key)


def _parsed(data: bytes, max_bytes: int, key: tuple[int, bytes]) -> ClientHello | None:
    size = len(data)
    if size < 9:
        return None
    kind, version, length = _record(data)
    end = 9 + (data[6] << 16 | data[7] << 8 | data[8])
    if (
        kind != _HANDSHAKE
        or version >> 8 != 3
        or data[5] != _CLIENT_HELLO
        or not end <= 5 + length <= 5 + _MAX_PLAINTEXT
        or 5 + length > size
        or end > 9 + max_bytes
    ):
        return None
    if end == 5 + length < size:
        return whole_hello(data[:end], max_bytes)
    hello = ClientHello()
    try:
        parse(hello, data, 9, end)
    except Fault:
        return None
    if end == size <= _LARGEST and hello.extensions:
        _remember(key, data, hello)
    return hello


def _remember(key: tuple[int, bytes], data: bytes, hello: ClientHello) -> None:
    if key not in _forms:
        if len(_forms) >= _MOST:
            _forms.clear()
        _forms[key] = None
    elif _forms[key] is None:
        hello.ja4()
        _forms[key] = _Form(data, hello)
