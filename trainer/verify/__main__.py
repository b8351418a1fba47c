"""`python -P -m trainer.verify FILE...`: the verdict and the reward of Rust files, one by one."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from trainer.errors import ExitCode, TrainerError
from trainer.reward import CLEAN_THRESHOLD, Profile, is_correct, load_weights, profile_of
from trainer.verify import view
from trainer.verify.errors import VerifierUnavailable
from trainer.verify.files import FileVerifier
from trainer.verify.guard import MAX_FILE_BYTES
from trainer.verify.sandboxes import find_sandbox
from trainer.verify.toolchain import Toolchain

_OK, _BAD, _INTERRUPTED = 0, 1, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise TrainerError(f"{message} (see --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the files; 0 when all are correct, 1 when one is not, 2 usage, 3 not found."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return _run(_parser().parse_args(arguments))
    except TrainerError as error:
        return _refuse(str(error), error.code)
    except VerifierUnavailable as error:
        return _refuse(str(error), ExitCode.USAGE)
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # `| head` has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return _OK
        return _refuse(f"{error.filename or 'verify'}: {error.strerror}", ExitCode.USAGE)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -P -m trainer.verify",
        description="Judge Rust files as the task rust judges completions. A file carries its own "
        "tests in a #[cfg(test)] module.",
        epilog="Example: python -P -m trainer.verify sum.rs --json",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="A Rust file.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    parser.add_argument(
        "--reward", choices=("tested", "guide"), default="tested", help="The reward profile."
    )
    parser.add_argument(
        "--reward-weights", metavar="FILE.toml", help="What quality is worth on top of tested."
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    weights = options.reward_weights
    profile = profile_of(options.reward, None if weights is None else load_weights(Path(weights)))
    sources = [(name, _read(name)) for name in options.files]
    verifier = FileVerifier(Toolchain.find(), find_sandbox(), len(os.sched_getaffinity(0)))
    lines = []
    for name, source in sources:
        line = _judge(verifier, profile, name, source)
        lines.append(line)
        if not options.json:
            sys.stdout.write(view.as_text(line))
            sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps(view.as_json(lines), indent=1) + "\n")
        sys.stdout.flush()
    return _OK if all(line.correct for line in lines) else _BAD


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise TrainerError(f"{name}: there is no such file", ExitCode.NOT_FOUND) from None
    except ValueError:  # a NUL in its name
        raise TrainerError(f"{name!r} is no file name") from None


def _judge(verifier: FileVerifier, profile: Profile, name: str, source: bytes) -> view.Line:
    found = verifier.verify(source)
    reward = None if found.verdict.unscored is not None else profile(found.verdict)
    return view.Line(
        file=name,
        found=found,
        reward=None if reward is None else reward.total,
        components={} if reward is None else dict(reward.components),
        correct=is_correct(found.verdict, reward, CLEAN_THRESHOLD),
    )


def _refuse(message: str, code: ExitCode) -> int:
    line = "".join(c if c.isprintable() else " " for c in message)
    sys.stderr.write(f"verify: {line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
