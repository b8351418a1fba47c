import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ordinary_user import python_for_nobody, run_as_nobody

from trainer.verify.errors import SandboxError
from trainer.verify.sandbox import Limits, Sandbox
from trainer.verify.sandboxes import WALLED, find_sandbox

pytestmark = pytest.mark.needs("bwrap", "setpriv", "prlimit")
ROOT = Path(__file__).parents[2]
LIMITS = Limits(cpu_s=2, wall_s=20, memory=512 << 20, file_size=4096, processes=4, output=4096)


@pytest.fixture(scope="module", params=WALLED)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return find_sandbox(request.param)


@pytest.fixture(scope="module")
def bubblewrap() -> Sandbox:
    return find_sandbox("bubblewrap")


@pytest.fixture(scope="module")
def landlock() -> Sandbox:
    return find_sandbox("landlock")


def shell(text: str) -> list[str]:
    return ["/bin/sh", "-c", text]


def alive(marker: str) -> list[str]:
    """Command lines of this host's processes that contain `marker`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes()
        except OSError:
            continue
        if marker.encode() in line:
            found.append(line.decode())
    return found


def assert_gone(marker: str) -> None:
    """The kernel tears a killed namespace down within milliseconds, not within the call."""
    deadline = time.monotonic() + 5
    while alive(marker):
        assert time.monotonic() < deadline, alive(marker)


def test_output_exit_status_and_stdin_come_through(sandbox: Sandbox) -> None:
    done = sandbox.run(shell("cat; echo err >&2; exit 3"), LIMITS, stdin=b"hello\n")
    assert (done.returncode, done.output) == (3, b"hello\nerr\n")
    assert (done.timed_out, done.truncated) == (False, False)


def test_nothing_of_the_host_is_there(
    bubblewrap: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAXRL_SECRET", "s3cr3t")
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t")
    script = f"env; cat {secret}; ls -d /root /home /etc/passwd /var /sys {ROOT}"
    done = bubblewrap.run(shell(script), LIMITS)
    assert b"s3cr3t" not in done.output
    assert done.output.count(b"cannot access") == 6
    assert b"HOME=" not in done.output


def test_landlock_shows_what_there_is_but_not_what_is_in_it(
    landlock: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAXRL_SECRET", "s3cr3t")
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t")
    script = f"env; cat {secret} /etc/passwd; ls / /tmp /var /home {ROOT}"
    done = landlock.run(shell(script), LIMITS)
    assert b"s3cr3t" not in done.output
    assert done.output.count(b"Permission denied") == 7
    assert b"HOME=" not in done.output


def test_it_is_alone_and_has_no_network(bubblewrap: Sandbox) -> None:
    script = "cat /proc/net/dev; echo; for p in /proc/[0-9]*; do echo $p; done; id -u; id -G"
    done = bubblewrap.run(shell(script), LIMITS).output.decode()
    network, _, rest = done.partition("\n\n")
    assert [line.split(":")[0].strip() for line in network.splitlines()[2:]] == ["lo"]
    *processes, uid, groups = rest.split()
    assert len(processes) <= 3
    assert uid != "0"
    assert groups == uid or os.geteuid() != 0


def test_only_the_private_tmp_and_the_output_are_writable(sandbox: Sandbox, tmp_path: Path) -> None:
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    for directory in (inputs, outputs):
        directory.mkdir()
    inputs.chmod(0o755)
    places = "/ /usr /dev /dev/shm /proc /in /tmp /out".split()
    script = 'for d in "$@"; do (echo > $d/x-maxrl) 2>/dev/null && echo $d; done'
    done = sandbox.run(
        [*shell(script), "sh", *places],
        LIMITS,
        read_only={inputs: "/in"},
        writable=(outputs, "/out"),
    )
    written = {"bubblewrap": "/tmp /out", "landlock": str(outputs)}  # noqa: S108
    assert done.output.decode().split() == written[sandbox.kind].split()
    assert [path.name for path in outputs.iterdir()] == ["x-maxrl"]
    assert list(inputs.iterdir()) == []


def test_privileges_cannot_come_back(bubblewrap: Sandbox) -> None:
    done = bubblewrap.run(
        shell("grep -E '^(CapPrm|CapEff|CapAmb|NoNewPrivs)' /proc/self/status"), LIMITS
    )
    values = dict(line.split(":\t") for line in done.output.decode().splitlines())
    assert values.pop("NoNewPrivs") == "1"
    assert {int(value, 16) for value in values.values()} == {0}


def test_every_limit_is_set(sandbox: Sandbox) -> None:
    """Those of `ulimit`, in its units: seconds, KiB, blocks of 512 bytes, files, KiB."""
    script = "for each in t v f c n s; do ulimit -$each; done"
    done = sandbox.run(["/bin/dash", "-c", script], LIMITS)
    assert done.output.split() == [b"2", b"524288", b"8", b"0", b"256", b"8192"]


def test_cpu_seconds_end_a_busy_loop(sandbox: Sandbox) -> None:
    done = sandbox.run(shell("while :; do :; done"), replace(LIMITS, cpu_s=1))
    assert done.returncode == 128 + 9
    assert not done.timed_out


def test_the_deadline_kills_everything(sandbox: Sandbox) -> None:
    script = "setsid sleep 4242.1 & trap '' TERM HUP; sleep 4242.1"
    start = time.monotonic()
    done = sandbox.run(shell(script), replace(LIMITS, wall_s=0.3))
    assert done.timed_out
    assert time.monotonic() - start < 5
    assert_gone("4242.1")


def test_a_daemon_left_behind_dies_with_its_parent(sandbox: Sandbox) -> None:
    done = sandbox.run(shell("setsid sleep 4242.2 & setsid sleep 4242.2 >&- 2>&- & exit 0"), LIMITS)
    assert (done.returncode, done.timed_out) == (0, False)
    assert_gone("4242.2")


def test_output_is_bounded(sandbox: Sandbox) -> None:
    done = sandbox.run(["/usr/bin/yes", "4242.3"], LIMITS)
    assert (done.truncated, done.timed_out, len(done.output)) == (True, False, LIMITS.output)
    assert_gone("4242.3")


def test_closed_output_does_not_outwit_the_deadline(sandbox: Sandbox) -> None:
    done = sandbox.run(shell("exec >&- 2>&-; exec sleep 4242.4"), replace(LIMITS, wall_s=0.3))
    assert done.timed_out
    assert_gone("4242.4")


def test_what_does_not_start_is_the_sandboxs_failure(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="No such file"):
        sandbox.run(["/usr/bin/no-such-program"], LIMITS)
    with pytest.raises(SandboxError, match=r"bwrap|confine"):
        sandbox.run(["/usr/bin/true"], LIMITS, read_only={tmp_path / "no": "/no"})


# dash gives up at the first fork that fails, so this is at most one process too many.
_BOMB = "i=0; while [ $i -lt 60 ]; do sleep 4242.5 & i=$((i+1)); echo forked; done"


def test_a_fork_bomb_meets_its_limit(sandbox: Sandbox) -> None:
    done = sandbox.run(
        ["/bin/dash" if Path("/bin/dash").exists() else "/bin/sh", "-c", _BOMB], LIMITS
    )
    assert done.output.count(b"forked") == 3  # and the shell itself: 4
    assert b"fork" in done.output.splitlines()[-1]
    assert_gone("4242.5")


def test_sandboxes_do_not_share_their_process_limit(sandbox: Sandbox) -> None:
    """Neither does one limit count what runs beside it, nor anything else of this host."""
    waiting = [*shell("echo up; sleep 4242.6")]
    script = (
        "from trainer.verify.sandboxes import *\nfrom trainer.verify.sandbox import *\n"
        f"find_sandbox({sandbox.kind!r}).run({waiting!r}, {replace(LIMITS, wall_s=60.0)!r})"
    )
    beside = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) for _ in range(2)]
    try:
        deadline = time.monotonic() + 10
        while len(alive("sleep\x004242.6")) < 2:
            assert time.monotonic() < deadline
        done = sandbox.run(
            shell("sleep 0 & sleep 0 & wait; echo fine"), replace(LIMITS, processes=3)
        )
        assert done.output == b"fine\n"
    finally:
        for process in beside:
            process.kill()
            process.wait()
    assert_gone("4242.6")  # the sandbox dies with the process that started it


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_has_the_same_walls() -> None:
    """The other half of the sandbox: a user namespace instead of a fresh uid."""
    python = python_for_nobody()
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from trainer.verify.sandboxes import *\nfrom trainer.verify.sandbox import *\n"
        f"for command in ({shell(_BOMB)!r}, ['/usr/bin/touch', '/dev/shm/x', '/x']):\n"
        f"    done = find_sandbox('bubblewrap').run(command, {LIMITS!r})\n"
        "    sys.stdout.buffer.write(done.output)\n"
    )
    done = run_as_nobody([python, "-c", script], env={"PATH": "/usr/bin:/bin"}, timeout=60)
    if "cannot make a sandbox here" in done.stderr:
        pytest.skip("this host gives ordinary users no namespaces")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("forked") == 3
    assert "fork" in done.stdout
    assert done.stdout.count("Read-only file system") == 2
    assert_gone("4242.5")
