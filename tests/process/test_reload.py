"""A reload as its operator meets it: all or nothing, with an answer, and never in the way of what runs."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Spawn, can_connect, wait_until
from tests.e2e.gateway import lasting_descriptors
from tests.process.test_supervisor import Gateway, alive


@pytest.fixture
def gateway(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int]) -> Gateway:
    return Gateway(spawn, short_tmp, free_port()).ready()


class Load:
    """Requests without a pause, each on a connection of its own, until the end of the block."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._stop = threading.Event()
        self.answers: list[tuple[int, str]] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(self._gateway.fetch())
            except OSError as error:
                self.failures.append(repr(error))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_reload_changes_every_worker_and_says_so(gateway: Gateway) -> None:
    before = gateway.ask("status")
    gateway.write(body="new")
    answer = gateway.ask("reload")
    assert answer["ok"], answer
    assert answer["generation"] == before["generation"] + 1
    assert answer["digest"] != before["digest"]
    assert len(answer["changes"]) == 1
    assert {gateway.fetch()[1] for _ in range(20)} == {"new"}
    event = gateway.event("reloaded")
    assert event is not None
    assert (event["generation"], event["digest"]) == (answer["generation"], answer["digest"])
    assert str(event["by"]).startswith(f"command (uid {os.geteuid()}, pid ")
    status = gateway.ask("status")
    assert (status["generation"], status["digest"]) == (answer["generation"], answer["digest"])
    assert status["reloads"]["accepted"] == 1
    assert status["degraded"] == []


def test_sighup_is_a_reload(gateway: Gateway) -> None:
    gateway.write(body="by signal")
    gateway.process.send_signal(signal.SIGHUP)
    event = wait_until(lambda: gateway.event("reloaded"))
    assert event["by"] == "SIGHUP"
    assert gateway.fetch() == (200, "by signal")


def test_a_worker_that_begins_after_a_reload_begins_with_it(gateway: Gateway) -> None:
    gateway.write(body="new")
    assert gateway.ask("reload")["ok"]
    for pid in gateway.workers():
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda gone=pid: not alive(gone) and len(gateway.workers()) == 2)
    wait_until(lambda: all(worker["state"] == "serving" for worker in gateway.ask("status")["workers"]))
    assert {gateway.fetch()[1] for _ in range(20)} == {"new"}


@pytest.mark.parametrize(
    ("spoil", "error"),
    [("[[listener]", "invalid-settings"), ('[[route]]\npath = "/x"\nupstream = "nobody"', "invalid-settings")],
)
def test_mistakes_refuse_the_reload_and_nothing_else(gateway: Gateway, spoil: str, error: str) -> None:
    text = gateway.config.read_text()
    gateway.config.write_text(text.replace('body = "ok"', 'body = "new"') + "\n" + spoil)
    answer = gateway.ask("reload")
    assert (answer["ok"], answer["error"]) == (False, error)
    assert "edge.toml" in answer["problems"][0]
    assert gateway.fetch() == (200, "ok")
    status = gateway.ask("status")
    assert status["generation"] == 1
    assert status["reloads"]["refused"] == 1
    assert len(status["degraded"]) == 1
    assert gateway.event("reload-refused")
    gateway.config.write_text(text)
    assert gateway.ask("reload")["ok"]
    assert gateway.ask("status")["degraded"] == []


def test_a_file_that_is_gone_refuses_the_reload(gateway: Gateway) -> None:
    gateway.config.unlink()
    answer = gateway.ask("reload")
    assert answer["error"] == "invalid-settings"
    assert gateway.get() == 200


def test_a_port_that_is_taken_refuses_the_reload_and_names_who_has_it(gateway: Gateway, free_port: Callable[[], int]) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        gateway.write(f'[[listener]]\nname = "second"\naddress = "127.0.0.1:{port}"\ntls = "off"')
        answer = gateway.ask("reload")
        assert answer["error"] == "bind-failed"
        assert f"the port is taken by python (pid {os.getpid()})" in answer["detail"].replace("pytest", "python")
    assert gateway.get() == 200
    assert gateway.ask("reload")["ok"]
    assert gateway.fetch(port=port) == (200, "ok")


def test_listeners_come_and_go_under_load(gateway: Gateway, free_port: Callable[[], int]) -> None:
    second = free_port()
    with Load(gateway) as load:
        for _ in range(3):
            gateway.write(f'[[listener]]\nname = "second"\naddress = "127.0.0.1:{second}"\ntls = "off"')
            assert gateway.ask("reload")["ok"]
            assert gateway.fetch(port=second) == (200, "ok")
            gateway.write()
            assert gateway.ask("reload")["ok"]
            wait_until(lambda: not can_connect(second))
    assert load.failures == []
    assert {status for status, _ in load.answers} == {200}


