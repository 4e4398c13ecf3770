"""`edge proxy` and `edge demo`: a gateway without a file, on this machine, with a certificate of the development CA."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from typing import TYPE_CHECKING

from edge.cli.development import certificate_for, host_name, settings_from
from edge.cli.terminal import Exit, Stop, note, paint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge.process import ExtraChild
    from edge.settings.model import Settings

__all__ = ["demo", "run", "settings_text"]

_TEXT = """\
[server]
workers = 1
drain = "3s"

[[listener]]
name = "https"
address = {https}
{http}
[[host]]
names = {names}
certificates = [{{ chain = {chain}, key = {key} }}]
upstream = "app"

[upstream.app]
endpoints = [{to}]
"""
_HTTP = """
[[listener]]
name = "http"
address = {http}
tls = "off"
redirect = "https:{port}"
"""


def settings_text(*, https: list[str], to: str, names: list[str], chain: Path, key: Path, http: list[str] | None = None) -> str:
    """Settings for one host in front of one upstream; `http` are addresses of a listener that redirects."""
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in
              (("https", https), ("names", names), ("to", to), ("chain", str(chain)), ("key", str(key)))}  # fmt: skip
    redirect = _HTTP.format(http=json.dumps(http), port=https[0].rpartition(":")[2]) if http else ""
    return _TEXT.format(http=redirect, **quoted)


def run(args: argparse.Namespace) -> int:
    """One of the two commands. Runs until a signal ends it."""
    return demo(args) if args.command == "demo" else _proxy(args)


def _proxy(args: argparse.Namespace) -> int:
    names = [host_name(name) for name in args.name or []]
    listen = _addresses(args.listen)
    port = int(listen[0].rpartition(":")[2])
    to = f"http://127.0.0.1:{args.port}"
    if port == args.port:
        raise Stop(Exit.USAGE, f"--listen has the port of the service itself, {port}", "edge proxy PORT --listen 127.0.0.1:8443")
    made = certificate_for(names)
    settings = settings_from(settings_text(https=listen, to=to, names=["localhost", *names], chain=made.chain, key=made.key))
    urls = [f"https://{name}:{port}" if port != 443 else f"https://{name}" for name in ["localhost", *names]]
    return _serve(settings, f"{', '.join(urls)} in front of {to}", _curl(made.ca, f"{urls[0]}/"), [])


def demo(args: argparse.Namespace) -> int:
    """The gateway in front of the demo service."""
    from edge.control.demo import start
    from edge.process import ExtraChild

    made = certificate_for([])
    http = 8080 if args.port == 8443 else args.port % 65535 + 1
    service = start()
    settings = settings_from(
        settings_text(
            https=_local(args.port), http=_local(http), to=service.url, names=["localhost"], chain=made.chain, key=made.key
        )
    )
    url = f"https://localhost:{args.port}"
    about = [
        "Paths to try: / (a page that shows the others), /inspect, /bytes/1000000, /delay/2, /status/503, /events",
        f"http://localhost:{http} redirects here.",
    ]
    return _serve(
        settings, f"{url} in front of a demo service", _curl(made.ca, f"{url}/inspect"), about, ExtraChild("demo", service.run)
    )


def _curl(ca: Path, url: str) -> str:
    return f"curl --cacert {shlex.quote(str(ca))} {url}"


def _serve(settings: Settings, what: str, curl: str, about: Sequence[str], *children: ExtraChild) -> int:
    from edge.process import Serving
    from edge.process import run as run_gateway

    def ready(_serving: Serving) -> None:
        note(f"{paint('edge', 'bold', sys.stderr)}: {what}\n")
        note(f"  {paint(curl, 'cyan', sys.stderr)}\n")
        for line in about:
            note(f"  {line}")
        note("  Ctrl-C ends it. What follows is the access log.\n")
        sys.stderr.flush()

    return run_gateway(settings, on_ready=ready, extra_children=children)


def _local(port: int) -> list[str]:
    return [f"127.0.0.1:{port}", f"[::1]:{port}"]


def _addresses(listen: str) -> list[str]:
    """`--listen`, with localhost as both of its addresses. Raises Stop(USAGE) when there is no port."""
    host, _, port = listen.rpartition(":")
    if not (port.isdecimal() and port.isascii() and 1 <= int(port) <= 65535):
        raise Stop(Exit.USAGE, f"--listen {listen!r} has no port", "For example: --listen 127.0.0.1:8443, --listen :8443")
    return _local(int(port)) if host in ("localhost", "127.0.0.1") or (not host and ":" not in listen) else [listen]
