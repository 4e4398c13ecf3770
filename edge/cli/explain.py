"""`edge explain URL`: what would happen to one request, and which line of the settings decides each step. Sends nothing."""

from __future__ import annotations

import argparse
import re
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from edge.cli.loading import settings_for
from edge.cli.terminal import Exit, Stop, answer, paint, print_json, printable
from edge.errors import Fault
from edge.http.fields import parse_authority, split_authority
from edge.settings.model import Place

__all__ = ["run"]

_URL = re.compile(r"(https?)://([^/?#]+)([/?][^#]*)?(#.*)?", re.IGNORECASE | re.DOTALL)


def run(args: argparse.Namespace) -> int:
    """Print the steps; 0 when the request would be answered or relayed, 1 when it would be refused."""
    from edge.cli.steps import Question
    from edge.cli.trace import trace

    secure, authority, port, target = _url(args.url)
    usual = 443 if secure else 80
    try:
        source = str(ip_address(args.source))
    except ValueError:
        raise Stop(Exit.USAGE, f"--from {args.source!r} is not an address", "For example: --from 203.0.113.9") from None
    certificate = Path(args.cert).read_bytes() if args.cert else None
    question = Question(
        secure=secure,
        authority=authority,
        port=usual if port is None else port,
        port_is_written=port is not None,
        target=target,
        method=args.method,
        headers=tuple(_header(text) for text in args.header),
        sni=args.sni,
        certificate=certificate,
        source=source,
    )
    found = trace(settings_for(args), question)
    fine = found.action in ("relay", "redirect", "respond", "wait")
    if getattr(args, "json", False):
        steps = [
            {"about": step.about, "outcome": step.outcome, "place": _where(step.place) or None, "more": list(step.more)}
            for step in found.steps
        ]
        result: dict[str, Any] = {"url": args.url, "action": found.action, "status": found.status or None, "steps": steps}
        if found.reason:
            result["reason"] = found.reason
        if found.location:
            result["location"] = found.location
        print_json(result)
        return Exit.FINE if fine else Exit.NOT_FINE
    for step in found.steps:
        where = f"   {paint(_where(step.place), 'dim', sys.stdout)}" if step.place.line else ""
        about = paint(f"{step.about:<10}", "red" if step.about == "refused" else "bold", sys.stdout)
        answer(f"{about} {printable(step.outcome)}{where}")
        for line in step.more:
            answer(f"{'':<10}   {printable(line)}")
    return Exit.FINE if fine else Exit.NOT_FINE


def _where(place: Place) -> str:
    return f"{place.file}:{place.line}" if place.line else ""


def _url(url: str) -> tuple[bool, str, int | None, bytes]:
    """TLS or not, the authority, the port if one is written, and the target as a client would send it: nothing is tidied up."""
    found = _URL.fullmatch(url if "://" in url else f"https://{url}")
    example = "For example: edge explain https://api.example.com/v1/orders/7"
    if found is None:
        raise Stop(Exit.USAGE, f"{url!r} is not a URL with http:// or https://", example)
    secure = found[1].lower() == "https"
    try:
        authority = parse_authority(found[2].encode("ascii"))
    except UnicodeEncodeError:
        raise Stop(
            Exit.USAGE, f"{found[2]!r} is not ASCII; clients send its other form", f"Write: {_ascii_form(found[2])}"
        ) from None
    except Fault as fault:
        raise Stop(Exit.USAGE, f"{found[2]!r} is not a host ({fault.detail})", example) from None
    rest = found[3] or ""
    return (
        secure,
        authority.decode("ascii"),
        split_authority(authority)[1],
        (rest if rest.startswith("/") else f"/{rest}").encode(),
    )


def _ascii_form(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return "xn--…"


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name or "\n" in text or "\r" in text:
        raise Stop(Exit.USAGE, f"-H {text!r} is not a header", "For example: -H 'X-Canary: 1'")
    return name, value.strip()
