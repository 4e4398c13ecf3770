"""The command line's grammar. Only argparse is imported here, so that every command starts fast.

The options that every command takes (`--config`, `--socket`, and `--json` where there is something to read) may stand before
or after the command's name: they are declared in both places, and the absent one leaves no trace.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from edge.cli.catalogue import COMMANDS, LATER, NAMES
from edge.cli.moments import duration
from edge.cli.terminal import Exit, Stop, nearest

__all__ = ["Parser", "actions", "build", "command_word"]

SHELLS = ("bash", "zsh", "fish")
_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "fish": "(__fish_complete_path (commandline -ct))"}


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong word is a `Stop` in our words instead of an exit in the middle of the library."""

    def error(self, message: str) -> NoReturn:
        raise Stop(
            Exit.USAGE, f"{self.prog.removeprefix('edge ') if self.prog != 'edge' else 'usage'}: {message}", f"{self.prog} --help"
        )

    def format_help(self) -> str:
        return _front_page() if self.prog == "edge" else super().format_help()


def _front_page() -> str:
    """The whole list of commands, by what one wants to do."""
    lines = ["edge: a TLS gateway", "", "usage: edge [--config FILE] COMMAND …", ""]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines += [group, *(f"  edge {command.name:<11} {command.summary}" for command in COMMANDS if command.group == group), ""]
    lines += [
        "Everywhere",
        "  --config FILE    default: $EDGE_CONFIG, then /etc/edge/edge.toml, then ./edge.toml (not as root)",
        "  --socket PATH    the running gateway's control socket",
        "  --json           the answer as one JSON object",
        "  --version        the version, and those of Python, OpenSSL and the libraries",
        "  -h, --help       this page; after a command, that command's page",
        "",
        "exit codes: 0 fine, 1 not fine, 2 wrong usage, 3 no running gateway, 4 not permitted, 130 interrupted",
        "manual: edge help",
    ]
    return "\n".join(lines) + "\n"


def _file(action: argparse.Action) -> None:
    """Have shells complete file names here (the attribute is shtab's)."""
    action.complete = _FILES  # type: ignore[attr-defined]


def _common(*, json: bool) -> Parser:
    parent = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parent.add_argument_group("everywhere")
    _file(group.add_argument("--config", metavar="FILE", help="the configuration"))
    _file(group.add_argument("--socket", metavar="PATH", help="the running gateway's control socket"))
    if json:
        group.add_argument("--json", action="store_true", help="the answer as one JSON object")
    return parent


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() and text.isascii() else -1
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write a number from 1 to 65535")
    return port


def _workers(text: str) -> int:
    count = int(text) if text.isdecimal() and text.isascii() else 0
    if not 1 <= count <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers: write 1 to 1024")
    return count


def _proxy(command: argparse.ArgumentParser) -> None:
    command.add_argument("port", type=_port, metavar="PORT", help="the local port that your service listens on (plain HTTP)")
    command.add_argument(
        "--name", action="append", metavar="NAME", help="another host name that the certificate covers; may be repeated"
    )
    command.add_argument(
        "--listen", default="127.0.0.1:8443", metavar="ADDRESS:PORT", help="where to listen (default: %(default)s)"
    )


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--port",
        type=_port,
        default=8443,
        help="the https port (default: %(default)s); http listens on 8080, or else on the port after it",
    )


def _init(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the host name that clients use, for example api.example.com")
    command.add_argument("--to", required=True, metavar="URL", help="where the service is, for example http://127.0.0.1:8000")
    _file(command.add_argument("--cert", metavar="FILE", help="certificate chain (PEM), the host's own certificate first"))
    _file(command.add_argument("--key", metavar="FILE", help="private key (PEM)"))
    _file(command.add_argument("--mtls", metavar="CA", help="require client certificates of this CA (PEM)"))
    command.add_argument("--acme", metavar="EMAIL", help="not in this version")
    command.add_argument("--systemd", action="store_true", help="also write edge.service beside the file")
    _file(
        command.add_argument(
            "-o", "--output", metavar="FILE", help="where to write; - is stdout (default: --config, or edge.toml)"
        )
    )


def _run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=_workers, metavar="N", help="how many workers, whatever the file says")
    command.add_argument("--log", choices=("text", "json"), help="the access log's format, whatever the file says")


