"""A systemd that boots in namespaces of its own, over a throw-away copy of this host's files.

Needs root. Nothing of it is seen outside: a private network, private processes, an overlay whose
upper half lies in memory, and outlives a reboot.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from waiting import wait_until

import maxrl_ops

# $1 the disk, $2 the target, the others what lies perhaps on other file systems than / does.
_BOOT = """
set -e
disk=$1 target=$2; shift 2
mount --make-rprivate /
root=$disk/root
mkdir -p $disk/upper $disk/work $root
mount -t overlay overlay -o lowerdir=/,upperdir=$disk/upper,workdir=$disk/work $root
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
mount --rbind /dev $root/dev
mount -t tmpfs tmpfs $root/run
for path; do mkdir -p "$root$path"; mount --rbind "$path" "$root$path"; done
if ! [ -e $disk/installed ]; then
    # Of the host's own services only its journal is wanted.
    find $root/etc/systemd/system $root/usr/lib/systemd/system -name '*.wants' -prune \
        -exec rm -rf {} +
    mkdir -p $root/etc/systemd/system/sysinit.target.wants
    ln -s /lib/systemd/system/systemd-journald.service $root/etc/systemd/system/sysinit.target.wants
    touch $disk/installed
fi
cd $root
mkdir -p .old
pivot_root . .old
umount -l /.old
mount --make-rshared /
exec env -i container=private PATH=/usr/bin:/bin:/usr/sbin:/sbin \
    /lib/systemd/systemd --unit=$target --log-target=journal --show-status=0
"""
_UNSHARE = ("unshare", "--cgroup", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net")
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def skip_unless_possible() -> None:
    """Skip, or in CI fail, where no systemd can be booted, with the reason."""
    reason = None
    if os.geteuid() != 0:
        reason = "booting systemd takes root"
    else:
        probe = ("sh", "-c", "d=$(mktemp -d); mount -t cgroup2 cgroup2 $d; umount $d; rmdir $d")
        done = subprocess.run([*_UNSHARE, *probe], capture_output=True, text=True, check=False)
        if done.returncode or done.stderr:
            reason = f"no namespaces to boot systemd in: {done.stderr.strip()}"
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


@dataclass
class Host:
    """The machine: its disk, and while it runs its first process."""

    disk: Path
    cgroup: Path
    booted: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    init: int = 0

    def boot(self, target: str = "multi-user.target") -> None:
        """Boot it, and wait until it has."""
        package = Path(maxrl_ops.__file__).parents[1]
        needed = dict.fromkeys([sys.base_prefix, sys.prefix, str(package)])
        shown = [path for path in needed if not path.startswith("/usr")]
        with (self.disk / "console").open("ab") as console:
            process = subprocess.Popen(
                [*_UNSHARE, "sh", "-c", _BOOT, "sh", str(self.disk), target, *shown],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                # So that systemd finds nothing but its own below the root of its cgroups.
                preexec_fn=lambda: (self.cgroup / "cgroup.procs").write_text(str(os.getpid())),  # noqa: PLW1509
            )
        self.booted.append(process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        self.init = int(wait_until(children.read_text, 10, f"a first process: {self.console()}"))
        wait_until(self._is_up, 30, f"a systemd that is up: {self.console()}")

    def _is_up(self) -> bool:
        assert self.booted[-1].poll() is None, self.console()
        return self.ask("systemctl", "is-system-running").strip() in {"running", "degraded"}

    def console(self) -> str:
        return (self.disk / "console").read_text(errors="replace")

    def _inside(self, command: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
        environment = ("env", "-i", f"PATH={_PATH}", "HOME=/root", "LC_ALL=C.UTF-8")
        return subprocess.run(
            ["nsenter", "--target", str(self.init), "--all", *environment, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run(self, *command: str) -> str:
        """What a command in there prints; it must succeed."""
        done = self._inside(command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, *command: str) -> str:
        """What a command in there prints, however it ends."""
        return self._inside(command).stdout

    def maxrl_ops(self, *arguments: str) -> str:
        """Our own command, as root types it."""
        return self.run(sys.executable, "-P", "-m", "maxrl_ops", *arguments)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def power_off(self) -> None:
        """Shut it down as an administrator does; every unit is stopped."""
        self.ask("systemctl", "poweroff")
        self.booted[-1].wait(60)


@contextmanager
def host() -> Iterator[Host]:
    """A machine that is not booted yet; nothing of it remains."""
    place = Path(tempfile.mkdtemp(prefix="maxrl-boot-"))
    disk, cgroups = place / "disk", place / "cgroups"
    disk.mkdir()
    cgroups.mkdir()
    mounted: list[Path] = []
    made: Host | None = None
    try:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=True)
        mounted.append(disk)
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(cgroups)], check=True)
        mounted.append(cgroups)
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line[4:] for line in lines if line.startswith("0::/"))
        cgroup = cgroups / own / f"maxrl-boot-{os.getpid()}"
        cgroup.mkdir()
        made = Host(disk, cgroup)
        yield made
    finally:
        if made is not None:
            _bury(made)
        for path in mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
        shutil.rmtree(place)


def _bury(made: Host) -> None:
    for process in made.booted:
        if process.poll() is None:
            # The end of its first process is that of every other.
            with suppress(ProcessLookupError):
                os.kill(made.init, 9)
            process.wait(30)
    for directory, _, _ in os.walk(made.cgroup, topdown=False):
        wait_until(lambda path=directory: _removed(Path(path)), 10, "an empty cgroup")


def _removed(cgroup: Path) -> bool:
    with suppress(OSError):
        cgroup.rmdir()
    return not cgroup.exists()
