"""Instructions are counted beside the clock, per further operation; where they cannot be, that is said."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import counters
from bench.counters import Counting, Uncountable, events, further, summaries
from bench.machine import Cores
from bench.processes import Child
from bench.samples import Sample, Scenario, Site

pytestmark = pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")

WORK = (
    "import socket, sys\n"
    "listening = socket.create_server(('127.0.0.1', 0)); print(listening.getsockname()[1], flush=True)\n"
    "while True:\n"
    "    with listening.accept()[0] as sock:\n"
    "        sum(range(int(sock.recv(20) or 0)))\n"
)


def sample(count: float) -> Sample:
    return Sample(1.0, count, 1.0, 1.0, 0.5, 0)


def test_what_both_loads_have_in_common_is_taken_out() -> None:
    found = further((sample(100), {"instructions:u": 1_000 + 100 * 7}), (sample(400), {"instructions:u": 1_000 + 400 * 7}))
    assert found == {"instructions:u": 7.0}


def test_a_load_of_fixed_size_is_divided() -> None:
    assert further((sample(2), {"cycles:u": 10.0}), (sample(2), {"cycles:u": 12.0})) == {"cycles:u": 6.0}


def test_ratios_are_to_the_base() -> None:
    passes = {
        "nginx": [{"instructions:u": 200.0, "cycles:u": 100.0}],
        "edge": [{"instructions:u": 90.0, "instructions:k": 10.0, "cycles:u": 100.0}],
    }
    found = summaries({"scenarios": {"x": passes}})["x"]
    assert (found["edge"]["instructions"], found["edge"]["kernel"]) == (100.0, 10.0)
    assert (found["edge"]["instructions_ratio"], found["edge"]["cycles_ratio"]) == (0.5, 1.0)
    assert found["nginx"]["instructions_ratio"] == 0.0


def test_a_machine_without_counters_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters.shutil, "which", lambda _: None)
    with pytest.raises(Uncountable, match="perf is not installed"):
        events()
    monkeypatch.setattr(counters.shutil, "which", lambda _: "perf")
    refused = subprocess.CompletedProcess([], 0, "", "<not supported>;;instructions:u;0;100.00;;\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: refused)
    with pytest.raises(Uncountable, match="counts no instructions"):
        events()


def test_only_the_programs_own_part_where_the_kernels_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked = command[command.index("-e") + 1].split(",")
        forbidden = "instructions:k" in asked
        lines = "".join(f"12;;{name};100;100.00;;\n" for name in asked)
        return subprocess.CompletedProcess(command, 255 if forbidden else 0, "", "No permission" if forbidden else lines)

    monkeypatch.setattr(counters.shutil, "which", lambda _: "perf")
    monkeypatch.setattr(subprocess, "run", run)
    assert events() == ("instructions:u", "cycles:u")


def test_what_a_child_does_in_the_block_is_counted_and_nothing_else(tmp_path: Path) -> None:
    try:
        wanted = events()
    except Uncountable as why:
        pytest.skip(str(why))
    import socket
    import time

    with Child("the worker", [sys.executable, "-c", WORK], Cores().server, tmp_path) as child:
        end = time.monotonic() + 30
        while not (port := (tmp_path / "stdout").read_text().strip()):
            assert time.monotonic() < end
            time.sleep(0.01)

        def work(steps: int) -> None:
            with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as sock:
                sock.sendall(str(steps).encode())
                sock.recv(1)

        seen = []
        for steps in (0, 200_000, 400_000):
            work(300_000)
            with Counting(child, wanted, tmp_path) as counting:
                work(steps)
            seen.append(counting.seen["instructions:u"])
    assert seen[0] < 1e6
    assert (seen[2] - seen[0]) / (seen[1] - seen[0]) == pytest.approx(2, rel=0.1)


def test_a_process_that_is_gone_is_not_counted(tmp_path: Path) -> None:
    try:
        wanted = events()
    except Uncountable as why:
        pytest.skip(str(why))
    with Child("short", [sys.executable, "-c", ""], Cores().server, tmp_path) as child:
        child.end()
        with pytest.raises(Uncountable, match="perf"), Counting(child, wanted, tmp_path):
            raise AssertionError("it counts nothing")


class Perf:
    """A stand-in of perf that does what `script` (of a shell) says; $orders and $answers are its descriptors."""

    def __init__(self, folder: Path, script: str) -> None:
        self.path = folder / "perf"
        find = "for each; do case $each in fd:*) each=${each#fd:}; orders=${each%,*}; answers=${each#*,};; esac; done\n"
        self.path.write_text(f"#!/bin/bash\n{find}{script}\n")
        self.path.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "words"),
    [("echo 'no permission' >&2; exit 1", "no permission"), ("read -u $orders; echo ack >&$answers; exit 0", "perf")],
)
def test_a_perf_that_gives_up_is_told(script: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = Perf(tmp_path, script)
    monkeypatch.setattr(counters.shutil, "which", lambda _: str(made.path))
    with (
        Child("one", ["sleep", "60"], Cores().server, tmp_path) as child,
        pytest.raises(Uncountable, match=words),
        Counting(child, ("instructions:u",), tmp_path),
    ):
        pass


def test_one_target_that_cannot_be_counted_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Fake:
        def __init__(self, name: str) -> None:
            self.child = name

        def variant(self, _: str) -> Fake:
            return self

    class Targets:
        running = {name: Fake(name) for name in ("edge", "gone")}  # noqa: RUF012

    class Counted:
        def __init__(self, child: str, wanted: tuple[str, ...], folder: Path) -> None:
            if child == "gone":
                raise Uncountable("perf does not count: it is gone")
            self.seen = dict.fromkeys(wanted, 100.0)

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(counters, "events", lambda: ("instructions:u",))
    monkeypatch.setattr(counters, "Counting", Counted)
    scenario = Scenario("x", "x", "µs", 1e6, lambda *_: sample(10), loop="closed")
    arguments = {"end": 1e18, "progress": lambda _: None}
    found = counters.count([scenario], Targets(), Site(0, Path(), 1, 1), tmp_path / "one", **arguments)  # type: ignore[arg-type]
    assert found["scenarios"] == {"x": {"edge": [{"instructions:u": 10.0}] * 2}}
    assert found["problems"] == ["x: gone was not counted in pass 1: perf does not count: it is gone"]
    arguments["end"] = 0.0
    found = counters.count([scenario], Targets(), Site(0, Path(), 1, 1), tmp_path / "two", **arguments)  # type: ignore[arg-type]
    assert found["problems"] == ["the time was up in pass 1 of counting, before x with edge"]
