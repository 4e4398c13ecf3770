"""`edge init`: writes a commented edge.toml that passes `edge check`, and never over something that is there.

The text is loaded before it is written, exactly as `edge check` would load it, so that a key which does not belong to its
certificate is told now and not at the first start.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from edge.cli.development import certificate_for, host_name
from edge.cli.loading import load_settings
from edge.cli.locate import shipped
from edge.cli.terminal import Exit, Stop, answer, note
from edge.cli.versions import number

__all__ = ["run"]

_SCHEMES = ("http", "https", "h2c")
_CERTBOT = Path("/etc/letsencrypt/live")
_COMMAND = "/usr/bin/env edge"
_UNIT_FILE = "/etc/edge/edge.toml"

_HEAD = """\
# edge {version}, for {name}. Every key with its default and its reason: edge help keys
# After a change: edge check
"""

_LOW_PORTS = """
# Without a [[listener]]: port 443 with TLS, and port 80 with a redirect to it. Other ports, for example:
# [[listener]]
# name = "https"
# address = ":8443"                     # both families; "127.0.0.1:8443" for this machine alone
"""

_HIGH_PORTS = """
# Ports that need no root. Without these tables: port 443 with TLS, and port 80 with a redirect to it.
[[listener]]
name = "https"
address = ":8443"                       # both families; "127.0.0.1:8443" for this machine alone

[[listener]]
name = "http"
address = ":8080"
tls = "off"
redirect = "https"
"""

_SERVER = """
[server]
{comment}user = "edge"                           # what the workers become; the supervisor stays root to read keys{how}
"""

_HOST = """
[[host]]
{names:<40}# more names: the certificate has to cover them
{certificate}
upstream = "app"
{client_auth}
[upstream.app]
endpoints = [{to}]
# health = {{ path = "/healthz", interval = "5s" }}

# A part of the host that goes elsewhere. The most exact path wins; the order means nothing.
# [[route]]
# host = {name}
# path = "/files/"                      # ends in "/": everything below it
# upstream = "http://127.0.0.1:9000"

# [limits]
# request_body = "10MiB"                # "off" for no limit
"""

_MTLS = """
[host.client_auth]                      # no certificate of this CA, no connection
mode = "require"
trust = "clients"

[trust.clients]
ca = [{ca}]
"""


def run(args: argparse.Namespace) -> int:
    """Write the file. Raises Stop for a wrong argument, a file that is there already, or settings that do not hold together."""
    if args.acme is not None:
        raise Stop(
            Exit.USAGE, "--acme is not in this version", "Give --cert and --key, or leave them out for a development certificate."
        )
    if (args.cert is None) != (args.key is None):
        raise Stop(Exit.USAGE, "--cert and --key belong together", "edge init --help")
    name, to = host_name(args.name), _upstream(args.to)
    output = args.output or getattr(args, "config", None) or "edge.toml"
    if output == "-" and args.systemd:
        raise Stop(Exit.USAGE, "--systemd writes edge.service beside the file, so it needs a file", "Leave out: -o -")
    path, unit = Path(output), Path(output).parent / "edge.service"
    for existing in [path, *([unit] if args.systemd else [])]:
        if output != "-" and (existing.exists() or existing.is_symlink()):
            raise Stop(Exit.NOT_FINE, f"{existing} exists already; it is left as it is", "Write elsewhere with -o FILE")
    certificate, told = _certificate(args, name)
    written = _text(name, to, certificate, ca=args.mtls, systemd=args.systemd, root=os.geteuid() == 0)
    load_settings(Path("edge.toml") if output == "-" else path, text=written)
    if output == "-":
        answer(written.rstrip("\n"))
        for line in told:
            note(line)
        return Exit.FINE
    _write(path, written)
    told.insert(0, f"Wrote {path}.")
    if args.systemd:
        _write(unit, _unit(path))
        told.append(f"Wrote {unit}. How to install it: edge help deploying")
    for line in told:
        note(line)
    at = "" if path == Path("edge.toml") and os.geteuid() != 0 else f" --config {shlex.quote(str(path))}"
    note(f"Next: edge check{at} && edge run{at}")
    return Exit.FINE


def _text(name: str, to: str, certificate: str, *, ca: str | None, systemd: bool, root: bool) -> str:
    """The file's text. `certificate` is the line that names it; `ca` the CA of the clients, if they have to show one."""
    parts = [_HEAD.format(version=number(), name=name), _LOW_PORTS if root or systemd else _HIGH_PORTS]
    if systemd:
        known = _user_exists("edge")
        parts.append(_SERVER.format(comment="" if known else "# ", how="" if known else "\n# (first: useradd --system edge)"))
    auth = _MTLS.format(ca=_quoted(str(Path(ca).absolute()))) if ca else ""
    names = f"names = [{_quoted(name)}] "
    parts.append(_HOST.format(names=names, name=_quoted(name), certificate=certificate, to=_quoted(to), client_auth=auth))
    return "".join(parts)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _user_exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _upstream(to: str) -> str:
    """The URL; a bare port or host:port means http, as everybody who writes it means."""
    example = "For example: --to http://127.0.0.1:8000"
    if to.startswith("unix:/"):
        return to
    if to.isdecimal() and to.isascii():
        to = f"127.0.0.1:{to}"
    url = to if "://" in to else f"http://{to}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Stop(Exit.USAGE, f"--to {to!r} is not a URL", example) from None
    if parts.scheme not in _SCHEMES or not host:
        raise Stop(Exit.USAGE, f"--to {to!r}: the scheme has to be {', '.join(_SCHEMES)} or unix:", example)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise Stop(
            Exit.USAGE,
            f"--to {to!r} has a path; an upstream is a server",
            "A path is added by a route's `rewrite`: edge help routing",
        )
    return f"{parts.scheme}://{parts.netloc}"


def _certificate(args: argparse.Namespace, name: str) -> tuple[str, list[str]]:
    """The line for the host, and what to tell about it."""
    if args.cert is not None:
        return _pair(Path(args.cert).absolute(), Path(args.key).absolute()), []
    live = _CERTBOT / name
    if os.access(live / "privkey.pem", os.R_OK):
        return f"certificates = [{{ dir = {_quoted(str(live))} }}]", [f"The certificate is certbot's, in {live}."]
    made = certificate_for([name])
    return (
        f"# For development: nobody else trusts this certificate. Its CA: {made.ca}\n{_pair(made.chain, made.key)}",
        ["No --cert and --key: the file names a development certificate, which only this machine trusts.", f"Its CA: {made.ca}"],
    )


def _pair(chain: Path, key: Path) -> str:
    return f"certificates = [{{ chain = {_quoted(str(chain))}, key = {_quoted(str(key))} }}]"


def _write(path: Path, text: str) -> None:
    """Create `path`, or fail if somebody was quicker: what is there is never overwritten."""
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)


def _unit(path: Path) -> str:
    """The shipped unit, with this installation's command and this file."""
    beside = Path(sys.executable).with_name("edge")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("edge")
    command = shlex.quote(found) if found else f"{shlex.quote(sys.executable)} -m edge"
    shown = shipped("config", "edge.service").read_text(encoding="utf-8")
    return shown.replace(_COMMAND, command).replace(_UNIT_FILE, shlex.quote(str(path.absolute())))
