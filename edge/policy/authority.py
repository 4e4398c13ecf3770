"""A request is served only under the policy of the connection that it came on.

The handshake decided who the client is by the host whose context it used. So a request may name only that host, or one that
asks for the same proof with the same certificates (`coalesce_id`: browsers put such hosts on one h2 connection, RFC 9113
section 9.1.1). Everything else is 421 (RFC 9110 section 15.5.20), on HTTP/1.1 and HTTP/2, with SNI and without.

* TLS: the name must be one of the listener's hosts and agree with the connection's. A client without SNI may also name the
  address that it connected to: it gets the connection's host. A client that sent a name may not.
* HTTP/1.0 without Host: the connection's host on TLS; 400 on a plain listener, where nothing else names one.
* A plain listener proves nothing about anybody, so it never serves a host that has client authentication anywhere. Other
  names are for the routes to know.
* The request's scheme must be the connection's: an https resource is not served without TLS, nor the other way round.

Ports do not count: policies belong to names.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from edge.errors import Fault, Side
from edge.http.fields import split_authority
from edge.http.message import ConnectionInfo, RequestHead
from edge.settings.identity import coalesce_id
from edge.settings.model import ClientAuthMode, Host, Listener, Settings
from edge.settings.names import NameIndex, canonical

__all__ = ["Authority"]

_MEMO_SIZE = 1024
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")


class Authority:
    """The rule for one listener's connections."""

    __slots__ = ("_guarded", "_hosts", "_ids", "_known", "_memo", "_no_sni", "_secure")

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self._secure = listener.tls
        self._no_sni = listener.no_sni
        hosts = [host for host in settings.hosts if listener.name in host.listeners]
        self._hosts: NameIndex[Host] = NameIndex((name, host) for host in hosts for name in host.names)
        self._ids = {id(host): coalesce_id(host) for host in hosts}
        self._known = hosts  # keeps the ids above valid
        names = [(name, host.client_auth.mode is not ClientAuthMode.OFF) for host in settings.hosts for name in host.names]
        # a name that stands in two hosts (on different listeners) is guarded when one of them is
        self._guarded: NameIndex[bool] = NameIndex(sorted(names, key=lambda entry: entry[1]))
        # what `check` found, by connection's host and authority; only for authorities that are names
        self._memo: dict[int, dict[bytes, str]] = {id(host): {} for host in hosts}
        if not self._secure:
            self._memo[id(None)] = {}

    def check(self, head: RequestHead, conn: ConnectionInfo) -> str:
        """The canonical host name that the request is routed by; an address without brackets.

        Raises `Fault` ``misdirected`` (421), or ``missing-host`` (400) where a name is needed and there is none.
        """
        authority = head.authority
        if head.scheme != (b"https" if self._secure else b"http"):
            raise _misdirected("scheme")
        memo = self._memo.get(id(conn.host))
        if memo is not None:
            known = memo.get(authority)
            if known is not None:
                return known
        if not authority:
            return self._unnamed(conn)
        name = canonical(split_authority(authority)[0])
        literal = _address(name)
        if literal is not None:
            return self._for_address(literal, conn)
        self._agree(name, conn)
        if memo is not None:
            if len(memo) >= _MEMO_SIZE:
                memo.clear()
            memo[authority] = name
        return name

    def _agree(self, name: str, conn: ConnectionInfo) -> None:
        if not self._secure:
            if self._guarded.find(name):
                raise _misdirected("client authentication on a plain listener")
            return
        named = self._hosts.find(name)
        if named is None or conn.host is None:
            raise _misdirected("unknown name")
        if named is not conn.host and self._id(named) != self._id(conn.host):
            raise _misdirected("another policy")

    def _for_address(self, literal: str, conn: ConnectionInfo) -> str:
        if not self._secure or self._hosts.find(literal) is not None:
            self._agree(literal, conn)
            return literal
        if conn.sni is not None:
            raise _misdirected("address instead of the name of the handshake")
        return self._connection_name(conn)

    def _unnamed(self, conn: ConnectionInfo) -> str:
        if not self._secure:
            raise Fault(Side.CLIENT, "missing-host", status=400)
        return self._connection_name(conn)

    def _connection_name(self, conn: ConnectionInfo) -> str:
        """The name under which the connection's host was chosen."""
        if conn.sni is not None:
            return canonical(conn.sni)
        if conn.host is None:
            raise _misdirected("no host")
        if self._no_sni is not None and self._hosts.find(self._no_sni) is conn.host:
            return self._no_sni
        return min(conn.host.names, key=lambda name: (name.startswith("*."), name))

    def _id(self, host: Host) -> bytes:
        return self._ids.get(id(host)) or coalesce_id(host)


def _misdirected(detail: str) -> Fault:
    return Fault(Side.CLIENT, "misdirected", detail=detail, status=421)


def _address(name: str) -> str | None:
    """The usual form of an address literal, or None for a name."""
    if ":" in name:  # only in an IPv6 literal, which the codec has checked
        return str(IPv6Address(name))
    return name if _IPV4.fullmatch(name) is not None else None
