"""The engine of a client's connection: made from the context that its ClientHello chose, and fed that hello first.

Beside what every engine does it looks, when the handshake is done, whether OpenSSL read the same name as our parser and who the
client is, and counts from then on what costs us work and brings no data.
"""

from __future__ import annotations

from typing import Any

from edge.errors import Alert, Fault, Side
from edge.settings.client_rules import ClientLeaf
from edge.tls.binding import NULL, ffi, lib
from edge.tls.clients import UNDER_WAY, ClientCheck, leaf_of
from edge.tls.engine import NOISE, Engine
from edge.tls.pins import chain as verified_chain
from edge.wire.extensions import host_name
from edge.wire.hello import alert_record

__all__ = ["ServerEngine"]

_set_accept_state = lib.SSL_set_accept_state
_set_info_callback = lib.SSL_set_info_callback
_get_servername = lib.SSL_get_servername
_session_reused = lib.SSL_session_reused
_version = lib.SSL_version

_HOST_NAME: int = lib.TLSEXT_NAMETYPE_host_name
_TLS12: int = lib.TLS1_2_VERSION
_EXIT: int = lib.SSL_CB_EXIT
_HEADER = 5  # bytes of a record's header (RFC 8446 section 5.1)


@ffi.callback("void(SSL *, int, int)")  # type: ignore[untyped-decorator]
def _after_handshake(ssl: Any, where: int, result: int) -> None:
    """Set after the handshake, it fires for KeyUpdates and renegotiation attempts, for alerts too, and never for data.

    Of the several events of each only the last one is counted. Our own answer to a KeyUpdate leaves with the next `send`
    and fires too, which is why `receive` begins by forgetting what there is.
    """
    if where & _EXIT:
        NOISE[0] += 1


class ServerEngine(Engine):
    """The connection of a client. Made from the context that its ClientHello chose, and fed that hello first."""

    __slots__ = ("_begun_before", "_check", "_head", "_leaf")

    side = Side.CLIENT

    def __init__(self, pointer: Any, owner: object, sni: str | None, *, check: ClientCheck | None) -> None:
        Engine.__init__(self, pointer, owner, sni)
        _set_accept_state(self._ssl)
        self._begun_before = False  # a hello was read, or its beginning: an answer that comes now may be to a second one
        self._check = check  # None: the context asks for no client certificates
        self._leaf: ClientLeaf | None = None
        self._head = b""  # what has come of a header, when `_skip` is -1

    def _handshake(self) -> bool:
        check = self._check
        if check is None:
            done = Engine._handshake(self)
        else:
            under_way = UNDER_WAY
            under_way.check, under_way.fault, under_way.leaf = check, None, None
            try:
                done = Engine._handshake(self)
            finally:
                under_way.check = None
        if not done:
            if self._begun_before and lib.BIO_get_mem_data(self._wbio, NULL):
                self._check_hello_again()
            self._begun_before = True
        return done

    def _fault(self) -> Fault:
        fault = super()._fault()
        check = self._check
        if check is not None and not self.established and UNDER_WAY.fault is not None:
            fault, UNDER_WAY.fault = UNDER_WAY.fault, None
        return fault

    def _complete(self) -> None:
        self._check_name()
        if self._check is not None:
            self._check_client(self._check)

    def _check_name(self) -> None:
        """The name that OpenSSL saw must be the one that the context was chosen by.

        They can only differ when the two parsers read one hello differently, or a second hello (after a
        HelloRetryRequest) names another host. On resumed TLS 1.2 connections OpenSSL does not know the name; there the
        ticket's policy stands for it.
        """
        ssl = self._ssl
        name = _get_servername(ssl, _HOST_NAME)
        try:
            seen = host_name(ffi.string(name)) if name else None
        except Fault:
            seen = "what is no name"
        if seen != self.server_name and (name or not (_session_reused(ssl) and _version(ssl) == _TLS12)):
            self.drain()  # neither an answer nor a ticket
            raise Fault(Side.CLIENT, "sni-mismatch", detail=f"chosen by {self.server_name}, connected as {seen}")

    def _check_hello_again(self) -> None:
        """A second hello has to repeat the first one's name (RFC 8446 section 4.1.2).

        Its answer has not left yet, so the client has no keys, and an alert can be written as it is.
        """
        try:
            self._check_name()
        except Fault as fault:
            fault.alert = Alert.ILLEGAL_PARAMETER
            alert = alert_record(fault.alert)
            lib.BIO_write(self._wbio, alert, len(alert))
            raise

    def _watch(self) -> None:
        _set_info_callback(self._ssl, _after_handshake)

    def _weigh(self, data: bytes | memoryview) -> None:
        """OpenSSL passes over records without data in silence, so the headers of what came are walked.

        Only where there is more or less than one record: where one fills what came, it is plain that it is not empty.
        """
        size, at, ended = len(data), self._skip, -self._reads  # how many records end here, without those that brought data
        self._reads = 0
        if at > 0:
            ended += 1
        elif at < 0:
            seen = len(self._head)
            self._head = head = self._head + bytes(data[: _HEADER - seen])
            if len(head) < _HEADER:
                return
            at = _HEADER - seen + (head[3] << 8 | head[4])
            ended += 1
        most = size - _HEADER
        while at <= most:
            at += _HEADER + (data[at + 3] << 8 | data[at + 4])
            ended += 1
        if at > size:
            ended -= 1
            self._skip = at - size
        elif at == size:
            self._skip = 0
        else:
            self._skip = -1
            self._head = bytes(data[at:])
        if NOISE[0]:
            ended -= NOISE[0]
            self._count_noise()
        if self.closed:
            ended -= 1  # the goodbye
        if ended > 0:
            self.empty_records += ended
            self.unsettled = True

    def _peer_leaf(self) -> ClientLeaf | None:
        return self._leaf

    def _check_client(self, check: ClientCheck) -> None:
        """Who the client is. What was not asked in this very call of the handshake is asked now: the leaf of a session."""
        leaf = UNDER_WAY.leaf
        if leaf is None:
            leaf = leaf_of(self._ssl)
            fault = check.objection_later(leaf) if leaf is None or check.asks or _session_reused(self._ssl) else None
            if fault is not None:
                self.drain()  # the renewed ticket is not for this client
                fault.alert = Alert.NONE  # OpenSSL writes none when the handshake is over
                raise fault
        if leaf is not None and check.wants_chain:
            leaf = ClientLeaf(leaf.der, leaf.name)  # not shared: other connections may show other chains
            leaf.chain = tuple(verified_chain(self._ssl)[1:])
        self._leaf = leaf
