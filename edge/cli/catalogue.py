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
    Command("reload", "have the running gateway take its file as it is now", "Run", "edge.cli.reload"),
    Command("stop", "have the running gateway drain and end", "Run", "edge.cli.stop"),
    Command("upgrade", "have the installed version take the running one's place", "Run", "edge.cli.upgrade"),
    Command("status", "how the running gateway is", "Watch", "edge.cli.status"),
    Command("top", "what it does now, by the second", "Watch", "edge.cli.top"),
    Command("failures", "its last failed handshakes, and what to do about each", "Watch", "edge.cli.failures"),
    Command("upstreams", "its upstreams' endpoints: well or not, and why", "Watch", "edge.cli.upstreams"),
    Command("certs", "its certificates, and when they expire", "Watch", "edge.cli.certs"),
    Command("check", "find every mistake in the configuration", "Look", "edge.cli.check"),
    Command("diff", "what a change would do, weakened security first", "Look", "edge.cli.diff"),
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
    "scan": "",
    "csr": "",
    "ca": "Until then: `edge proxy` and `edge demo` keep a development CA of their own.",
    "k8s": "",
    "acme": "Until then: name files that certbot or another client renews, see `edge help certificates`.",
}
