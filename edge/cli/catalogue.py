"""The commands: their names, what each is for, and where its code lives.

One list from which the start page, `--help`, the completions, the suggestions and the README's test are made. A command
that a later version brings is a known name already: it says so, says what to do meanwhile, and ends with 2.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COMMANDS", "LATER", "NAMES", "Command"]


@dataclass(frozen=True, slots=True)
class Command:
    """`module` is imported only when the command runs; it holds ``run(args) -> int``."""

    name: str
    summary: str
    group: str
    module: str


COMMANDS: tuple[Command, ...] = (
    Command("proxy", "TLS in front of a local port, without a file", "Start", "edge.cli.proxy"),
    Command("demo", "a gateway in front of a demo service, to try things on", "Start", "edge.cli.proxy"),
    Command("init", "write a commented edge.toml", "Start", "edge.cli.init"),
    Command("run", "run the gateway in the foreground", "Run", "edge.cli.run"),
    Command("check", "find every mistake in the configuration", "Look", "edge.cli.check"),
    Command("routes", "which host and path goes where", "Look", "edge.cli.routes"),
    Command("explain", "what would happen to one request, and which line decides it", "Look", "edge.cli.explain"),
    Command("pin", "the pins of a server's chain, or of a certificate", "Look", "edge.cli.pin"),
    Command("bench", "measure handshakes and requests", "Look", "edge.cli.bench"),
    Command("schema", "print the JSON Schema of edge.toml, for editors", "Help", "edge.cli.schema"),
    Command("completion", "print the completions for a shell", "Help", "edge.cli.completion"),
    Command("help", "read the manual", "Help", "edge.cli.manual"),
)

NAMES: tuple[str, ...] = tuple(command.name for command in COMMANDS)

LATER: dict[str, str] = {
    "diff": "Until then: compare the output of `edge check --effective` for both files.",
    "reload": "Until then: restart the service, it drains its connections first.",
    "stop": "Until then: send SIGTERM to the gateway (systemctl stop edge), it drains its connections first.",
    "status": "Until then: ask the service manager (systemctl status edge).",
    "upgrade": "Until then: restart the service.",
    "certs": "Until then: `edge check` warns of certificates that have expired or are not valid yet.",
    "failures": "Until then: failed handshakes stand in the event log, see `edge help logs`.",
    "upstreams": "Until then: `edge routes` shows the upstreams, the event log their health.",
    "top": "",
    "scan": "",
    "csr": "",
    "ca": "Until then: `edge proxy` and `edge demo` keep a development CA of their own.",
    "k8s": "",
    "acme": "Until then: name files that certbot or another client renews, see `edge help certificates`.",
}
