"""`edge help`: the manual, Markdown that ships in the package, shown by rich on a terminal and as it is elsewhere.

A topic is a file's name without `.md`; its first line is its title. A command's name is a topic too: it shows that
command's own help; so is the kind of a fault, and so is a key of the settings file (`request_body`, `limits.request_body`):
they show what the pages of errors and of keys say about them. The pages are plain Markdown, so that they read the same
in the repository.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from importlib import resources

import edge
from edge.cli.catalogue import LATER, NAMES
from edge.cli.faults import about
from edge.cli.keys import key_names, keys_named
from edge.cli.parser import build
from edge.cli.terminal import Exit, Stop, answer, colourful, nearest, page

__all__ = ["run", "topics"]

# In the order in which one reads them; pages that are not named here follow in the order of the alphabet.
_ORDER = (
    "start",
    "settings",
    "keys",
    "routing",
    "certificates",
    "tls",
    "mutual-tls",
    "pins",
    "revocation-and-ocsp",
    "resumption",
    "streams",
    "upstreams",
    "limits",
    "reload",
    "admin",
    "logs",
    "metrics",
    "errors",
    "runbooks",
    "deploying",
    "bench",
    "nginx",
    "migrating",
)
_MEANT = {
    "paths": "routing",
    "certificate": "certificates",
    "upstream": "upstreams",
    "timeouts": "limits",
    "handshakes": "limits",
    "mtls": "mutual-tls",
    "client-auth": "mutual-tls",
    "trust": "mutual-tls",
    "tickets": "resumption",
    "passthrough": "streams",
    "tcp": "streams",
    "proxy-protocol": "streams",
    "log": "logs",
    "fault": "errors",
    "ocsp": "revocation-and-ocsp",
    "revocation": "revocation-and-ocsp",
    "stapling": "revocation-and-ocsp",
    "health": "admin",
    "readiness": "admin",
    "systemd": "deploying",
    "container": "deploying",
    "kubernetes": "deploying",
    "haproxy": "migrating",
    "envoy": "migrating",
    "caddy": "migrating",
}


def topics() -> dict[str, str]:
    """Every page of the manual by its name, with its title."""
    found = {}
    for entry in (resources.files(edge) / "manual").iterdir():
        if entry.name.endswith(".md"):
            first = entry.read_text(encoding="utf-8").partition("\n")[0]
            found[entry.name.removesuffix(".md")] = first.lstrip("# ")
    rank = {name: index for index, name in enumerate(_ORDER)}
    return dict(sorted(found.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0])))


def _page(topic: str) -> str:
    return (resources.files(edge) / "manual" / f"{topic}.md").read_text(encoding="utf-8")


def run(args: argparse.Namespace) -> int:
    """One page, or the list of pages."""
    known = topics()
    if args.topic is None:
        width = max((len(name) for name in known), default=0) + 3
        answer("The manual. Read a page with: edge help TOPIC\n")
        for name, title in known.items():
            answer(f"  {name:<{width}}{title}")
        return Exit.FINE
    topic = args.topic.lower().removesuffix(".md")
    topic = topic if topic in known else _MEANT.get(topic, topic)
    if topic in known:
        _show(_page(topic))
        return Exit.FINE
    if said := [text for text in (_fault(topic), keys_named(args.topic)) if text]:
        answer("\n\n".join(said))
        return Exit.FINE
    if topic in NAMES:
        build().parse_args([topic, "--help"])
    if topic in LATER:
        raise Stop(Exit.USAGE, f"edge {topic} is not in this version", LATER[topic])
    kinds = re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", _page("errors"))
    meant = nearest(topic, [*known, *_MEANT, *NAMES, *kinds]) or nearest(topic.rpartition(".")[2], key_names())
    raise Stop(
        Exit.USAGE,
        f"the manual has no page {args.topic!r}",
        f"Did you mean: edge help {_MEANT.get(meant, meant)}" if meant else f"Pages: {', '.join(known)}",
    )


def _fault(kind: str) -> str:
    """What the page of errors says about one kind of fault, or ``""``."""
    found = about(kind)
    return "\n".join([kind, *(f"  {name}: {text}" for name, text in found), "All of them: edge help errors"]) if found else ""


def _show(text: str) -> None:
    if not sys.stdout.isatty():
        answer(text.rstrip("\n"))
        return
    from io import StringIO

    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(
        file=StringIO(),
        force_terminal=colourful(sys.stdout),
        color_system="standard" if colourful(sys.stdout) else None,
        width=min(shutil.get_terminal_size().columns, 110),
    )
    console.print(Markdown(text, code_theme="ansi_dark", hyperlinks=False))
    rendered: StringIO = console.file  # type: ignore[assignment]
    page(rendered.getvalue())