def _check(command: argparse.ArgumentParser) -> None:
    _file(command.add_argument("file", nargs="?", metavar="FILE", help="the file to check; - is stdin (default: as --config)"))
    command.add_argument("--strict", action="store_true", help="warnings count as errors")
    command.add_argument("--effective", action="store_true", help="print every setting, with where it came from")


def _explain(command: argparse.ArgumentParser) -> None:
    command.add_argument("url", metavar="URL", help="for example https://api.example.com/v1/orders/7")
    command.add_argument(
        "-X", "--request", default="GET", metavar="METHOD", dest="method", help="the method (default: %(default)s)"
    )
    command.add_argument(
        "-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="a header of the request; may be repeated"
    )
    command.add_argument("--sni", metavar="NAME", help="the name in the handshake (default: the URL's host; '' is none)")
    _file(command.add_argument("--cert", metavar="FILE", help="the client's certificate (PEM)"))
    command.add_argument(
        "--from", dest="source", default="192.0.2.1", metavar="IP", help="the client's address (default: %(default)s)"
    )


def _diff(command: argparse.ArgumentParser) -> None:
    _file(
        command.add_argument("a", nargs="?", metavar="A", help="a file; - is stdin (default: the one that a reload would read)")
    )
    _file(
        command.add_argument(
            "b", nargs="?", metavar="B", help="what this file changes of A; without it: what A changes of what runs"
        )
    )


def _patience(command: argparse.ArgumentParser, default: float | None, what: str) -> None:
    command.add_argument("--timeout", type=duration, default=default, metavar="TIME", help=what)


def _watch(command: argparse.ArgumentParser) -> None:
    command.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
    command.add_argument(
        "--interval", type=duration, default=2.0, metavar="TIME", help="with --watch: how long between two looks (default: 2s)"
    )


def _reload(command: argparse.ArgumentParser) -> None:
    command.add_argument("--allow-weaker", action="store_true", help="also when the change takes protection away")
    command.add_argument("--wait", action="store_true", help="until it is live or refused: what reload always does")
    _patience(command, 120.0, "how long to wait for the answer (default: 2m)")


def _stop(command: argparse.ArgumentParser) -> None:
    command.add_argument("--wait", action="store_true", help="until the gateway is gone")
    _patience(command, None, "with --wait: how long (default: the drain and 10s)")


def _status(command: argparse.ArgumentParser) -> None:
    command.add_argument("--wait", action="store_true", help="until a gateway runs and is ready")
    _patience(command, 60.0, "with --wait: how long (default: 1m)")
    _watch(command)


def _upgrade(command: argparse.ArgumentParser) -> None:
    command.add_argument("--wait", action="store_true", help="until the new program serves: what upgrade always does")
    _patience(command, 120.0, "how long to wait for the answer (default: 2m)")


def _certs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--expiring", type=duration, metavar="TIME", help="only those that expire within this time, 7d for example; exit 1 if any"
    )


def _failures(command: argparse.ArgumentParser) -> None:
    command.add_argument("--since", type=duration, metavar="TIME", help="only the last 10m, for example")
    _watch(command)


def _top(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--interval", type=duration, default=2.0, metavar="TIME", help="how long one picture covers (default: 2s)"
    )


def _pin(command: argparse.ArgumentParser) -> None:
    command.add_argument("server", nargs="?", metavar="HOST[:PORT]", help="the server to ask (port 443 unless written)")
    _file(command.add_argument("--cert", metavar="FILE", help="print the pins of the certificates in this file instead"))
    _file(command.add_argument("--ca", metavar="FILE", help="verify against these authorities (PEM) instead of the system's"))
    command.add_argument("--server-name", metavar="NAME", help="the name to ask for and to verify (default: the host)")
    command.add_argument("--insecure", action="store_true", help="do not verify: print what the server sends")


def _completion(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", choices=SHELLS)


def _help(command: argparse.ArgumentParser) -> None:
    command.add_argument("topic", nargs="?", metavar="TOPIC", help="a page of the manual; without it, the list of pages")


_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "proxy": _proxy,
    "demo": _demo,
    "init": _init,
    "run": _run,
    "check": _check,
    "explain": _explain,
    "diff": _diff,
    "reload": _reload,
    "stop": _stop,
    "status": _status,
    "upgrade": _upgrade,
    "certs": _certs,
    "failures": _failures,
    "upstreams": _watch,
    "top": _top,
    "pin": _pin,
    "completion": _completion,
    "help": _help,
}

