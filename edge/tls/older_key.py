"""The connection of a client whose ticket is under an older key than the newest.

The older key is in the context during the calls that may process a ClientHello, and only during them: it is written before
and the newest is put back after each, whatever happens. Which calls these are can be seen from outside:

* the first one brings the whole ClientHello; until the server has answered, the ClientHello has not been processed;
* an answer that is a HelloRetryRequest (RFC 8446 section 4.1.4) means that a second ClientHello will come;
* any other answer means that none will. TLS 1.3 then issues its new tickets under the newest key when the client's Finished
  comes. TLS 1.2 sends no new ticket on resumption.

A ticket that names an older key need not resume: then a certificate is shown, and what holds for it elsewhere holds here too.

On hosts that ask for client certificates the older key stays for all calls of the handshake: the renewing ticket is
under it too, and no chain of resumptions lives longer than a generation.
"""

from __future__ import annotations

from typing import Any

from edge.tls.binding import buffer, ffi, lib
from edge.tls.clients import ClientCheck
from edge.tls.guarded_engine import demand_staple
from edge.tls.server_engine import ServerEngine
from edge.tls.staples import Stapler
from edge.tls.ticket_keys import ContextKeys, TicketKey

__all__ = ["OlderKeyEngine"]

_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")  # RFC 8446 section 4.1.3
_RANDOM = 11  # where a ServerHello has its random: after the record's and the message's header and the version
_start: Any = ffi.new("char **")


class OlderKeyEngine(ServerEngine):
    __slots__ = ("_key", "_stapler", "_tickets")

    def __init__(
        self, pointer: Any, owner: object, sni: str | None, tickets: ContextKeys, key: TicketKey, stapler: Stapler | None = None,
        *, check: ClientCheck | None,
    ) -> None:  # fmt: skip
        """`stapler`: where one of several certificates may not be shown without a staple."""
        super().__init__(pointer, owner, sni, check=check)
        self._stapler = stapler
        self._tickets = tickets
        self._key: TicketKey | None = key

    def receive(self, data: bytes | memoryview) -> bytes:
        key = self._key
        if key is None:
            return super().receive(data)
        tickets = self._tickets
        tickets.write(key)
        try:
            return super().receive(data)
        finally:
            assert tickets.newest is not None
            tickets.write(tickets.newest)
            if self.established or not (self._check is not None or self._hello_to_come()):
                self._key = None

    def _complete(self) -> None:
        super()._complete()
        if self._stapler is not None:
            demand_staple(self._stapler, self._ssl)

    def _hello_to_come(self) -> bool:
        """Whether the next bytes may be, or end, a ClientHello. Asked before `drain`."""
        size = lib.BIO_get_mem_data(self._wbio, _start)
        return not size or bytes(buffer(_start[0], size)[_RANDOM : _RANDOM + 32]) == _RETRY
