"""Files change in all the ways in which they are changed, and are told once each."""

from __future__ import annotations

import os
import select
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from edge.process import watch as module
from edge.process.watch import Watch
from edge.settings.files import State, state_of

Start = Callable[..., Watch]


@pytest.fixture(params=["inotify", "polling"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Watch paths; with inotify alone, or by polling alone."""
    if request.param == "polling":
        monkeypatch.setattr(module._Inotify, "open", classmethod(lambda cls: None))
        monkeypatch.setattr(module, "_POLL_ALONE", 0.05)
    else:
        monkeypatch.setattr(module, "_POLL", 3600.0)
    running: list[Watch] = []

    def begin(*paths: Path, known: Mapping[str, State] | None = None) -> Watch:
        running.append(Watch([str(path) for path in paths], time.monotonic(), known))
        return running[-1]

    yield begin
    for one in running:
        one.close()


def told(watch: Watch, seconds: float = 60.0) -> list[str]:
    """What is told next, waiting as a selector's loop does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        select.select([watch], [], [], max(0.0, min(watch.due(), end) - time.monotonic()))
        found = watch.changed(time.monotonic())
        if found:
            return found
    return []


def silent(watch: Watch) -> bool:
    return told(watch, 0.5) == []


def test_a_file_that_is_written_in_place(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    watch = start(path)
    assert silent(watch)
    path.write_text("2")
    assert told(watch) == [str(path)]
    assert silent(watch)


def test_a_file_that_is_replaced_atomically_again_and_again(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    watch = start(path)
    for count in range(3):
        (tmp_path / "new").write_text(f"{count}")
        (tmp_path / "new").rename(path)
        assert told(watch) == [str(path)]
    assert silent(watch)


def test_a_mode_that_changes(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    watch = start(path)
    path.chmod(0o600)
    assert told(watch) == [str(path)]


def test_a_file_that_vanishes_and_comes_back(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    watch = start(path)
    path.unlink()
    assert told(watch) == [str(path)]
    path.write_text("1")
    assert told(watch) == [str(path)]


def test_a_directory_that_appears_later_with_the_file_in_it(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "one" / "two" / "a"
    watch = start(path)
    (tmp_path / "one").mkdir()
    assert silent(watch)
    made = tmp_path / "elsewhere"
    made.mkdir()
    (made / "a").write_text("1")
    made.rename(tmp_path / "one" / "two")
    assert told(watch) == [str(path)]
    path.write_text("2")
    assert told(watch) == [str(path)]


def test_a_directory_that_is_swapped_for_another(start: Start, tmp_path: Path) -> None:
    tls, new = tmp_path / "tls", tmp_path / "tls.new"
    for folder in (tls, new):
        folder.mkdir()
        (folder / "a").write_text(folder.name)
    watch = start(tls / "a")
    tls.rename(tmp_path / "tls.old")
    new.rename(tls)
    assert told(watch) == [str(tls / "a")]
    (tls / "a").write_text("more")
    assert told(watch) == [str(tls / "a")]


class Mounted:
    """A secret as the kubelet mounts it: files are links through ``..data``, which is swapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.count = 0
        self.swap("1")
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(f"..data/{name}")

    def swap(self, text: str) -> None:
        self.count += 1
        dated, old = self.folder / f"..2026_{self.count}", self.folder / f"..2026_{self.count - 1}"
        dated.mkdir()
        for name in ("tls.crt", "tls.key"):
            (dated / name).write_text(text)
        (self.folder / "..data_tmp").symlink_to(dated.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        shutil.rmtree(old, ignore_errors=True)


def test_a_secret_that_kubernetes_renews(start: Start, tmp_path: Path) -> None:
    secret = Mounted(tmp_path / "secret")
    paths = [secret.folder / "tls.crt", secret.folder / "tls.key"]
    watch = start(*paths)
    assert silent(watch)
    for count in range(3):
        secret.swap(f"{count}")
        assert told(watch) == [str(path) for path in paths]
        assert secret.folder.joinpath("tls.crt").read_text() == f"{count}"
    assert silent(watch)


def test_links_as_certbot_makes_them(start: Start, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "live").mkdir()
    for count in (1, 2):
        (tmp_path / "archive" / f"a{count}").write_text(f"{count}")
    link = tmp_path / "live" / "a"
    link.symlink_to("../archive/a1")
    watch = start(link)
    (tmp_path / "live" / "new").symlink_to("../archive/a2")
    (tmp_path / "live" / "new").rename(link)
    assert told(watch) == [str(link)]
    (tmp_path / "archive" / "a2").write_text("3")
    assert told(watch) == [str(link)]


def test_a_directory_tells_of_its_entries(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    watch = start(folder)
    (folder / "a.toml").write_text("")
    assert told(watch) == [str(folder)]
    (folder / "a.toml").unlink()
    assert told(watch) == [str(folder)]


def test_links_in_a_circle_are_survived(start: Start, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    watch = start(tmp_path / "a")
    assert silent(watch)
    (tmp_path / "b").unlink()
    (tmp_path / "b").write_text("1")
    assert told(watch) == [str(tmp_path / "a")]


def test_other_names_in_the_directory_tell_nothing(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    watch = start(path)
    for count in range(100):
        (tmp_path / f"other{count}").write_text("x")
    assert silent(watch)


def test_a_bunch_of_changes_is_told_at_once(start: Start, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_text("1")
    watch = start(*paths)
    for path in paths:
        path.write_text("2")
    found = told(watch)
    while len(found) < 3:
        more = told(watch, 1.0)
        assert more, found
        found += more
    assert sorted(found) == sorted(map(str, paths))


def test_other_paths_from_now_on(start: Start, tmp_path: Path) -> None:
    old, kept, new = (tmp_path / folder / "x" for folder in ("old", "kept", "new"))
    for path in (old, kept, new):
        path.parent.mkdir()
        path.write_text("1")
    watch = start(old, kept)
    kept.write_text("changed before the paths were set, and told nevertheless")
    watch.set([str(kept), str(new)], time.monotonic())
    old.write_text("2")
    assert told(watch) == [str(kept)]
    new.write_text("2")
    assert told(watch) == [str(new)]
    assert silent(watch)


def test_what_has_changed_since_it_was_read_is_told_without_an_event(start: Start, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("same", "written", "gone", "new")]
    for path in paths[:3]:
        path.write_text("1")
    states = {str(path): state_of(str(path)) for path in paths}
    paths[1].write_text("22")
    paths[2].unlink()
    paths[3].write_text("1")
    watch = start(*paths, known=states)
    assert told(watch) == [str(path) for path in paths[1:]]
    assert silent(watch)
    watch.set([*map(str, paths), str(tmp_path / "later")], time.monotonic(), {str(tmp_path / "later"): (1, 2, 3)})
    assert told(watch) == [str(tmp_path / "later")]
    assert silent(watch)


def test_a_missed_event_is_made_good_by_the_poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    monkeypatch.setattr(module, "_POLL", 0.1)
    monkeypatch.setattr(module._Inotify, "add", lambda self, directory: -1)
    watch = Watch([str(path)], time.monotonic())
    try:
        assert watch.partial
        path.write_text("2")
        assert told(watch) == [str(path)]
    finally:
        watch.close()


def test_watches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_DIRECTORIES", 3)
    monkeypatch.setattr(module, "_POLL", 0.1)
    paths = [tmp_path / f"{count}" / "a" for count in range(6)]
    for path in paths:
        path.parent.mkdir()
        path.write_text("1")
    watch = Watch(map(str, paths), time.monotonic())
    try:
        assert watch.partial
        assert len(watch._watched) == 3
        for path in paths:
            path.write_text("2")
        found: list[str] = []
        while len(found) < 6:
            more = told(watch)
            assert more
            found += more
    finally:
        watch.close()


def test_one_that_is_never_quiet_is_told_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    watch = Watch([str(path)], 0.0)
    try:
        now, found = 0.0, list[str]()
        while not found and now < 10.0:
            path.write_text(f"{now}")
            now += 0.1
            found = watch.changed(now)
        assert found == [str(path)]
        assert now <= 2.3
    finally:
        watch.close()


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        watch = Watch([str(tmp_path / "a")], 0.0)
        watch.close()
        watch.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_watching_for_long_keeps_nothing(tmp_path: Path) -> None:
    """Directories that come and go leave no watch behind."""
    secret = Mounted(tmp_path / "secret")
    watch = Watch([str(secret.folder / "tls.crt")], time.monotonic())
    try:
        for count in range(30):
            secret.swap(f"{count}")
            watch.changed(float(count * 100) + time.monotonic())
        assert len(watch._watched) == len(watch._by_watch) == 2
    finally:
        watch.close()
