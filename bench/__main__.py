"""``python -m bench`` and ``edge bench``: measure `edge` beside the peers that are installed."""

from __future__ import annotations

import argparse
import datetime
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from . import compare, profiles, target
from .certificates import issue, issue_many, issue_set
from .counters import Uncountable, count
from .floor import Floor
from .growth import HOSTS
from .load import clients, missing
from .machine import Cores, describe
from .measure import Targets, measure
from .origin import LARGE, Origin
from .peers import PEERS, choose, find
from .report import compose, show, write
from .samples import Scenario, Site
from .scenarios import SCENARIOS
from .terminal import say, show_counters

__all__ = ["main"]

_FLOOR = 0.12  # seconds for each of the two parts of the floor, in every round of every row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure edge beside nginx and the other peers that are installed: server CPU per operation, as ratios.",
        epilog="Scenarios: " + ", ".join(SCENARIOS) + ". Only loopback is used. "
        "Other commands: bench handshake --target HOST:PORT measures any TLS server; bench compare OLD NEW "
        "compares two runs; bench profile draws a flame graph.",
    )
    parser.add_argument(
        "--scenario", action="append", default=[], metavar="NAME", help="only these (repeat it, or separate by commas)"
    )
    parser.add_argument("--list", action="store_true", help="say which targets are installed and which clients, and end")
    parser.add_argument(
        "--full", action="store_true", help="the whole matrix of handshakes, sizes and growth too, not only the core set"
    )
    parser.add_argument(
        "--peers", default="", metavar="NAMES", help=f"targets, separated by commas (installed: {', '.join(find())})"
    )
    parser.add_argument("--rounds", type=int, default=4, help="rounds of each scenario (4)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one sample; wrk and h2load round it (1)")
    parser.add_argument("--bulk", type=int, default=256, metavar="MIB", help="size of one bulk transfer, at most 1024 (256)")
    parser.add_argument("--idle", type=int, default=1000, metavar="N", help="idle connections for the memory figure (1000)")
    parser.add_argument(
        "--counters", action="store_true", help="count instructions and cycles too, in passes of their own (needs perf)"
    )
    parser.add_argument("--limit", type=float, default=10.0, metavar="MINUTES", help="stop after this (10)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the JSON (default: bench-results/DATE.json)")
    return parser


def _scenarios(wanted: list[str], *, full: bool) -> list[Scenario]:
    """Raises ValueError for a name that there is not."""
    names = [name for each in wanted for name in each.split(",")]
    if not names:
        return [scenario for scenario in SCENARIOS.values() if scenario.core or full]
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise ValueError(f"no such scenario: {', '.join(unknown)} (there are {', '.join(SCENARIOS)})")
    return [SCENARIOS[name] for name in names]


def _usable(scenario: Scenario) -> str | None:
    """What is missing for `scenario`, in words."""
    for need in scenario.needs:
        if len(missing(*need.split("|"))) == len(need.split("|")):
            return f"{scenario.name} is left out: {need.replace('|', ' or ')} is not installed"
    return None


