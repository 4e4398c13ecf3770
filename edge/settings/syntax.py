"""The small languages inside strings: host names, addresses, URLs of endpoints, paths with templates, header fields.

Each reader takes the text and returns what it means, or raises `Bad` with what is wrong and what to write instead.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import quote

from edge.settings.model import Address, Endpoint, Scheme
from edge.settings.names import canonical

__all__ = [
    "LISTENERS_OWN", "Bad", "endpoint", "field_name", "field_value", "host_name", "is_address", "is_url", "listen_addresses",
    "method", "rewrite_path", "route_path", "target_template",
]  # fmt: skip

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(
    r"(?![ \t])[^\x00-\x08\n-\x1f\x7f]*(?<![ \t])"
)  # what it is not: a range up to U+10FFFF takes 8 ms to compile
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?", re.ASCII)
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DECODED = _UNRESERVED | frozenset("!$&'()*+,;=:@")
_PATH_CHARACTERS = _DECODED | frozenset("/%{}")
_TWICE = re.compile(r"%25([0-9A-Fa-f]{2})", re.ASCII)
_DOT_PARAMETERS = re.compile(r"/\.\.?;")
_HIDDEN = _DECODED | frozenset("/\\\0%?#")
_PORTS = {Scheme.HTTP: 80, Scheme.HTTPS: 443, Scheme.H2C: 80, Scheme.TCP: 0, Scheme.TLS: 0}  # 0: must be written
# What frames a message or speaks of one connection only (RFC 9110 section 7.6.1).
_FRAMING = frozenset(
    {
        "connection", "content-length", "expect", "http2-settings", "keep-alive", "proxy", "proxy-authenticate",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


class Bad(ValueError):
    """A text that means nothing here."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.mend = mend


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address, without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _dns_name(name: str) -> bool:
    labels = name.split(".")
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()


def host_name(text: str) -> str:
    """A host's name in canonical form: a DNS name, a wildcard of one label, or an address."""
    name = canonical(text)
    if "://" in name:
        raise Bad(f"'{text}' is a URL, not a host name", f'write "{name.split("://", 1)[1].split("/")[0]}"')
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if is_address(bare):
        return str(ipaddress.ip_address(bare))
    if ":" in name or "/" in name:
        raise Bad(f"'{text}' is not a host name: it has a port or a path", f'write "{re.split("[:/]", name)[0]}"')
    if not name.isascii():
        try:
            mend = f'write "{name.encode("idna").decode("ascii")}"'
        except UnicodeError:
            mend = ""
        raise Bad(f"'{text}' is not in the form that travels", mend)
    parent = name.removeprefix("*.")
    if "*" in parent:
        raise Bad(f"'{text}': a wildcard is the whole first label", 'write for example "*.example.com"')
    if not _dns_name(parent):
        raise Bad(f"'{text}' is not a host name")
    return name


LISTENERS_OWN = "*"  # no name that FileDescriptorName= can have
_PASSED = re.compile(r"[!-)+-9;-~]{1,255}")  # systemd.socket(5): no control characters, no colon


def _port(text: str, whole: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:7]) <= 65535:
        raise Bad(f"'{whole}': a port is a number from 1 to 65535")
    return int(text)


def listen_addresses(text: str) -> tuple[Address, ...]:
    """``:443`` (both families), ``192.0.2.1:443``, ``[2001:db8::1]:443``, or ``systemd:NAME``, a socket that is passed to us.

    After ``systemd`` alone the name is empty: it is the listener's.
    """
    word, named, passed = text.partition(":")
    if word == "systemd":
        if named and not _PASSED.fullmatch(passed):
            raise Bad(f"'{text}' does not name a socket of the service manager", 'write "systemd" or "systemd:NAME"')
        return (Address(passed=passed or LISTENERS_OWN),)
    if text.isascii() and text.isdigit():
        raise Bad(f"'{text}' is not an address with a port", f'write ":{text}"')
    host, colon, digits = text.rpartition(":")
    if not colon:
        raise Bad(f"'{text}' is not an address with a port", f'write "{text}:443"')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not is_address(host) or ":" not in host:
            raise Bad(f"'{text}' is not an address with a port", 'write for example "[2001:db8::1]:443"')
    elif ":" in host:
        mend = f'write "[{host}]:{digits}"' if is_address(host) else 'write for example "[2001:db8::1]:443"'
        raise Bad(f"'{text}': an IPv6 address stands in brackets", mend)
    port = _port(digits, text)
    if host == "":
        return Address(host="0.0.0.0", port=port), Address(host="::", port=port)
    if host == "*":
        raise Bad(f"'{text}': all addresses are written without a star", f'write ":{port}"')
    if not is_address(host):
        mend = f'write "127.0.0.1:{port}" or "[::1]:{port}"' if host == "localhost" else f'write ":{port}" for all addresses'
        raise Bad(f"'{text}': a listener is bound to an address, not to a name", mend)
    return (Address(host=str(ipaddress.ip_address(host)), port=port),)


