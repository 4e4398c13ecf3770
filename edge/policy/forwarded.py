"""Who is behind a request: the fields that tell the upstream, and whose word about it is believed.

Only a peer in `trusted_proxies` is believed about the client, the scheme, the host and the request id. What a stranger says
in these fields is dropped (`FROM_CLIENTS_DROPPED`) and written anew; what a trusted proxy says is kept and extended. `Via` is
extended for everybody, because it is about the message and not about the client (RFC 9110 section 7.6.3).

The client is the rightmost address in X-Forwarded-For (in `Forwarded` where that is missing) that is not a trusted proxy: what
stands further left was written by somebody whom nobody vouches for. `X-Forwarded-For` goes first because a proxy that
writes only that one passes a forged `Forwarded` through.

What a connection's requests have in common is made once, in `prepare`.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from edge.http.fields import split_authority
from edge.http.message import ConnectionInfo, Field, Fields, RequestHead, SharedFields
from edge.settings.model import Network, Settings

__all__ = ["FROM_CLIENTS_DROPPED", "Forwarding", "Prepared"]

_MEMO_SIZE = 1024
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FOR = re.compile(r"""(?:^|[;,])\s*for\s*=\s*("?)(\[[0-9A-Fa-f:.]+\]|[^";,\s:]+)(?::[0-9]+)?\1""", re.IGNORECASE)
_VERSIONS = {10: b"1.0", 11: b"1.1", 20: b"2.0"}

# Both sets are kept when a trusted proxy sends them; the first is what the gateway writes itself.
_WRITTEN = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-request-id", b"via"}
)
_PASSED_ON = frozenset(
    {
        b"cf-connecting-ip", b"fastly-client-ip", b"true-client-ip", b"x-client-ip", b"x-cluster-client-ip", b"x-forwarded",
        b"x-forwarded-by", b"x-forwarded-prefix", b"x-forwarded-scheme", b"x-forwarded-server", b"x-forwarded-ssl",
        b"x-original-forwarded-for", b"x-original-host", b"x-original-url", b"x-real-ip", b"x-rewrite-url",
    }
)  # fmt: skip
FROM_CLIENTS_DROPPED = _WRITTEN | _PASSED_ON


class Prepared:
    """What the requests of one connection have in common. The connection keeps it and hands it in with each request."""

    __slots__ = (
        "_forwarding", "address", "admitted", "authority", "client_fields", "common", "conn", "element", "own_id", "proto",
        "seen", "seen_head", "seen_plan", "trusted", "verdict", "version", "written",
    )  # fmt: skip

    def __init__(self, forwarding: Forwarding, conn: ConnectionInfo, address: bytes, element: bytes, *, trusted: bool) -> None:
        self._forwarding = forwarding
        self.conn = conn
        self.address = address  # the peer's, as in X-Forwarded-For
        self.element = element  # the peer's, as in Forwarded
        self.proto = b"https" if conn.secure else b"http"
        self.trusted = trusted
        self.admitted: frozenset[int] = frozenset()  # the demands of routes that the client satisfies, by identity
        self.client_fields: dict[str, Fields] | None = None  # what upstreams are told of its certificate, by how much
        # the fields for the last authority and version seen: a connection's requests rarely differ in them
        self.authority = b"\x00"
        self.version = 0
        self.common: Fields = []
        # what was written for the fields seen last, on behalf of whoever puts requests together
        self.seen: Fields | None = None
        self.seen_plan: object = None
        self.written = SharedFields([])
        self.own_id = False
        # and what was decided about the head seen last
        self.seen_head: RequestHead | None = None
        self.verdict: Any = None

    def client_ip(self, head: RequestHead) -> str:
        """The address of the client behind a trusted proxy, as that told of it; ``""`` when the peer is all that is known."""
        if not self.trusted:
            return ""
        client = self._forwarding.client_ip(head, self.conn)
        return "" if client == self.conn.peer else client


class Forwarding:
    """Writes what the upstream is told about the client, and reads what a trusted proxy told."""

    __slots__ = ("_peers", "_pseudonym", "_trusted", "_verdicts")

    def __init__(self, settings: Settings) -> None:
        self._trusted = settings.trusted_proxies
        self._pseudonym = settings.server.via.encode("ascii")
        self._verdicts: dict[str, bool] = {}
        self._peers: dict[str, tuple[bytes, bytes, bool]] = {}

    def prepare(self, conn: ConnectionInfo) -> Prepared:
        """What `request_fields` needs of a connection; once for each connection."""
        known = self._peers.get(conn.peer)
        if known is None:
            if len(self._peers) >= _MEMO_SIZE:
                self._peers.clear()
            known = self._peers[conn.peer] = self._describe(conn.peer)
        text, element, trusted = known
        return Prepared(self, conn, text, element, trusted=trusted)

    def _describe(self, peer: str) -> tuple[bytes, bytes, bool]:
        """An address as in X-Forwarded-For, as in Forwarded, and whether it is a trusted proxy's."""
        address = _parse(peer)
        if address is None:  # a unix socket
            return b"unknown", b"for=unknown", False
        text = str(address).encode("ascii")
        return text, b'for="[%b]"' % text if address.version == 6 else b"for=" + text, self.is_trusted(peer)

    def request_fields(self, head: RequestHead, prepared: Prepared, request_id: bytes) -> Fields:
        """The fields to send to the upstream in place of `FROM_CLIENTS_DROPPED`; a new list.

        `request_id` is what `request_id` returned.
        """
        if prepared.trusted:
            fields = self._extended(head, prepared)
            fields.append((b"x-request-id", request_id))
            return fields
        if head.authority != prepared.authority or head.version != prepared.version:
            prepared.common = self._common(head, prepared)
            prepared.authority = head.authority
            prepared.version = head.version
        for name, _ in head.fields:
            if name == b"via":
                return [*prepared.common[:-1], self._via(head), (b"x-request-id", request_id)]
        return [*prepared.common, (b"x-request-id", request_id)]

    def _common(self, head: RequestHead, prepared: Prepared) -> Fields:
        """What a stranger's request gets; Via stands last."""
        authority = head.authority
        forwarded = prepared.element
        fields: Fields = [(b"x-forwarded-for", prepared.address), (b"x-forwarded-proto", prepared.proto)]
        if authority:
            forwarded += b";host=" + _quoted(authority)
            fields.append((b"x-forwarded-host", authority))
        fields.append((b"x-forwarded-port", _port(authority, prepared.conn.secure)))
        fields.append((b"forwarded", forwarded + b";proto=" + prepared.proto))
        fields.append((b"via", _VERSIONS[head.version] + b" " + self._pseudonym))
        return fields

    def _extended(self, head: RequestHead, prepared: Prepared) -> Fields:
        """What a trusted proxy's request gets: its own words, with ours after them."""
        own = dict(self._common(head, prepared))
        told: dict[bytes, bytes] = {}
        fields: Fields = []
        for name, value in head.fields:
            if name in _WRITTEN:
                told[name] = told[name] + b", " + value if name in told else value
            elif name in _PASSED_ON:
                fields.append((name, value))
        for name in (b"x-forwarded-for", b"forwarded", b"via"):
            fields.append((name, told[name] + b", " + own[name] if name in told else own[name]))
        proto = told.get(b"x-forwarded-proto", b"").lower()
        fields.append((b"x-forwarded-proto", proto if proto in (b"http", b"https") else prepared.proto))
        for name in (b"x-forwarded-host", b"x-forwarded-port"):
            value = told.get(name) or own.get(name, b"")
            if value:
                fields.append((name, value))
        return fields

    def _via(self, head: RequestHead) -> Field:
        values = [value for name, value in head.fields if name == b"via"]
        return b"via", b", ".join([*values, _VERSIONS[head.version] + b" " + self._pseudonym])

    def request_id(self, head: RequestHead, prepared: Prepared, fresh: bytes) -> bytes:
        """The id of a request: a trusted proxy's, when it is 8 to 128 of ``A-Z a-z 0-9 . _ -``, else `fresh`."""
        if prepared.trusted:
            told = [value for name, value in head.fields if name == b"x-request-id"]
            if len(told) == 1 and _SANE_ID.fullmatch(told[0]) is not None:
                return told[0]
        return fresh

    def is_trusted(self, peer: str) -> bool:
        """Whether a peer's address lies in `trusted_proxies`."""
        if not self._trusted:
            return False
        known = self._verdicts.get(peer)
        if known is None:
            address = _parse(peer)
            known = address is not None and any(_holds(network, address) for network in self._trusted)
            if len(self._verdicts) >= _MEMO_SIZE:
                self._verdicts.clear()
            self._verdicts[peer] = known
        return known

    def client_ip(self, head: RequestHead, conn: ConnectionInfo) -> str:
        """The address of the client behind trusted proxies; the peer's when nobody is trusted about it.

        Addresses are read from the right and each must be a trusted proxy's for the next one to count; one that is not
        an address (`unknown`, an obfuscated name) ends the search.
        """
        if not self.is_trusted(conn.peer):
            return conn.peer
        client = conn.peer
        for text in reversed(_told_addresses(head)):
            address = _parse(text)
            if address is None:
                break
            client = str(address)
            if not self.is_trusted(client):
                break
        return client


