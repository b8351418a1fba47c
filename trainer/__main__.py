"""`python -P -m trainer`: one run, configured by environment variables.

Writes its log and checkpoints to `MAXRL_RUN_DIR` (default: ./maxrl-run), resumes from the newest
checkpoint there, and stops on SIGTERM at the next iteration boundary.
"""

import faulthandler
import fcntl
import gc
import os
import signal
import sys
import traceback
from contextlib import nullcontext, suppress
from pathlib import Path

from maxrl_ops.wire.record import RunEnded
from maxrl_ops.wire.rundir import DIRECTORY_MODE, FILE_MODE, RunDir, replace
from maxrl_ops.wire.settings import (
    ATTEMPT_ENV,
    LOCK_FD_ENV,
    LOG_BYTES_ENV,
    RUN_DIR_ENV,
    SettingError,
)
from trainer import before_torch
from trainer.config import Config, load_config
from trainer.environment import whole_number
from trainer.errors import ExitCode, TrainerError
from trainer.launched import is_first_process, is_launched
from trainer.run_log import LONGEST_LOG, RunLog
from trainer.tasks import close_task
from trainer.tasks.base import Task
from trainer.verify.errors import VerifierUnavailable

# n_samples is not among it: rows that do not fit together are computed one after the other.
_LESS_MEMORY = (
    "out of memory; lower max_new_tokens, set precision bfloat16 or gradient_checkpointing, or use "
    "a smaller model or another device"
)


def main() -> int:
    """Run the trainer; the process's exit code."""
    faulthandler.enable()
    stop = _StopFlag()
    signal.signal(signal.SIGTERM, stop.set)
    # A Ctrl-C in the terminal belongs to the person who watches, not to a supervised run.
    signal.signal(signal.SIGINT, signal.SIG_IGN if _is_supervised() else stop.set)
    try:
        config, task = load_config(os.environ)
        run = RunDir(config.run_dir)
        log = _open_log(run) if is_first_process(os.environ) else None
        _tell_stacks(run)
    except SettingError as error:
        return _refuse(str(error), ExitCode.USAGE)
    except TrainerError as error:
        return _refuse(str(error), error.code)
    except OSError as error:
        return _refuse(f"{error.filename or 'run directory'}: {error.strerror}", ExitCode.USAGE)
    with nullcontext() if log is None else log.capturing_output():
        try:
            return _train(config, task, log, stop)
        finally:
            # It holds the pipe whose end is waited for.
            close_task(task)


class _StopFlag:
    """Set by a signal, read at iteration boundaries; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.requested = False

    def set(self, number: int, _frame: object) -> None:
        # A launcher passes on what the whole group got already.
        if self.requested and not is_launched(os.environ):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.requested = True


def _is_supervised() -> bool:
    return LOCK_FD_ENV in os.environ


def _open_log(run: RunDir) -> RunLog:
    _prepare(run)
    longest = whole_number(os.environ, LOG_BYTES_ENV, LONGEST_LOG)
    return RunLog(run, None if _is_supervised() else os.dup(1), longest)


def _prepare(run: RunDir) -> None:
    """Make the run directory, and hold its lock unless the supervisor's was inherited."""
    for path in (run.path, run.control, run.checkpoints):
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    if _is_supervised():
        return
    descriptor = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TrainerError(
            f"{run.path} is in use: another trainer holds {run.lock.name}", ExitCode.IN_USE
        ) from None


def _tell_stacks(run: RunDir) -> None:
    """Write every thread's stack to stacks.log on SIGUSR1: who asks sees where we stand still."""
    # Who is not the first process may come first.
    run.path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    descriptor = os.open(
        run.stacks, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE
    )
    faulthandler.register(signal.SIGUSR1, descriptor, all_threads=True)


def _refuse(message: str, code: ExitCode) -> ExitCode:
    """Say why the run did not start: on stderr, and in the log where there is a place for it."""
    sys.stderr.write(f"trainer: {message}\n")
    directory = Path(os.environ.get(RUN_DIR_ENV, ""))
    # A log that somebody else holds or writes, or that cannot be written, is not ours to end.
    is_ours = code is not ExitCode.IN_USE and is_first_process(os.environ)
    if is_ours and (directory / "run.json").is_file():
        with suppress(OSError):
            RunLog(RunDir(directory)).write(RunEnded("failed", message))
    return code


def _train(config: Config, task: Task, log: RunLog | None, stop: _StopFlag) -> ExitCode:
    """Train to the end; whatever ends it early stands in the log as one line.

    A process that only helps has no log: there the line goes to stderr.
    """
    before_torch.set_up(os.environ, config.run_dir)
    # torch and transformers: seconds, and only for a run whose configuration is right.
    from torch import OutOfMemoryError  # noqa: PLC0415

    from trainer.loop import Trainer  # noqa: PLC0415
    from trainer.ranks import Ranks  # noqa: PLC0415

    trainer: Trainer | None = None
    resumed_from = 0
    try:
        if config.engine == "trl":
            return _train_by_trl(config, task, log, stop)
        attempt = whole_number(os.environ, ATTEMPT_ENV, 1)
        ranks = Ranks.join(os.environ, config.device)
        trainer = Trainer(config, task, log, attempt, lambda: stop.requested, ranks)
        resumed_from = trainer.done
        ended = trainer.train()
        ranks.leave()
        return ended
    except TrainerError as error:
        reason, code = str(error), error.code
    except OutOfMemoryError as error:
        reason = f"device {config.device}: {_LESS_MEMORY}: {str(error).partition('. ')[0]}"
        # What was enough for an iteration may be so again, once others leave the device.
        has_trained = trainer is not None and trainer.done > resumed_from
        code = ExitCode.CRASHED if has_trained else ExitCode.USAGE
    except VerifierUnavailable as error:
        reason, code = str(error), ExitCode.USAGE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason, code = f"{where}{error.strerror or error}", ExitCode.CRASHED
    except Exception as error:  # noqa: BLE001 - the supervisor restarts, the log must say why
        with suppress(OSError):
            (sys.stderr.write if log is None else log.write_foreign)(traceback.format_exc())
        reason, code = f"{type(error).__name__}: {error}", ExitCode.CRASHED
    try:
        _say_failed(reason, log)
    except OSError:
        # The disk may be the very reason: then the exit code has to do.
        return ExitCode.UNTOLD if code == ExitCode.CRASHED else code
    return code


def _say_failed(reason: str, log: RunLog | None) -> None:
    if log is None:
        sys.stderr.write(f"trainer: {reason}\n")
    else:
        log.write(RunEnded("failed", reason))


def _train_by_trl(config: Config, task: Task, log: RunLog | None, stop: _StopFlag) -> ExitCode:
    try:
        from trainer.engines import trl_run  # noqa: PLC0415 - TRL, seconds more
    except ModuleNotFoundError as error:
        raise TrainerError(f"engine trl needs {error.name}: pip install 'maxrl-ops[trl]'") from None
    return trl_run.train(config, task, log, lambda: stop.requested)


def _leave_code(code: int) -> None:
    """Tell the supervisor how it ended: launchers make a 1 of every exit code."""
    if is_launched(os.environ) and is_first_process(os.environ) and _is_supervised():
        with suppress(OSError):
            replace(RunDir(Path(os.environ[RUN_DIR_ENV])).exit_code, str(int(code)).encode())


if __name__ == "__main__":
    exit_code = main()
    _leave_code(exit_code)
    # What torch has loaded is not worth looking through once more, seconds on a busy machine: the
    # supervisor waits for our end.
    gc.freeze()
    sys.exit(exit_code)
