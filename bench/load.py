"""Load generators: wrk, h2load and curl as found on the path, and our own loops. Each call is one sample's load.

HTTP/1.1 is asked for by wrk, or h2load where there is no wrk or a body is to be sent; HTTP/2 by h2load; and where neither is
installed, both by `bench.client`, with a process on each core that the load may have.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from . import client
from .conclusions import OWN_CLIENT
from .handshakes import Job, Seen
from .machine import Cores
from .offer import Offer
from .processes import run_pinned

__all__ = ["Load", "clients", "download", "drive", "h1", "h2", "handshakes", "load_of", "missing", "own", "upload"]

_HEADERS = [
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.7,de;q=0.3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
    ("Referer", "https://localhost/some/page?with=query"),
    ("Cache-Control", "no-cache"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Authorization", "Bearer 0123456789abcdef0123456789abcdef"),
    ("X-Trace", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator saw: completed operations, errors, wall seconds, CPU seconds of its own."""

    count: float
    errors: int
    seconds: float
    cpu: float


def missing(*programs: str) -> list[str]:
    return [program for program in programs if shutil.which(program) is None]


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def _whole(seconds: float) -> int:
    """wrk and h2load run for whole seconds."""
    return max(1, round(seconds))


def _fields(count: int) -> list[tuple[str, str]]:
    """What a browser sends, and then what proxies and applications add."""
    more = [(f"X-Field-{number:02}", f"{number:02}-0123456789abcdef") for number in range(count - len(_HEADERS))]
    return [*_HEADERS[:count], *more]


def h1(
    port: int,
    core: int,
    seconds: float,
    *,
    path: str = "/small",
    fields: int = 0,
    connections: int = 50,
    body: Path | None = None,
) -> Load:
    """HTTP/1.1 with keep-alive: `fields` more request fields, and `body` as that of each request."""
    if missing("wrk") or body is not None:
        return _h2load("h1", port, core, seconds, path, connections, 1, fields, body)
    extra = [part for name, value in _fields(fields) for part in ("-H", f"{name}: {value}")]
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{_whole(seconds)}s",
        "--timeout",
        "10s",
        *extra,
        f"https://127.0.0.1:{port}{path}",
    ]
    out, cpu = run_pinned(command, core, seconds + 30)
    errors = _number(r"Non-2xx or 3xx responses: (\d+)", out)
    errors += sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", out.partition("Socket errors")[2])))
    return Load(_number(r"(\d+) requests in", out), int(errors), seconds, cpu)


def h2(
    port: int, core: int, seconds: float, *, path: str, connections: int, streams: int, fields: int = 0, body: Path | None = None
) -> Load:
    """HTTP/2: `connections` of `streams` concurrent requests, otherwise as `h1`."""
    return _h2load("h2", port, core, seconds, path, connections, streams, fields, body)


def _h2load(
    protocol: str,
    port: int,
    core: int,
    seconds: float,
    path: str,
    connections: int,
    streams: int,
    fields: int,
    body: Path | None,
) -> Load:
    if missing("h2load"):
        octets = 0 if body is None else body.stat().st_size
        return own(
            client.Job(
                port, protocol, path, seconds, connections=connections, streams=streams, body=octets, fields=_fields(fields)
            )
        )
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"--duration={_whole(seconds)}"]
    command += ["--h1"] if protocol == "h1" else []
    command += [f"-H{name}: {value}" for name, value in _fields(fields)]
    command += [] if body is None else ["-d", str(body)]
    out, cpu = run_pinned([*command, f"https://localhost:{port}{path}"], core, seconds + 30)
    errors = _number(r"(\d+) errored", out) + _number(r"(\d+) timeout", out)
    errors += sum(int(count) for count in re.findall(r"(\d+) [345]xx", out))
    return Load(_number(r"(\d+) succeeded", out), int(errors), seconds, cpu)


