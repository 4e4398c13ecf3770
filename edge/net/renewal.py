"""How long a client's connection goes on: under other settings, by its age, and when the gateway drains.

A reload finds connections at every stage. In the handshake they keep the context that their hello chose. A connection whose
host still admits its client on the same terms (`same_terms`) serves its next request under the new settings, whatever
became of certificates and routes; every other one ends after what is under way: GOAWAY, or `Connection: close`. One whose client
turns out to be revoked ends at once. A request is thus served by one set of settings from its beginning to its end, and a
tunnel as long as it lasts.

A connection whose client has to prove itself again (`client_auth.max_age`) ends in the same way when it is old enough, and after
as long again with whatever is still under way.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from edge.errors import Fault, Side
from edge.net.transport import Transport
from edge.relay.client_h1 import H1Client
from edge.relay.client_h2 import H2Client
from edge.relay.pipe import Pipe

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from edge.http.message import ConnectionInfo
    from edge.net.early import Unconfirmed
    from edge.net.listener import ListenerState
    from edge.tls.choice import ServerContext

__all__ = ["Renewable"]

_REVOKED = "client-certificate-revoked"
"""Whoever is found out to be this when the settings change gets no last word."""


class Renewable(Transport):
    """The part of a client's connection that outlives the settings under which it began, or does not."""

    __slots__ = ("_aging",)

    _aging: TimerHandle | None
    _context: ServerContext | None
    _early: Unconfirmed | None
    conn: ConnectionInfo
    owner: ListenerState
    since: float

    @property
    def in_handshake(self) -> bool:
        raise NotImplementedError

    def drain(self) -> None:
        session = self.session
        if isinstance(session, H1Client | H2Client):
            session.drain()
        elif not self.in_handshake and not isinstance(session, Pipe):
            self.close()

    def renew(self) -> None:
        """The settings are others than those under which this connection began: go on under them, or end."""
        session, owner, conn = self.session, self.owner, self.conn
        fault = owner.objection(conn) if conn.client is not None else None
        if fault is not None and (isinstance(session, Pipe) or fault.kind == _REVOKED):
            if isinstance(session, Pipe):
                session.broken(fault)
            else:
                self._lose(fault)
            return
        if not isinstance(session, H1Client | H2Client):
            return  # this is asked again when there is an HTTP session
        if owner.ending:
            session.drain()
            return
        if self._context is not None:
            host = owner.heir(conn)
            if host is None or fault is not None:
                session.drain()
                return
            conn.host = host
            self._age()
        conn.listener = owner.listener
        early = self._early
        if early is None:
            session.renew(owner.front)
        else:
            session.renew(owner.early_front, early.conn(owner.front))

    def renew_or_end(self) -> None:
        """`renew`. A connection with which that fails ends: it must not go on under terms that hold no more."""
        try:
            self.renew()
        except Exception as error:
            self._bug(error)

    # --- age ---

    def _age(self) -> None:
        """See to it that the client proves itself again (`client_auth.max_age`)."""
        host = self.conn.host
        max_age = host.client_auth.max_age if host is not None else None
        if self._aging is not None:
            self._aging.cancel()
            self._aging = None
        if max_age is not None:
            self._aging = self.hub.loop.call_later(self.since + max_age - monotonic(), self._aged, max_age)

    def _aged(self, grace: float) -> None:
        """Old enough. What is under way may end, for as long again; bytes have no end to wait for."""
        self._aging = None
        if self.disposed:
            return
        self.hub.turn()
        session = self.session
        fault = Fault(Side.EDGE, "max-age", detail="the client has to prove itself again")
        if isinstance(session, Pipe):
            session.broken(fault)
        elif grace:
            self.drain()
            if not self.disposed:
                self._aging = self.hub.loop.call_later(grace, self._aged, 0.0)
        else:
            self._lose(fault)
