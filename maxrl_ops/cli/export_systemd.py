"""`export systemd`: units, user and directories for this host."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import maxrl_ops
from maxrl_ops.cli.errors import CommandError
from maxrl_ops.cli.exit_codes import ExitCode
from maxrl_ops.systemd_files import DEFAULT, Installation, files
from maxrl_ops.wire.rundir import replace
from maxrl_ops.wire.settings import HOME_ENV
from maxrl_ops.wire.user_paths import expanded

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
# What systemd takes in no program's name, or as a separator between paths.
_ODD = re.compile(r"[\"'\\:\x00-\x1f\x7f]")
_ASK_SECONDS = 30.0
# systemd itself reads them, and so may everybody: secrets are elsewhere.
_UNIT_MODE = 0o644


def export_systemd(to: str, user: str) -> int:
    """Write the files below the directory `to`, which is /etc in the end."""
    target = expanded(to).absolute()
    if target.exists() and not target.is_dir():
        raise CommandError(f"--to={to!r}: {target} is no directory")
    if user == "root" or not _USER.fullmatch(user):
        raise CommandError(
            f"--user={user!r} is not allowed: give an ordinary user's name, which is made where "
            "there is none"
        )
    here = _installation(user)
    for path in (here.python, here.home, *here.needed, *here.path):
        if _ODD.search(str(path)):
            raise CommandError(f"{str(path)!r} cannot stand in a unit: give it a plainer name")
    for name, text in files(here).items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, text.encode())
        path.chmod(_UNIT_MODE)
    sys.stdout.write(
        f"{target}: units of the daemon and of runs for {here.python}, user {user}, home "
        f"{here.home}\n"
    )
    if target == Path("/etc"):
        sys.stdout.write(
            "  users, directories  systemd-sysusers && systemd-tmpfiles --create\n"
            "  the daemon          systemctl daemon-reload && systemctl enable --now maxrl-ops\n"
        )
    return ExitCode.OK


def _installation(user: str) -> Installation:
    """Where this process's interpreter, package and toolchain are."""
    package = Path(maxrl_ops.__file__).parents[1]
    prefixes = [Path(sys.prefix), Path(sys.base_prefix), package]
    path = [Path(sys.executable).parent, *DEFAULT.path[1:]]
    if (sysroot := _sysroot()) is not None and sysroot != Path("/usr"):
        prefixes.append(sysroot)
        # The compiler itself: what rustup puts before it needs the home it was installed from.
        path.insert(1, sysroot / "bin")
    needed = [p for p in prefixes if not any(p != q and p.is_relative_to(q) for q in prefixes)]
    return Installation(
        python=Path(sys.executable),
        needed=list(dict.fromkeys(needed)),
        path=path,
        home=Path(os.environ.get(HOME_ENV) or DEFAULT.home).absolute(),
        user=user,
    )


def _sysroot() -> Path | None:
    """The Rust toolchain; None where there is none, and only other tasks can be run."""
    rustc = shutil.which("rustc") or shutil.which("rustc", path=expanded("~/.cargo/bin"))
    if rustc is None:
        return None
    try:
        done = subprocess.run(
            [rustc, "--print", "sysroot"],
            cwd="/", capture_output=True, text=True, timeout=_ASK_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return Path(done.stdout.strip())