def is_url(text: str) -> bool:
    """Whether an upstream is written as a URL instead of a name."""
    return "://" in text or text.startswith("unix:")


def endpoint(text: str, weight: int = 1) -> Endpoint:
    """``http://``, ``https://``, ``h2c://`` with a host and perhaps a port; ``tcp://``, ``tls://`` with one; ``unix:/path``."""
    if text.startswith("unix:"):
        path = text[5:].removeprefix("//")
        if not path.startswith("/") or "\0" in path:
            raise Bad(f"'{text}': the path of a socket is absolute", "write unix:/run/app.sock")
        if len(path.encode("utf-8", "surrogatepass")) > 107:
            raise Bad(f"'{text}': the path of a socket has at most 107 bytes")
        return Endpoint(url=text, scheme=Scheme.HTTP, address=Address(path=path), weight=weight)
    word, found, rest = text.partition("://")
    if not found:
        raise Bad(f"'{text}' is not a URL", f'write "http://{text}"')
    if word not in ("http", "https", "h2c", "tcp", "tls"):
        lower = word.lower()
        hint = {"h2": "https", "grpc": "h2c", "grpcs": "https"}.get(lower, lower if lower in ("http", "https", "h2c") else "http")
        raise Bad(f"'{word}://' is not possible here", f'write "{hint}://{rest}"')
    scheme = Scheme(word)
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if rest[len(authority) :] not in ("", "/"):
        raise Bad(f"'{text}': an endpoint has no path", "write rewrite or strip_prefix in the route")
    if rest.endswith("/"):
        raise Bad(
            f"'{text}': an endpoint has no path",
            f'write "{word}://{authority}", and strip_prefix in the route to cut a prefix off',
        )
    if "@" in authority:
        raise Bad("an endpoint with a user in it", "write request_headers = { set = { Authorization = … } }")
    address = _authority(authority, text, _PORTS[scheme])
    if not address.port:
        raise Bad(f"'{text}' needs a port", f'write for example "{word}://{authority}:5432"')
    return Endpoint(url=text, scheme=scheme, address=address, weight=weight)


def _authority(authority: str, whole: str, default: int) -> Address:
    host, colon, digits = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, digits = authority, ""
    if colon and not digits and not authority.endswith("]"):
        raise Bad(f"'{whole}': a port is missing after ':'")
    port = _port(digits, whole) if digits else default
    if host.startswith("["):
        if not host.endswith("]") or not is_address(host[1:-1]) or ":" not in host:
            raise Bad(f"'{whole}': not an IPv6 address in brackets", 'write for example "http://[2001:db8::1]:8000"')
        return Address(host=str(ipaddress.ip_address(host[1:-1])), port=port)
    if ":" in host:
        mend = f'write "[{authority}]"' if is_address(authority) else ""
        raise Bad(f"'{whole}': an IPv6 address stands in brackets", mend)
    name = canonical(host)
    if not is_address(name) and not _dns_name(name):
        raise Bad(f"'{whole}' names no host" if not host else f"'{whole}': '{host}' is not a host name")
    return Address(host=name, port=port)


def _check_characters(path: str) -> None:
    for character in path:
        if character not in _PATH_CHARACTERS:
            if character in "?#":
                raise Bad(f"'{path}': a path ends before '{character}'", "queries are not matched, and always forwarded")
            raise Bad(f"'{path}': '{character}' cannot stand in a path", f'write "{quote(path, safe="/%:@!$&()*+,;={}~")}"')
    for found in _ESCAPE.finditer(path):
        if found[1] is None:
            raise Bad(
                f"'{path}': '%' without two hexadecimal digits", f'write "{_ESCAPE.sub(lambda m: m[0] if m[1] else "%25", path)}"'
            )