def own(job: client.Job) -> Load:
    """`bench.client`, its connections shared among processes on cores of their own. Raises RuntimeError when one of them fails.

    The CPU seconds are the mean of the processes: divided by the seconds they are the busy share of one core.
    """
    cores = Cores().clients[: job.connections]
    jobs = [
        replace(job, connections=job.connections // len(cores) + (number < job.connections % len(cores)))
        for number in range(len(cores))
    ]

    def drive_one(job: client.Job, core: int) -> client.Seen:
        out, _ = run_pinned([sys.executable, "-m", f"{__package__}.client", job.text()], core, job.seconds + 60)
        return client.Seen(**json.loads(out))

    with ThreadPoolExecutor(len(cores)) as pool:
        found = list(pool.map(drive_one, jobs, cores))
    return Load(
        sum(each.count + each.before for each in found),
        sum(each.errors for each in found),
        max(each.seconds for each in found),
        sum(each.cpu for each in found) / len(found),
    )


def clients() -> dict[str, str]:
    """What the load of requests comes from, by protocol."""
    version = {"wrk": "-v", "h2load": "--version", "curl": "--version"}
    found = {}
    for protocol, programs in (("HTTP/1.1", ("wrk", "h2load")), ("HTTP/2", ("h2load",)), ("bulk", ("curl",))):
        present = [program for program in programs if not missing(program)]
        if present:
            done = subprocess.run([present[0], version[present[0]]], capture_output=True, text=True, timeout=20, check=False)
            found[protocol] = " ".join(re.split(r"[\n(\[]", done.stdout or done.stderr)[0].split())[:60]
        elif protocol != "bulk":
            found[protocol] = OWN_CLIENT
    return found


def _curl(port: int, path: str, core: int, *arguments: str) -> tuple[dict[str, float], float]:
    command = ["curl", "-q", "-sS", "-k", "--noproxy", "*", "--http1.1", "-o", "/dev/null", "-w", "%{json}", *arguments]
    out, cpu = run_pinned([*command, f"https://127.0.0.1:{port}{path}"], core, 120)
    return json.loads(out), cpu


def download(port: int, core: int, octets: int) -> Load:
    """One download of the first `octets` of ``/large`` by curl; counted in GB (10⁹ bytes)."""
    facts, cpu = _curl(port, "/large", core, "-r", f"0-{octets - 1}")
    whole = facts["http_code"] == 206 and facts["size_download"] == octets
    return Load(facts["size_download"] / 1e9, 0 if whole else 1, facts["time_total"], cpu)


def upload(port: int, core: int, file: Path) -> Load:
    """One upload of `file` to ``/sink`` by curl; counted in GB."""
    facts, cpu = _curl(port, "/sink", core, "-T", str(file), "-H", "Expect:")
    whole = facts["http_code"] == 200 and facts["size_upload"] == file.stat().st_size
    return Load(facts["size_upload"] / 1e9, 0 if whole else 1, facts["time_total"], cpu)


def handshakes(port: int, core: int, seconds: float, mode: str, connections: int = 16) -> Load:
    """Handshakes one after the other on `connections` at a time. `mode` is "1.3-full", "1.2-resumed" and so on."""
    version, _, kind = mode.partition("-")
    job = Job("127.0.0.1", port, offer=Offer(version, resumed=kind == "resumed"), seconds=seconds, connections=connections)
    return load_of(drive(job, core), job)


def drive(job: Job, core: int | None) -> Seen:
    """Run the handshake loop as a process of its own, pinned to `core` if one is given. Raises RuntimeError when it fails."""
    command = [sys.executable, "-m", f"{__package__}.handshakes", job.text()]
    out, _ = run_pinned(command, core, job.seconds + 30)
    return Seen.read(out.splitlines()[-1])


def load_of(seen: Seen, job: Job) -> Load:
    """What the loop saw, for cost per operation. Resumption that does not happen is an error, as is one unasked for."""
    count = len(seen.durations)
    # those in flight when the clock started and ended are in one count only
    wrong = max(0, count - seen.resumed - job.connections) if job.offer.resumed else seen.resumed
    # the first ones, before the clock, are the target's work too
    before = job.connections if job.mode == "closed" else 0
    return Load(seen.count + before, seen.failed + wrong, seen.seconds, seen.cpu)