_GLOBAL = ("--config", "--socket", "--json", "--version", "--help", "-h")
_READERS = frozenset(
    {"check", "diff", "routes", "explain", "pin", "reload", "stop", "status", "upgrade", "certs", "failures", "upstreams", "top"}
)
_EXAMPLES = {
    "proxy": "edge proxy 8000\nedge proxy 8000 --name app.localhost --listen 0.0.0.0:8443",
    "demo": "edge demo --port 9443",
    "init": "edge init api.example.com --to http://127.0.0.1:8000 --cert api.pem --key api.key\n"
    "edge init api.example.com --to http://127.0.0.1:8000 -o -",
    "run": "edge run --config ./edge.toml --workers 2",
    "check": "edge check\nedge check - < edge.toml\nedge check --effective | less",
    "routes": "edge routes\nedge routes --json | jq '.routes[].upstream'",
    "explain": "edge explain https://api.example.com/v1/orders/7 -X PUT\n"
    "edge explain https://api.example.com/ --sni other.example.com --from 203.0.113.9",
    "diff": "edge diff\nedge diff new.toml\nedge diff old.toml new.toml --json | jq '.changes[] | select(.weaker).text'",
    "reload": "edge reload\nedge reload --allow-weaker --timeout 30s",
    "stop": "edge stop\nedge stop --wait --timeout 1m",
    "status": "edge status\nedge status --wait --timeout 10s && echo ready\nedge status --json | jq .generation",
    "upgrade": "edge upgrade",
    "certs": "edge certs\nedge certs --expiring 7d || mail -s 'certificates' ops@example.com < /dev/null",
    "failures": "edge failures --since 10m\nedge failures --json | jq '.failures[] | select(.blame==\"edge\")'",
    "upstreams": "edge upstreams\nedge upstreams --watch --interval 1s",
    "top": "edge top\nedge top --json --interval 10s",
    "pin": "edge pin billing.partner.example\nedge pin 10.0.0.7:8443 --ca inside-ca.pem --server-name billing.internal\n"
    "edge pin --cert backup.pem",
    "schema": "edge schema > edge.schema.json",
    "completion": "bash:  edge completion bash > ~/.local/share/bash-completion/completions/edge\n"
    "zsh:   edge completion zsh > ~/.zfunc/_edge      (a directory of your $fpath)\n"
    "fish:  edge completion fish > ~/.config/fish/completions/edge.fish",
    "help": "edge help\nedge help routing",
    "bench": "edge bench --help",
}


def build() -> Parser:
    """The whole grammar. The namespace's `command` is None for a bare `edge`."""
    parser = Parser(prog="edge", description="A TLS gateway.", allow_abbrev=False, parents=[_common(json=True)])
    parser.add_argument("--version", action="store_true", help="the version, and those of Python, OpenSSL and the libraries")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        examples = "".join(f"  {line}\n" for line in _EXAMPLES[command.name].splitlines())
        added = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            parents=[_common(json=command.name in _READERS)],
        )
        if command.name in _ARGUMENTS:
            _ARGUMENTS[command.name](added)
    return parser


def actions(parser: Parser, command: str | None) -> list[argparse.Action]:
    """What `command` takes, or what stands before every command."""
    for action in parser._actions:
        if command and isinstance(action, argparse._SubParsersAction):
            chosen: Parser = action.choices[command]
            return chosen._actions
    return parser._actions


def command_word(arguments: list[str]) -> int | None:
    """The index of the command's name, past the options that may stand before it; None when there is none.

    Raises Stop(USAGE) for a name that is no command, with what was probably meant.
    """
    index = 0
    while index < len(arguments) and arguments[index].startswith("-"):
        option = arguments[index].partition("=")[0]
        if option not in _GLOBAL:
            meant = nearest(option, _GLOBAL)
            raise Stop(Exit.USAGE, f"edge has no option {option}", f"Did you mean: {meant}" if meant else "edge --help")
        index += 2 if arguments[index] in ("--config", "--socket") else 1
    if index >= len(arguments):
        return None
    word = arguments[index]
    if word in NAMES:
        return index
    if word in LATER:
        raise Stop(Exit.USAGE, f"edge {word} is not in this version", LATER[word])
    meant = nearest(word, [*NAMES, *LATER])
    if word.endswith(".toml"):
        raise Stop(Exit.USAGE, f"there is no command {word!r}", f"Did you mean: edge check {word}")
    raise Stop(
        Exit.USAGE, f"there is no command {word!r}", f"Did you mean: edge {meant}" if meant else "All commands: edge --help"
    )
