"""Lines arrive whole, in order, and nobody ever waits for whoever should read them."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from pathlib import Path

import pytest

from edge.observe.output import FLUSH_AT, MAX_BUFFERED, PIPE_BUF, Kind, Output


def line(n: int, size: int = 100) -> bytes:
    return b"%d " % n + b"x" * (size - len(b"%d " % n) - 1) + b"\n"


def notice(count: int) -> bytes:
    return b"lost %d\n" % count


def read_all(fd: int) -> bytes:
    os.set_blocking(fd, False)
    out = b""
    while True:
        try:
            data = os.read(fd, 1 << 20)
        except BlockingIOError:
            return out
        if not data:
            return out
        out += data


@pytest.fixture
def pipe():  # type: ignore[no-untyped-def]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_four_processes_write_one_pipe_and_no_line_is_torn() -> None:
    reader, writer = os.pipe()
    each = 4000
    children = []
    for worker in range(4):
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            own = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
            output = Output(own, Kind.STREAM)
            for n in range(each):
                output.write(b"%d " % worker + b"%d " % worker * (20 + n % 150) + b"\n")
            output.close(30)
            os._exit(output.dropped > 0)
        children.append(pid)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        lines = stream.read().split(b"\n")
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0, 0]
    assert lines.pop() == b""
    assert len(lines) == 4 * each
    assert all(len(set(text.split())) == 1 for text in lines)


def test_a_pipe_gets_whole_lines_in_writes_of_at_most_pipe_buf() -> None:
    writes: list[bytes] = []

    def send(data: bytes) -> int:
        writes.append(data)
        return len(data)

    output = Output(0, Kind.STREAM, send=send)
    for n in range(200):
        output.write(line(n, 90 + n))
    output.flush()
    assert all(len(data) <= PIPE_BUF and data.endswith(b"\n") for data in writes)
    assert b"".join(writes) == b"".join(line(n, 90 + n) for n in range(200))
    assert len(writes) < 12


def test_a_slow_reader_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = Output(writer, Kind.STREAM)
    output.on_recovery(notice)
    count = 3 * MAX_BUFFERED // 100
    begin = time.monotonic()
    for n in range(count):
        output.write(line(n))
    assert time.monotonic() - begin < 20
    assert output.dropped > 0
    received = b""
    for _ in range(1000):
        received += read_all(reader)
        output.flush()
        if b"lost" in received:
            break
    numbers = [int(text.split()[0]) for text in received.splitlines() if not text.startswith(b"lost")]
    assert numbers == list(range(count - output.dropped))
    assert received.splitlines()[-1] == b"lost %d" % output.dropped
    output.write(line(7))
    output.flush()
    assert read_all(reader) == line(7)


def test_a_shared_description_keeps_its_flags_and_does_not_block() -> None:
    reader, writer = os.pipe()
    try:
        output = Output(writer, Kind.STREAM, shared=True)
        for n in range(3 * MAX_BUFFERED // 100):
            output.write(line(n))
        output.flush()
        assert os.get_blocking(writer)
        assert output.dropped > 0
        assert read_all(reader).startswith(line(0))
    finally:
        os.close(reader)
        os.close(writer)


def test_lines_wait_until_there_are_enough(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = Output(writer, Kind.STREAM)
    output.write(line(1))
    assert read_all(reader) == b""
    for n in range(FLUSH_AT // 100 + 1):
        output.write(line(n))
    assert read_all(reader).startswith(line(1))


def test_a_file_is_written_in_one_go_and_reopened(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    first = os.open(path, flags)
    output = Output(first, Kind.FILE)
    output.write(line(1))
    output.flush()
    path.rename(old)
    output.write(line(2))
    second = os.open(path, flags)
    output.reopen(second)
    output.write(line(3))
    output.flush()
    assert old.read_bytes() == line(1)
    assert path.read_bytes() == line(2) + line(3)
    os.close(first)
    os.close(second)


def test_a_disk_that_fills_up_tears_no_line() -> None:
    disk = bytearray()
    room = 250

    def send(data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "full")
        took = data[:room]
        room -= len(took)
        disk.extend(took)
        return len(took)

    output = Output(0, Kind.FILE, send=send)
    output.on_recovery(notice)
    for n in range(5):
        output.write(line(n))
    output.flush()
    assert bytes(disk) == b"".join(line(n) for n in range(3))[:250]
    room = 120
    output.write(line(5))
    output.flush()
    room = 10_000
    output.flush()
    assert bytes(disk) == b"".join(line(n) for n in range(6))
    assert output.dropped == 0


def test_no_descriptor_yet() -> None:
    output = Output(-1, Kind.FILE)
    for n in range(MAX_BUFFERED // 100 + 50):
        output.write(line(n))
    output.flush()
    output.close(0)
    assert output.dropped >= 49


def test_a_broken_pipe_is_only_counted() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    output = Output(writer, Kind.STREAM)
    for n in range(2 * MAX_BUFFERED // 100):
        output.write(line(n))
    output.flush()
    os.close(writer)
    assert output.dropped > 0


def test_syslog_gets_a_datagram_a_line(short_tmp: Path) -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with server, client:
        server.bind(os.fspath(short_tmp / "log"))
        server.settimeout(60)
        client.connect(os.fspath(short_tmp / "log"))
        client.setblocking(False)
        output = Output(client.fileno(), Kind.SYSLOG)
        output.write(b'{"a":1}\n')
        output.write(b"second\n", 3)
        output.flush()
        first, second = server.recv(9000), server.recv(9000)
    assert re.fullmatch(rb'<30>[A-Z][a-z]{2} [ 1-3]\d \d\d:\d\d:\d\d edge\[\d+\]: \{"a":1\}', first)
    assert second.startswith(b"<27>")


def test_a_syslog_that_does_not_read_costs_lines_and_no_time(short_tmp: Path) -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with server, client:
        server.bind(os.fspath(short_tmp / "log"))
        client.connect(os.fspath(short_tmp / "log"))
        client.setblocking(False)
        output = Output(client.fileno(), Kind.SYSLOG)
        for n in range(2 * MAX_BUFFERED // 1000):
            output.write(line(n, 1000))
        output.flush()
        assert output.dropped > 0


def test_closing_waits_for_a_reader_only_so_long(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    output = Output(writer, Kind.STREAM)
    for n in range(5000):
        output.write(line(n))
    begin = time.monotonic()
    output.close(0.1)
    assert 0.05 < time.monotonic() - begin < 20
