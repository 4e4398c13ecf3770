"""Where OpenSSL keeps a context's own way of verifying chains: found, proven and only then used.

The binding has no `SSL_CTX_set_cert_verify_callback`, without which a chain that was verified a moment ago is verified again
(`edge.tls.verified`). It is a field of `SSL_CTX` at an offset that no header promises: two pointers in front of the callback for
passwords, which the binding sets.

So that one is set in a context that is made for it and thrown away, and must then be found in its memory once; the two pointers
in front of it must be empty. A function of ours is written there and must do what the field does: it is called once in a
handshake that asks for a certificate; the client comes in or not as it answers, though nobody trusts him; it is given a chain
that has his certificate; and what OpenSSL's own verification answers there decides as it does without. After the field is
emptied, it is not called any more.

If one step fails nothing is ever written into a context that serves, and OpenSSL verifies each time. Some milliseconds, once
per process, where clients' certificates are asked for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from edge.tls.binding import NULL, ffi, lib, reasons
from edge.tls.pins import der
from edge.tls.trial import VERSIONS, Memory, TrialError, TrialServer, identity

__all__ = ["VerifyFieldError", "set_verification", "verify_field"]

_POINTER = 8  # bytes
_AHEAD = 2 * _POINTER  # before the callback for passwords: this field and its argument


class VerifyFieldError(Exception):
    """The field was not found, or does not do what it should. Nothing was touched."""


class _Probe:
    """What the function on trial answers, and what it saw."""

    __slots__ = ("answer", "calls", "leaf", "looks")

    def __init__(self) -> None:
        self.answer: int | None = 0  # None: what OpenSSL finds
        self.looks = False  # into the chain: only once it is known to be one
        self.calls = 0
        self.leaf = b""


_PROBE = _Probe()


@ffi.callback("int(X509_STORE_CTX *, void *)", error=0)  # type: ignore[untyped-decorator]
def _on_trial(store: Any, _: Any) -> int:
    _PROBE.calls += 1
    if _PROBE.looks:
        _PROBE.leaf = der(lib.X509_STORE_CTX_get0_cert(store), lib.i2d_X509_bio)
    if _PROBE.answer is None:
        return 1 if lib.X509_verify_cert(store) == 1 else 0
    return _PROBE.answer


@ffi.callback("int(char *, int, int, void *)", error=0)  # type: ignore[untyped-decorator]
def _no_password(*_: Any) -> int:
    return 0


def set_verification(context: Any, function: Any) -> bool:
    """Have an `SSL_CTX *` verify its peers' chains by `function`, of C type ``int(X509_STORE_CTX *, void *)``, which must live as
    long. False: this binding cannot be told, and OpenSSL goes on by itself."""
    try:
        _write(context, verify_field(), function)
    except VerifyFieldError:
        return False
    return True


def verify_field() -> int:
    """The proven offset, in bytes. Raises VerifyFieldError, always the same one."""
    found = _outcome()
    if isinstance(found, VerifyFieldError):
        raise found
    return found


@cache
def _outcome() -> int | VerifyFieldError:
    try:
        return _proven()
    except VerifyFieldError as error:
        return error
    except (OSError, ValueError, SSL.Error, TrialError) as error:
        reasons()
        return VerifyFieldError(f"{type(error).__name__}: {error}")


def _proven() -> int:
    server = TrialServer()
    offset = _find(server)
    server.demand_certificates()
    _prove(server, offset)
    return offset


def _find(server: TrialServer) -> int:
    memory = Memory()
    before = server.image(memory)
    lib.SSL_CTX_set_default_passwd_cb(server.pointer, _no_password)
    image = server.image(memory)
    lib.SSL_CTX_set_default_passwd_cb(server.pointer, NULL)
    mark = int(ffi.cast("uintptr_t", _no_password)).to_bytes(_POINTER, "little")
    places = [at for at in range(_AHEAD, len(image), _POINTER) if image[at : at + _POINTER] == mark]
    if len(places) != 1 or mark in before:
        raise VerifyFieldError(f"the callback for passwords stands in {len(places)} places")
    offset = places[0] - _AHEAD
    if any(image[offset : offset + _AHEAD]):
        raise VerifyFieldError("the field is not empty")
    return offset


def _prove(server: TrialServer, offset: int) -> None:
    for version in VERSIONS:
        _expect(server, version, calls=0, admitted=False)
        _write(server.pointer, offset, _on_trial)
        try:
            _expect(server, version, calls=1, admitted=False, answer=0)
            _expect(server, version, calls=1, admitted=True, answer=1)
            _expect(server, version, calls=1, admitted=True, answer=1, looks=True)
            _expect(server, version, calls=1, admitted=False, answer=None)
        finally:
            _write(server.pointer, offset, NULL)


def _expect(
    server: TrialServer, version: int, *, calls: int, admitted: bool, answer: int | None = 0, looks: bool = False
) -> None:
    _PROBE.answer, _PROBE.looks, _PROBE.calls, _PROBE.leaf = answer, looks, 0, b""
    came_in = server.admits(version)
    if came_in is not admitted or _PROBE.calls != calls:
        raise VerifyFieldError(f"with the answer {answer} a client was {'' if came_in else 'not '}let in ({_PROBE.calls} calls)")
    if looks and _PROBE.leaf != identity()[0].public_bytes(Encoding.DER):
        raise VerifyFieldError("the chain is not that of the client")


def _write(context: Any, offset: int, function: Any) -> None:
    ffi.cast("void **", ffi.cast("unsigned char *", context) + offset)[0] = ffi.cast("void *", function)