def _told_addresses(head: RequestHead) -> list[str]:
    """The addresses of X-Forwarded-For, else of Forwarded (RFC 7239 section 5.2), in their order, without ports."""
    told = b",".join([value for name, value in head.fields if name == b"x-forwarded-for"])
    if told:
        return [_without_port(part.strip()) for part in told.decode("latin-1").split(",")]
    told = b",".join([value for name, value in head.fields if name == b"forwarded"])
    return [found[2] for found in _FOR.finditer(told.decode("latin-1"))]


def _without_port(text: str) -> str:
    """Some proxies write ``192.0.2.1:4711`` or ``[2001:db8::1]:4711``."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address without its zone; an IPv4 address that is mapped into IPv6 as what it is."""
    try:
        address = ip_address(text.partition("%")[0].strip("[]"))
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _holds(network: Network, address: IPv4Address | IPv6Address) -> bool:
    return network.version == address.version and address in network


def _quoted(value: bytes) -> bytes:
    """A token or a quoted string (RFC 7239 section 4); an authority holds nothing that would need a backslash."""
    return value if _TOKEN.fullmatch(value) is not None else b'"' + value + b'"'


def _port(authority: bytes, secure: bool) -> bytes:
    port = split_authority(authority)[1]
    return b"%d" % (port if port is not None else 443 if secure else 80)
