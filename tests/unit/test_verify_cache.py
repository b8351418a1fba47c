import os
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.verdict import Verdict
from trainer.verify.cache import CACHE_DIR_ENV, Bounds, VerdictCache

VERDICT = Verdict(True, True, 0, 1, 3, 4, refused=None, quality={"functions": 1.0})


def told_by(path: Path, bounds: Bounds | None = None) -> tuple[VerdictCache, list[str]]:
    said: list[str] = []
    return VerdictCache(path, bounds, said.append), said


@given(st.builds(Verdict, st.booleans(), st.none() | st.booleans(), st.integers(0, 9)))
def test_what_is_remembered_is_what_was_judged(verdict: Verdict) -> None:
    cache = VerdictCache()
    cache.put({"a": verdict})
    assert cache.get(["a", "b"]) == {"a": verdict}


def test_another_process_remembers_it_too_and_times_are_not_remembered(tmp_path: Path) -> None:
    first, said = told_by(tmp_path / "c" / "v")
    first.put({"a": replace(VERDICT, seconds={"compile": 1.0})})
    code = (
        "import sys; from pathlib import Path; from trainer.verify.cache import VerdictCache;"
        "print(VerdictCache(Path(sys.argv[1])).get(['a'])['a'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "c" / "v")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == repr(VERDICT)
    assert done.stderr == ""
    assert said == []


def test_only_we_can_read_it(tmp_path: Path) -> None:
    told_by(tmp_path / "c" / "v")[0].put({"a": VERDICT})
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    for file in (tmp_path / "c").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_unscored_is_never_remembered() -> None:
    cache = VerdictCache()
    cache.put({"a": replace(VERDICT, unscored="late"), "b": VERDICT})
    assert cache.get(["a", "b"]) == {"b": VERDICT}


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = VerdictCache(bounds=Bounds(entries=20))
    for name in "abcdefghijklmnopqrst":
        cache.put({name: VERDICT})
    cache.get(["a"])
    cache.put({"new": VERDICT})
    left = cache.get([*"abcdefghijklmnopqrst", "new"])
    assert {"a", "new", "t"} <= left.keys()
    assert "b" not in left
    assert len(left) <= 20


def test_its_size_is_bounded_whatever_is_put_in(tmp_path: Path) -> None:
    path = tmp_path / "c" / "v"
    cache, said = told_by(path, Bounds(size=1 << 20))
    for batch in range(60):
        long = replace(VERDICT, refused="x" * 1000)
        cache.put({f"{batch}-{n}": long for n in range(64)})
    cache.close()
    assert path.stat().st_size < 2 << 20
    assert said == []


@pytest.mark.parametrize("damage", [b"not a database, but longer than a header" * 40, b"\0" * 4096])
def test_a_damaged_file_is_done_without_and_said_once(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "c" / "v"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(damage)
    path.chmod(0o600)
    cache, said = told_by(path)
    cache.put({"a": VERDICT})
    assert cache.get(["a"]) == {"a": VERDICT}
    assert len(said) == 1
    assert str(path) in said[0]
    assert "\n" not in said[0]
    assert path.read_bytes() == damage


def test_damage_while_it_is_open_is_done_without(tmp_path: Path) -> None:
    path = tmp_path / "c" / "v"
    cache, said = told_by(path)
    cache.put({str(n): VERDICT for n in range(500)})
    cache._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(os.urandom(path.stat().st_size))
    cache._database.execute("PRAGMA cache_size = 0")
    cache.put({"a": VERDICT})
    assert cache.get(["a"]) == {"a": VERDICT}
    assert len(said) == 1


def test_garbage_in_a_row_is_judged_again(tmp_path: Path) -> None:
    cache, said = told_by(tmp_path / "c" / "v")
    cache.put({"a": VERDICT, "b": VERDICT, "c": VERDICT})
    with sqlite3.connect(tmp_path / "c" / "v") as other:
        other.execute("UPDATE verdicts SET body = '{}' WHERE key = 'a'")
        other.execute("UPDATE verdicts SET body = '[[[' WHERE key = 'b'")
    other.close()
    assert cache.get(["a", "b", "c"]) == {"c": VERDICT}
    assert said == []


def test_others_places_are_not_used(tmp_path: Path) -> None:
    """Who can write there decides what is rewarded."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    for place in ("open/v", "mine/link", "file/v"):
        cache, said = told_by(tmp_path / place)
        cache.put({"a": VERDICT})
        assert cache.get(["a"]) == {"a": VERDICT}
        assert len(said) == 1, place
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_or_locked_file_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.verify.cache._BUSY_SECONDS", 0.05)
    path = tmp_path / "c" / "v"
    cache, said = told_by(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    cache.put({"a": VERDICT})
    other.close()
    assert cache.get(["a"]) == {"a": VERDICT}
    assert len(said) == 1
    assert "locked" in said[0]


def test_several_trainers_share_it(tmp_path: Path) -> None:
    path = tmp_path / "c" / "v"
    caches = [told_by(path) for _ in range(4)]

    def work(number: int) -> None:
        for n in range(20):
            caches[number][0].put({f"{number}-{n}": VERDICT, "same": VERDICT})
            caches[number][0].get(["same", f"{(number + 1) % 4}-{n}"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [said for _, said in caches] == [[], [], [], []]
    assert len(told_by(path)[0].get([f"{i}-{n}" for i in range(4) for n in range(20)])) == 80


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(**env: str) -> Path | None:
        return VerdictCache.find(env)._path

    monkeypatch.setenv("HOME", str(tmp_path))
    assert place() == tmp_path / ".cache" / "maxrl-ops" / "verdicts.sqlite3"
    assert place(XDG_CACHE_HOME="relative") == place()
    xdg = str(tmp_path / "x")
    assert place(XDG_CACHE_HOME=xdg) == tmp_path / "x" / "maxrl-ops" / "verdicts.sqlite3"
    own = {CACHE_DIR_ENV: str(tmp_path / "own"), "XDG_CACHE_HOME": xdg}
    assert place(**own) == tmp_path / "own" / "verdicts.sqlite3"
    assert place(**{CACHE_DIR_ENV: ""}) is None