def test_a_listener_moves_to_another_address(gateway: Gateway, free_port: Callable[[], int]) -> None:
    old, new = gateway.port, free_port()
    gateway.write(port=new)
    assert gateway.ask("reload")["ok"]
    assert gateway.fetch(port=new) == (200, "ok")
    wait_until(lambda: not can_connect(old))


def test_workers_come_and_go_under_load(gateway: Gateway) -> None:
    with Load(gateway) as load:
        for count in (4, 1, 3, 2):
            gateway.write(workers=count)
            assert gateway.ask("reload")["ok"]
            wait_until(lambda: all(one["state"] == "serving" for one in gateway.ask("status")["workers"]), what="workers serve")
            wait_until(lambda n=count: len(gateway.workers()) == n, what=f"{count} workers")
    assert load.failures == []
    assert {status for status, _ in load.answers} == {200}
    assert gateway.event("not-steered") is None


@pytest.mark.timeout(1800)
def test_many_reloads_under_load_fail_nothing_and_leave_nothing(gateway: Gateway) -> None:
    count = int(os.environ.get("EDGE_SOAK_RELOADS", "100"))

    def open_descriptors() -> list[int]:
        return [lasting_descriptors(pid) for pid in [gateway.process.pid, *gateway.workers()]]

    def memory() -> list[int]:
        return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in [gateway.process.pid, *gateway.workers()]]

    wait_until(lambda: gateway.ask("status")["controller"]["pid"], what="the controller, which comes last")
    with Load(gateway) as load:
        for number in range(max(10, count // 5)):
            gateway.write(body=f"warm {number}")
            assert gateway.ask("reload")["ok"]
    before, used = wait_until(open_descriptors), memory()
    with Load(gateway) as second:
        for number in range(count):
            gateway.write(body=f"body {number}")
            if number % 2:
                assert gateway.ask("reload")["ok"]
            else:
                generation = gateway.ask("status")["generation"]
                gateway.process.send_signal(signal.SIGHUP)
                wait_until(lambda old=generation: gateway.ask("status")["generation"] > old)
            assert gateway.fetch() == (200, f"body {number}")
    assert load.failures == second.failures == []
    assert {status for status, _ in second.answers} == {200}
    wait_until(lambda: all(now <= then for now, then in zip(open_descriptors(), before, strict=True)), what=f"few as {before}")
    assert sum(memory()) < sum(used) * 1.1, (used, memory())


def test_requests_that_come_together_are_answered_one_after_another(gateway: Gateway) -> None:
    answers: list[dict[str, object]] = []
    threads = [threading.Thread(target=lambda: answers.append(gateway.ask("reload"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer["ok"] for answer in answers] == [True] * 4


def test_what_only_a_start_can_change_is_told(gateway: Gateway, short_tmp: Path) -> None:
    text = gateway.config.read_text().replace(f'state_dir = "{short_tmp}"', f'state_dir = "{short_tmp}/other"')
    gateway.config.write_text(text)
    answer = gateway.ask("reload")
    assert answer["ok"]
    assert any("server.state_dir" in warning for warning in answer["warnings"])


def test_a_reload_that_weakens_has_to_be_meant(gateway: Gateway) -> None:
    gateway.config.write_text(gateway.config.read_text() + '\n[trusted_proxies]\nfrom = "10.0.0.0/8"\n')
    answer = gateway.ask("reload")
    assert answer["error"] == "weaker"
    assert answer["changes"][0]["weaker"]
    assert gateway.ask("reload", allow_weaker=True)["ok"]
    assert gateway.event("reload-weakened")


def test_logs_move_with_a_reload(gateway: Gateway, short_tmp: Path) -> None:
    assert gateway.get() == 200
    text = gateway.config.read_text().replace("/access.log", "/moved.log")
    gateway.config.write_text(text)
    assert gateway.ask("reload")["ok"]
    for _ in range(10):
        assert gateway.get() == 200
    moved = short_tmp / "moved.log"
    wait_until(lambda: moved.exists() and len(moved.read_text().splitlines()) == 10)


def test_a_log_that_cannot_be_opened_refuses_the_reload(gateway: Gateway, short_tmp: Path) -> None:
    (short_tmp / "folder").mkdir()
    gateway.config.write_text(gateway.config.read_text().replace("/access.log", "/folder"))
    answer = gateway.ask("reload")
    assert answer["error"] == "log-failed"
    assert gateway.get() == 200


def hammer(gateway: Gateway) -> None:
    """Many requests, each on a connection of its own: one that fell to a worker that cannot answer would wait for ever."""
    for _ in range(100):
        assert gateway.get() == 200


def test_a_killed_worker_costs_no_new_connection(gateway: Gateway) -> None:
    victim = gateway.workers()[0]
    os.kill(victim, signal.SIGKILL)
    hammer(gateway)
    wait_until(lambda: len(gateway.workers()) == 2)


def test_a_stalled_worker_is_stood_in_for_and_comes_back(gateway: Gateway) -> None:
    wait_until(lambda: all("lag_ms" in worker and worker["state"] == "serving" for worker in gateway.ask("status")["workers"]))
    victim = gateway.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        wait_until(lambda: gateway.event("worker-stalled"))
        hammer(gateway)
        assert "stalled" in {worker["state"] for worker in gateway.ask("status")["workers"]}
    finally:
        os.kill(victim, signal.SIGCONT)
    wait_until(lambda: gateway.event("worker-recovered"))
    hammer(gateway)
    assert victim in gateway.workers()


def test_a_worker_that_dies_in_a_reload_has_no_vote(gateway: Gateway) -> None:
    stopped = gateway.workers()[0]
    os.kill(stopped, signal.SIGSTOP)  # it will not answer
    gateway.write(body="new")
    answers: list[dict[str, object]] = []
    asking = threading.Thread(target=lambda: answers.append(gateway.ask("reload")))
    asking.start()
    wait_until(lambda: gateway.event("worker-stalled"))
    os.kill(stopped, signal.SIGKILL)
    asking.join()
    assert answers[0]["ok"], answers
    wait_until(lambda: len(gateway.workers()) == 2 and all(w["state"] == "serving" for w in gateway.ask("status")["workers"]))
    assert {gateway.fetch()[1] for _ in range(20)} == {"new"}


def test_stop_over_the_control_socket(gateway: Gateway) -> None:
    assert gateway.ask("stop")["ok"]
    assert gateway.process.wait(60) == 0
    assert not (gateway.folder / "edge.sock").exists()


def test_a_second_gateway_on_the_same_socket_is_refused(gateway: Gateway, spawn: Spawn) -> None:
    second = Gateway(spawn, gateway.folder, gateway.port)
    assert second.process.wait(60) != 0
    assert f"another gateway (pid {gateway.process.pid}) runs already" in second.errors()
    assert gateway.get() == 200


def test_when_everything_is_killed_with_the_supervisor_in_a_reload(gateway: Gateway) -> None:
    workers = gateway.workers()
    gateway.process.send_signal(signal.SIGHUP)
    gateway.process.kill()
    gateway.process.wait(60)
    wait_until(lambda: not any(alive(pid) for pid in workers))


def test_before_it_drains_it_says_that_it_is_not_ready(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int]) -> None:
    gateway = Gateway(spawn, short_tmp, free_port(), server='drain_delay = "5m"').ready()
    assert gateway.ask("status")["ready"]
    gateway.process.send_signal(signal.SIGTERM)
    status = wait_until(lambda: (one := gateway.ask("status"))["state"] == "leaving" and one)
    assert (status["ready"], status["reasons"]) == (False, ["leaving"])
    assert gateway.get() == 200
    assert gateway.ask("reload")["error"] == "not-serving"
    assert gateway.event("reload-refused") is None
    gateway.process.send_signal(signal.SIGHUP)
    refused = wait_until(lambda: gateway.event("reload-refused"))
    assert (refused["error"], refused["by"]) == ("not-serving", "SIGHUP")
    assert gateway.end() == 0  # the second signal: at once


def test_after_its_delay_it_drains(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int]) -> None:
    gateway = Gateway(spawn, short_tmp, free_port(), server='drain_delay = "300ms"').ready()
    assert gateway.end() == 0
    assert gateway.event("draining") is not None


def test_a_pid_file_is_there_as_long_as_the_gateway(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int]) -> None:
    path = short_tmp / "pid"
    gateway = Gateway(spawn, short_tmp, free_port(), server=f'pid_file = "{path}"\npin = "on"').ready()
    assert int(path.read_text()) == gateway.process.pid
    assert {len(os.sched_getaffinity(pid)) for pid in gateway.workers()} == {1}
    assert gateway.end() == 0
    assert not path.exists()