def _normal(path: str) -> str:
    """The form in which paths are matched."""

    def unescape(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        return character if character in _DECODED else found[0].upper()

    segments: list[str] = []
    parts = _ESCAPE.sub(unescape, path).split("/")[1:]
    for index, segment in enumerate(parts):
        last = index == len(parts) - 1
        if segment in (".", ".."):
            if segment == ".." and segments:
                segments.pop()
            if last:
                segments.append("")
        elif segment or last:
            segments.append(segment)
    return "/" + "/".join(segments)


def route_path(text: str) -> tuple[str, tuple[str, ...]]:
    """A route's path and the names of its template segments, in order. The path is in the form that is matched."""
    if not text.startswith("/"):
        raise Bad(f"'{text}': a path begins with '/'", f'write "/{text}"')
    _check_characters(text)
    names: list[str] = []
    for segment in text.split("/")[1:]:
        if "*" in segment and segment.strip("*") == "":
            raise Bad(
                f"'{text}': there is no '*'; a path that ends in '/' means everything below it", f'write "{text.rstrip("*")}"'
            )
        if "{" not in segment and "}" not in segment:
            continue
        found = _PLACEHOLDER.fullmatch(segment)
        if found is None or _NAME.fullmatch(found[1]) is None:
            raise Bad(f"'{text}': a template is one whole segment with a name", "write for example /orders/{id}")
        if found[1] in names:
            raise Bad(f"'{text}': two templates of one name, '{found[1]}'")
        names.append(found[1])
    for found in _ESCAPE.finditer(text):
        if found[1].lower() in ("2f", "5c", "00"):
            raise Bad(f"'{text}': {found[0]} is never accepted in a path")
    if any(chr(int(found[1], 16)) in _HIDDEN for found in _TWICE.finditer(text)):
        raise Bad(f"'{text}': a path that is escaped twice is never accepted")
    if _DOT_PARAMETERS.search(text) is not None:
        raise Bad(f"'{text}': a dot segment with parameters is never accepted in a path")
    normal = _normal(text)
    if normal != text:
        raise Bad(f"'{text}' is not in the form that is matched", f'write "{normal}"')
    return text, tuple(names)


def target_template(text: str, names: tuple[str, ...], what: str) -> str:
    """A text with placeholders: all must be among `names`."""
    for found in _PLACEHOLDER.finditer(text):
        if found[1] not in names:
            known = ", ".join(f"{{{name}}}" for name in names) or "none here"
            raise Bad(f"{what}: {{{found[1]}}} is not known", f"there is: {known}")
    if "{" in _PLACEHOLDER.sub("", text) or "}" in _PLACEHOLDER.sub("", text):
        raise Bad(f"{what}: a single brace in '{text}'", "write %7B or %7D")
    return text


def rewrite_path(text: str, names: tuple[str, ...]) -> str:
    """The path that an upstream receives; may hold the names of the route's path."""
    if not text.startswith("/"):
        raise Bad(f"'{text}': a path begins with '/'", f'write "/{text}"')
    _check_characters(text)
    normal = _normal(text)
    if normal != text:
        raise Bad(f"'{text}' is not in the form that is sent", f'write "{normal}"')
    return target_template(text, names, "rewrite")


def method(text: str) -> str:
    """A request method (RFC 9110 section 9.1); methods are case-sensitive."""
    if _TOKEN.fullmatch(text) is None:
        raise Bad(f"'{text}' is not a method")
    if text != text.upper() and text.upper() in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
        raise Bad(f"'{text}': methods are written in capitals", f'write "{text.upper()}"')
    if text == "CONNECT":
        raise Bad("CONNECT is never relayed: edge is no forward proxy")
    return text


def field_name(text: str, *, setting: bool) -> bytes:
    """A header field's name, lower-case. `setting`: it is to be written, so it must not be one that frames the message."""
    if _TOKEN.fullmatch(text) is None:
        raise Bad(f"'{text}' is not a header field's name")
    name = text.lower()
    if name in _FRAMING:
        raise Bad(f"'{text}' frames the message or belongs to one connection: edge decides it itself")
    if name == "host":
        raise Bad("'Host' is not set by header rules", "write upstream_host in the route")
    if setting and name == "strict-transport-security":
        raise Bad(f"'{text}' has its own key", "write hsts = { … }")
    return name.encode("ascii")


def field_value(text: str) -> bytes:
    """A header field's value (RFC 9110 section 5.5), as UTF-8."""
    if _VALUE.fullmatch(text) is None:
        raise Bad("a header field's value with a control character in it, or a space at its edge")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise Bad("a header field's value that is not UTF-8") from None