def _check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what makes no sense."""
    for name, low, high in (
        ("rounds", 1, 1000),
        ("seconds", 0.2, 600),
        ("bulk", 1, LARGE >> 20),
        ("idle", 10, 5000),
        ("limit", 0.1, 1440),
    ):
        if not low <= getattr(arguments, name) <= high:
            raise ValueError(f"--{name} is between {low} and {high}")


def _run(arguments: argparse.Namespace, console: Console) -> int:
    _check(arguments)
    wanted, programs = _scenarios(arguments.scenario, full=arguments.full), choose(arguments.peers)
    if "nginx" not in find() or missing("taskset"):
        raise ValueError("the bench needs nginx (it is the upstream of every target) and taskset")
    left_out = [words for scenario in wanted if (words := _usable(scenario))]
    cores, began = Cores(), datetime.datetime.now().astimezone()
    machine = describe(cores)  # now, because its load is the bench's own later
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whatever ends the bench ends what it has started
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 16_384), hard), hard))
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # peers that give up root read their files here
        certificates = issue_set(folder)
        (folder / "origin").mkdir()
        large = folder / "bulk"
        with large.open("wb") as file:
            file.truncate(arguments.bulk << 20)
        renewals = []
        for number in range(2):
            (folder / f"renewal-{number}").mkdir()
            renewals.append(issue(folder / f"renewal-{number}"))
        most = max((HOSTS if each.axis == "hosts" else 500 if each.name == "start-500" else 0 for each in wanted), default=0)
        many = issue_many(folder / "many", most) if most else []
        with (
            Origin(find()["nginx"], cores.load, folder / "origin") as origin,
            Targets(programs, certificates, origin, cores.server, folder) as targets,
            Floor(certificates, cores.server, folder / "floor", _FLOOR) as floor,
        ):
            site = Site(cores.load, large, arguments.bulk << 20, arguments.idle, renewals, certificates.client, many, origin.cpu)
            end = time.monotonic() + arguments.limit * 60
            usable = [scenario for scenario in wanted if not _usable(scenario)]
            with console.status("starting") as status:
                results = measure(
                    usable,
                    targets,
                    site,
                    rounds=arguments.rounds,
                    seconds=arguments.seconds,
                    end=end,
                    progress=status.update,
                    floor=floor,
                )
                counted: dict[str, object] = {}
                if arguments.counters:
                    try:
                        counted = count(usable, targets, site, folder / "counters", end=end, progress=status.update)
                    except Uncountable as error:
                        left_out.append(f"no instructions are counted: {error}")
            configurations = targets.configurations() | {"upstream": origin.configuration}
    names = list(targets.running)
    left_out += targets.failed
    for words in left_out:
        console.print(f"! {words}", style="yellow")
    if cores.shared:
        console.print("! there is one core only: load and server share it, and the figures are worth little", style="yellow")
    output = arguments.output or Path("bench-results") / f"{began:%Y-%m-%dT%H%M%S}.json"
    facts: dict[str, object] = {
        "when": began.isoformat(timespec="seconds"),
        "command": ["bench", *sys.argv[1:]],
        "machine": machine,
        "versions": {name: PEERS[name].version(programs[name]) for name in names},
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "clients": clients(),
        "configurations": configurations,
        "left_out": left_out,
    }
    if counted:
        facts["counters"] = counted
    composed = compose(facts, results, names)
    write(output, composed)
    say(composed["conclusions"], console)
    show(results, names, console)
    show_counters(composed, console)
    console.print(f"The page: {output.with_suffix('.html')}  The figures: {output}", highlight=False, soft_wrap=True)
    return 0 if all(result.rounds and any(result.rounds) for result in results) else 1


def _list(console: Console) -> int:
    """Which targets there are, with their versions; how to get those that are missing; what the load would come from."""
    found = find()
    for name, path in found.items():
        console.print(f"{name:10}{PEERS[name].version(path)[:100]}", highlight=False, markup=False, soft_wrap=True)
    absent = [peer.package for name, peer in PEERS.items() if name not in found]
    system = [package.removeprefix("apt:") for package in absent if package.startswith("apt:")]
    ours = [package for package in absent if not package.startswith("apt:")]
    if system:
        console.print(f"missing: apt-get install {' '.join(system)}", highlight=False)
    if ours:
        console.print(f"missing: pip install {' '.join(ours)}", highlight=False)
    for protocol, client in clients().items():
        console.print(f"load: {protocol} by {client}", highlight=False, markup=False)
    return 0


_COMMANDS = {"handshake": target.main, "compare": compare.main, "profile": profiles.main}


def main(arguments: list[str] | None = None) -> int:
    """Run the bench. Returns an exit code: 0 fine, 1 a scenario has no figure, 2 wrong usage, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    console = Console(stderr=False, no_color=True if os.environ.get("NO_COLOR") else None)
    try:
        if words[:1] and words[0] in _COMMANDS:
            return _COMMANDS[words[0]](words[1:], console)
        parsed = _parser().parse_args(words)
        return _list(console) if parsed.list else _run(parsed, console)
    except ValueError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    except (RuntimeError, OSError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
