"""The shelf and its folder: only what is good gets there, whoever brings it, and a broken folder hurts nobody."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edge.process.shelf import Shelf
from edge.process.staple_files import StapleFiles
from edge.settings.model import Host, Ocsp, Settings, TlsPolicy
from edge.tls.ocsp import OcspError, question
from tests.authority import Authority, Issued
from tests.builders import certificate, settings

CA = Authority()
LEAF = CA.leaf("a.test", responders=("http://127.0.0.1/",))
OTHER = CA.leaf("b.test", responders=("http://127.0.0.1/",))
KEY = question(LEAF.chain_pem).key


def _settings(*leaves: Issued, **changes: object) -> Settings:
    made = tuple(
        certificate(chain_pem=leaf.chain_pem, fingerprint=leaf.fingerprint, responders=("http://127.0.0.1/",)) for leaf in leaves
    )
    host = Host(names=("a.test",), listeners=("tls",), certificates=made, tls=TlsPolicy())
    return settings(hosts=(host,), **changes)


def _shelf(folder: Path, *leaves: Issued) -> Shelf:
    shelf = Shelf(StapleFiles(str(folder), None))
    shelf.look_at(_settings(*leaves), now=time.time())
    return shelf


def test_what_is_good_is_kept_and_found_again(tmp_path: Path) -> None:
    shelf = _shelf(tmp_path, LEAF)
    response = CA.answer(LEAF.certificate)
    shelf.put(KEY, response, time.time())
    shelf.files.write(KEY, response)
    again = _shelf(tmp_path, LEAF)
    assert again.staples(time.time()).keys() == {LEAF.fingerprint}
    assert again.staples(time.time())[LEAF.fingerprint].response == response
    assert _shelf(tmp_path, OTHER).answers == {}
    assert (tmp_path / "ocsp").stat().st_mode & 0o777 == 0o700


def test_what_is_not_good_does_not_get_there(tmp_path: Path) -> None:
    shelf = _shelf(tmp_path, LEAF)
    now = time.time()
    with pytest.raises(OcspError, match="another certificate"):
        shelf.put(KEY, CA.answer(OTHER.certificate), now)
    with pytest.raises(OcspError, match="nobody has asked"):
        shelf.put("0" * 64, CA.answer(LEAF.certificate), now)
    shelf.files.write(KEY, CA.answer(LEAF.certificate, begins=-7200, ends=-60))
    assert _shelf(tmp_path, LEAF).answers == {}
    shelf.put(KEY, CA.answer(LEAF.certificate, ends=60), now)
    assert shelf.find(LEAF.fingerprint, now + 61) is None
    assert shelf.staples(now + 61) == {}


def test_an_older_answer_takes_no_later_ones_place(tmp_path: Path) -> None:
    shelf = _shelf(tmp_path, LEAF)
    late, early = CA.answer(LEAF.certificate, begins=-10, ends=600), CA.answer(LEAF.certificate, begins=-60, ends=900)
    for response in (early, late, early):
        shelf.put(KEY, response, time.time())
    assert shelf.answers[KEY].response == late
    shelf.put(KEY, early, time.time() + 700)
    assert shelf.answers[KEY].response == early


def test_what_another_program_left_is_verified_too(tmp_path: Path) -> None:
    before = _shelf(tmp_path, LEAF, OTHER)
    before.put(KEY, CA.answer(LEAF.certificate), time.time())
    after = _shelf(tmp_path / "elsewhere", LEAF)
    after.adopt(before.pack(), time.time())
    assert after.answers == before.answers
    for broken in (b"", b"[]", b"{", b'{"x": 1}', b'{"' + KEY.encode() + b'": "00"}'):
        fresh = _shelf(tmp_path / "nothing", LEAF)
        fresh.adopt(broken, time.time())
        assert fresh.answers == {}


def test_settings_that_come_and_go_take_their_answers_along(tmp_path: Path) -> None:
    shelf = _shelf(tmp_path, LEAF)
    shelf.put(KEY, CA.answer(LEAF.certificate), time.time())
    shelf.look_at(_settings(LEAF), _settings(OTHER), now=time.time())
    assert shelf.questions.keys() == {LEAF.fingerprint, OTHER.fingerprint}
    assert KEY in shelf.answers
    shelf.look_at(_settings(OTHER), now=time.time())
    assert shelf.answers == {}
    shelf.look_at(_settings(LEAF, ocsp=Ocsp(stapling=False)), now=time.time())
    assert shelf.questions == {}


def test_a_folder_that_cannot_be_had_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    files = StapleFiles(str(tmp_path / "file"), None)
    assert "ocsp" in files.problem
    assert files.read(KEY) is None
    with pytest.raises(OSError, match="ocsp"):
        files.write(KEY, b"x")
    files.sweep([])
    nowhere = StapleFiles("", None)
    assert nowhere.problem == ""
    assert nowhere.read(KEY) is None


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = StapleFiles(str(tmp_path), None)
    files.write(KEY, b"before")
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:2]))
    with pytest.raises(OSError, match="no space"):
        files.write(KEY, b"after")
    assert files.read(KEY) == b"before"
    assert [path.name for path in (tmp_path / "ocsp").iterdir()] == [f"{KEY}.der"]


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    files = StapleFiles(str(tmp_path), None)
    (tmp_path / "secret").write_bytes(CA.answer(LEAF.certificate))
    (tmp_path / "ocsp" / f"{KEY}.der").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        files.read(KEY)
    (tmp_path / "ocsp" / f"{KEY}.der").unlink()
    os.mkfifo(tmp_path / "ocsp" / f"{KEY}.der")
    with pytest.raises(OSError, match="no file"):
        files.read(KEY)
    assert _shelf(tmp_path, LEAF).answers == {}


def test_old_files_of_unknown_certificates_are_removed(tmp_path: Path) -> None:
    files = StapleFiles(str(tmp_path), None)
    for key in (KEY, "1" * 64, "2" * 64):
        files.write(key, b"x")
    (tmp_path / "ocsp" / "readme").touch()
    for name in (KEY, "1" * 64):
        os.utime(tmp_path / "ocsp" / f"{name}.der", (0, 0))
    files.sweep([KEY])
    assert {path.name for path in (tmp_path / "ocsp").iterdir()} == {f"{KEY}.der", f"{'2' * 64}.der", "readme"}


def test_a_closed_folder_stays_closed(tmp_path: Path) -> None:
    files = StapleFiles(str(tmp_path), None)
    files.close()
    files.close()
    assert files.read(KEY) is None
