"""The steps before there is a request: which listener takes the connection, which host its handshake finds, and whether that
host lets the client in.

As for all steps nothing is decided here: names are found by the index that the listeners use, a certificate is judged by the
rules and the revocation lists that the handshake asks, and its chain as `edge.cli.client_certificate` says. A handshake that
fails ends the trace with an alert and without a status.
"""

from __future__ import annotations

from ipaddress import ip_address

from edge.cli.client_certificate import leaf_of, names_of, verdict
from edge.cli.steps import Question, Trace
from edge.http.fields import split_authority
from edge.http.message import ConnectionInfo
from edge.settings.client_rules import admitting, rule_text
from edge.settings.model import ClientAuthMode, Host, Listener, Place, Settings, Stream
from edge.settings.names import NameIndex, canonical
from edge.tls.revocation import revocation_of

__all__ = ["handshake", "listener_of", "relayed"]


def listener_of(settings: Settings, question: Question, found: Trace) -> Listener | None:
    """The listener on the URL's port; None when nothing there speaks what the URL asks for, which was told."""
    on_port = [one for one in settings.listeners if any(address.port == question.port for address in one.addresses)]
    named = split_authority(question.authority.encode("latin-1", "replace"))[0]
    exact = [one for one in on_port if any(address.host == named for address in one.addresses)]
    notes: list[str] = []
    if not on_port and not question.port_is_written:
        on_port = [one for one in settings.listeners if one.tls == question.secure]
        notes.append(f"none listens on port {question.port}, so this one was taken; another one: write its port into the URL")
    if not on_port:
        ports = sorted({address.port for one in settings.listeners for address in one.addresses if address.port})
        there = ", ".join(f":{port}" for port in ports)
        found.add("listener", f"none listens on port {question.port}", more=[f"there are: {there}"])
        found.end("refuse", reason="no-listener")
        return None
    chosen = (exact or on_port)[0]
    notes += [f"also possible: {one.name}" for one in on_port if one is not chosen]
    shown = f"{chosen.name} ({_addresses(chosen)}, {'TLS' if chosen.tls else 'plain'})"
    found.add("listener", shown + ("" if chosen.place.line else ", a default"), chosen.place, notes)
    if question.secure and not chosen.tls:
        found.add("handshake", "fails: this listener speaks plain HTTP")
        found.end("refuse", reason="plain-listener")
        return None
    if chosen.tls and not question.secure:
        found.add("handshake", "none came: plain HTTP on a TLS listener is answered with 400", more=["Ask with https://"])
        found.end("refuse", 400, "not-tls")
        return None
    return chosen


def _addresses(listener: Listener) -> str:
    return ", ".join(one.text for one in listener.addresses)


def handshake(settings: Settings, question: Question, listener: Listener, conn: ConnectionInfo, found: Trace) -> bool:
    """The host and what its handshake asks for, which `conn` then says; False when it fails or becomes a stream."""
    hosts = [host for host in settings.hosts if listener.name in host.listeners]
    index: NameIndex[Host] = NameIndex((name, host) for host in hosts for name in host.names)
    sni = _sni(question)
    if sni:
        host = index.find(canonical(sni))
        if host is None and listener.stream is not None:
            relayed(listener.stream, listener.place, f"no host has the name {sni}: the listener passes it through", found)
            return False
        if host is None:
            found.add("host", f"no host has the name {sni}: the handshake is refused", more=["alert: unrecognized_name"])
            found.end("alert", reason="unknown-sni")
            return False
        found.add("host", f"{', '.join(host.names)} (the handshake names {sni})", host.place)
        conn.sni = sni
    else:
        host = index.find(listener.no_sni) if listener.no_sni is not None else None
        if host is None and listener.stream is not None:
            relayed(listener.stream, listener.place, "no name in the handshake: the listener passes it through", found)
            return False
        if host is None:
            found.add("host", "no name in the handshake, and `no_sni` refuses that", listener.place, ["alert: unrecognized_name"])
            found.end("alert", reason="no-sni")
            return False
        found.add("host", f"{', '.join(host.names)} (no name in the handshake: `no_sni`)", host.place)
    conn.host = host
    if host.stream is not None and host.stream.passthrough:
        relayed(host.stream, host.place, "TLS goes on to the upstream as it is", found)
        return False
    conn.alpn = host.tls.alpn[0].encode() if host.tls.alpn else b""
    versions = " and ".join(dict.fromkeys([host.tls.min_version, host.tls.max_version]))
    kinds = ", ".join(f"{one.key_type} ({one.name})" for one in host.certificates)
    place = host.certificates[0].place if host.certificates else host.place
    found.add(
        "context", f"TLS {versions}; {', '.join(host.tls.alpn)}", place if place.line else host.place, [f"certificates: {kinds}"]
    )
    admitted = _client_certificate(question, host, conn, found)
    if admitted and host.stream is not None:
        relayed(host.stream, host.place, "TLS ends here, and the bytes go on", found)
        return False
    return admitted


def relayed(stream: Stream, place: Place, why: str, found: Trace) -> None:
    """The connection is a stream: its bytes go to the upstream, and no request is read."""
    found.add("stream", why, place, [f"upstream: {', '.join(target.upstream.name for target in stream.targets)}"])
    found.end("relay")


def _sni(question: Question) -> str:
    if question.sni is not None:
        return question.sni
    name = split_authority(question.authority.encode("latin-1", "replace"))[0]
    try:
        ip_address(name)
    except ValueError:
        return name
    return ""  # clients do not send addresses (RFC 6066 section 3)


def _client_certificate(question: Question, host: Host, conn: ConnectionInfo, found: Trace) -> bool:
    auth = host.client_auth
    if auth.mode is ClientAuthMode.OFF or auth.trust is None:
        found.add("client", "no certificate is asked for")
        return True
    asked = f"a certificate of {auth.trust.name!r} is {'required' if auth.mode is ClientAuthMode.REQUIRE else 'asked for'}"
    if question.certificate is None:
        if auth.mode is ClientAuthMode.REQUEST:
            found.add("client", f"{asked}; none is shown, which is accepted", host.place)
            return True
        found.add("client", f"{asked}; none is shown: the handshake fails", host.place, ["show one: --cert FILE"])
        found.end("alert", reason="client-certificate-missing")
        return False
    refused = verdict(question.certificate, auth)
    found.add("client", f"{asked}; " + (f"this one is refused: {refused}" if refused else "this one is verified"), host.place)
    if refused:
        found.end("alert", reason="client-certificate-refused")
        return False
    leaf = leaf_of(question.certificate)
    revocation = revocation_of(auth.trust)
    revoked = revocation.objection(leaf) if revocation is not None else None
    if revoked is not None:
        found.add("revocation", f"{revoked[0]}: {revoked[1]}; the handshake fails", host.place)
        found.end("alert", reason=f"client-certificate-{revoked[0]}")
        return False
    if auth.allow:
        rule = admitting(auth.allow, leaf)
        if rule is None:
            found.add(
                "allow", "no rule admits it: the handshake fails", host.place, [*map(rule_text, auth.allow), *names_of(leaf)]
            )
            found.end("alert", reason="client-certificate-not-allowed")
            return False
        found.add("allow", f"admitted by: {rule_text(rule)}", host.place)
    conn.client = leaf
    return True
