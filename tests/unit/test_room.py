"""What a container may take counts, not what its host has."""

import os
from pathlib import Path

import pytest

from maxrl_ops.room import cores, free_memory


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_the_tightest_of_host_and_groups_counts(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB"})
    assert free_memory(tmp_path) == 8000 << 10
    write(tmp_path, {
        "proc/self/cgroup": "12:memory:/old\n0::/pod/job",
        "sys/fs/cgroup/pod/memory.max": "3000000",
        "sys/fs/cgroup/pod/memory.current": "2500000",
        "sys/fs/cgroup/pod/memory.stat": "anon 7\ninactive_file 100000",
        "sys/fs/cgroup/pod/job/memory.max": "max",
        "sys/fs/cgroup/pod/job/memory.current": "2500000",
    })  # fmt: skip
    assert free_memory(tmp_path) == 600000
    # Over its limit, and about to be told so.
    write(tmp_path, {"sys/fs/cgroup/pod/job/memory.max": "1000"})
    assert free_memory(tmp_path) == 0


def test_nothing_is_known_where_nobody_tells(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
    assert free_memory() is not None


@pytest.mark.parametrize(
    ("quota", "found"),
    [("max 100000", 4), ("150000 100000", 2), ("5000 100000", 1), ("900000 100000", 4), ("", 4)],
)
def test_a_quota_is_so_many_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, found: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": quota})
    assert cores(tmp_path) == found
