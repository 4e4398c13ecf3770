"""Settings as bytes and back: how the supervisor hands a new generation to processes that may not read the files themselves.

Theory. Settings are a tree of frozen dataclasses in which much stands many times: one trust store of 200 KiB behind 500 hosts,
one wildcard certificate, the limits of every route. So the tree goes as a *pool*: each different object once, after
everything that it is made of, and an object within another one is its number in the pool. What was shared, or merely equal,
is one object again on the other side. The last object is the `Settings`.

How a field is written follows from its type in the model alone, and a type that is not known here is an error at import: a
new field needs no change, a new kind of field cannot be forgotten.

The reader is a trusted child of the writer, of the same version; the pool's version is there to say so when it is not true.
Decoding can be done in steps, because 500 hosts take some ten milliseconds, which a worker in traffic does not have.

The bytes hold private keys: they go through memory only (a sealed memfd), never through a file.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from ipaddress import ip_network
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from edge.settings import model
from edge.settings.model import Certificate, Network, Settings

__all__ = ["TransferError", "decode", "decode_steps", "encode"]

_VERSION = 1
_STEP = 32  # objects decoded in one step: some 0.3 ms
_PLAIN = (bool, float, str, bytes)
_LARGEST = 1 << 63

Write = Callable[["_Writer", Any], Any]
Read = Callable[[list[Any], Any], Any]


class TransferError(ValueError):
    """Bytes that are not settings of this version."""


class _Kind(NamedTuple):
    """How values of one type are written and read."""

    write: Write
    read: Read


def _same(_: object, value: Any) -> Any:
    return value


def _kind(hint: Any) -> _Kind:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _Kind(_same, _same)
    if hint is int:  # one beyond 64 bits goes as text
        return _Kind(lambda _, value: value if -_LARGEST <= value < _LARGEST else str(value), lambda _, value: int(value))
    if hint == Network:
        return _Kind(lambda _, value: str(value), lambda _, text: ip_network(text))
    if origin in (Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
        return _optional(_kind(next(argument for argument in arguments if argument is not type(None))))
    if origin is tuple and arguments[-1] is Ellipsis:
        return _sequence(_kind(arguments[0]))
    if origin is tuple:
        return _fixed([_kind(argument) for argument in arguments])
    if origin is frozenset and arguments[0] in (str, bytes):
        return _Kind(lambda _, value: tuple(sorted(value)), lambda _, items: frozenset(items))
    if origin is Mapping and arguments[0] is str:
        return _mapping(_kind(arguments[1]))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _Kind(lambda _, value: str(value), lambda _, text: hint(text))
    if isinstance(hint, type) and is_dataclass(hint):
        return _Kind(lambda writer, value: writer.number(value), lambda pool, number: pool[number])
    raise TypeError(f"settings of the type {hint} cannot be transferred")


def _optional(inner: _Kind) -> _Kind:
    write, read = inner
    return _Kind(
        lambda writer, value: None if value is None else write(writer, value),
        lambda pool, value: None if value is None else read(pool, value),
    )


def _sequence(inner: _Kind) -> _Kind:
    write, read = inner
    if read is _same:
        return _Kind(_same, lambda _, items: tuple(items))
    return _Kind(
        lambda writer, value: tuple([write(writer, item) for item in value]),
        lambda pool, items: tuple([read(pool, item) for item in items]),
    )


def _fixed(inner: list[_Kind]) -> _Kind:
    return _Kind(
        lambda writer, value: tuple([kind.write(writer, item) for kind, item in zip(inner, value, strict=True)]),
        lambda pool, items: tuple([kind.read(pool, item) for kind, item in zip(inner, items, strict=True)]),
    )


def _mapping(inner: _Kind) -> _Kind:
    write, read = inner
    return _Kind(
        lambda writer, value: tuple([(key, write(writer, item)) for key, item in value.items()]),
        lambda pool, items: {key: read(pool, item) for key, item in items},
    )


def _plan(kind: type) -> list[tuple[str, _Kind]]:
    hints = get_type_hints(kind)
    return [(each.name, _kind(hints[each.name])) for each in fields(kind)]


_CLASSES: dict[str, Any] = {name: kind for name, kind in vars(model).items() if isinstance(kind, type) and is_dataclass(kind)}
_PLANS = {name: _plan(kind) for name, kind in _CLASSES.items()}
_WIRE = tuple[int, list[tuple[str, list[Any]]]]


class _Writer:
    """The pool in the making."""

    __slots__ = ("_by_identity", "_by_value", "_keys", "_kept", "pool")

    def __init__(self, *, keys: bool) -> None:
        self.pool: list[tuple[str, tuple[Any, ...]]] = []
        self._by_identity: dict[int, int] = {}
        self._kept: list[object] = []  # keeps the identities above valid
        self._by_value: dict[tuple[str, tuple[Any, ...]], int] = {}
        self._keys = keys

    def number(self, value: object) -> int:
        known = self._by_identity.get(id(value))
        if known is not None:
            return known
        name = type(value).__name__
        written = [kind.write(self, getattr(value, field)) for field, kind in _PLANS[name]]
        if not self._keys and isinstance(value, Certificate):
            written[_KEY_AT] = b""
        entry = name, tuple(written)
        number = self._by_value.setdefault(entry, len(self.pool))
        if number == len(self.pool):
            self.pool.append(entry)
        self._by_identity[id(value)] = number
        self._kept.append(value)
        return number


_KEY_AT = [field for field, _ in _PLANS["Certificate"]].index("key_pem")


def encode(settings: Settings, *, keys: bool = True) -> bytes:
    """The settings as bytes, private keys included unless `keys` is False: then they are empty.

    Raises TransferError for text that is not Unicode (from an environment variable).
    """
    writer = _Writer(keys=keys)
    writer.number(settings)
    try:
        return msgspec.msgpack.encode((_VERSION, writer.pool))
    except UnicodeEncodeError:
        raise TransferError("a value is not Unicode text") from None


def decode(data: bytes) -> Settings:
    """What `encode` was given, equal to it. Raises TransferError."""
    *_, settings = decode_steps(data)
    assert settings is not None
    return settings


def decode_steps(data: bytes) -> Iterator[Settings | None]:
    """`decode` in steps of less than a millisecond: None after each, and the settings at the end. Raises TransferError."""
    try:
        version, entries = msgspec.msgpack.decode(data, type=_WIRE)
    except msgspec.DecodeError as error:
        raise TransferError(f"not settings: {error}") from None
    if version != _VERSION:
        raise TransferError(f"settings of version {version}; this program reads version {_VERSION}")
    pool: list[Any] = []
    for at, (name, written) in enumerate(entries, 1):
        try:
            plan = _PLANS[name]
            values = {field: kind.read(pool, value) for (field, kind), value in zip(plan, written, strict=True)}
            pool.append(_CLASSES[name](**values))
        except (KeyError, IndexError, TypeError, ValueError):
            raise TransferError(f"object {at} of the settings cannot be read") from None
        if at % _STEP == 0:
            yield None
    if not pool or not isinstance(pool[-1], Settings):
        raise TransferError("bytes without settings")
    yield pool[-1]
