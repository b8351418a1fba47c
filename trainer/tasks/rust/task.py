"""The task `rust`."""

import re
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from random import Random

from trainer.reward import CLEAN_THRESHOLD
from trainer.tasks.base import Prompt
from trainer.tasks.rust.corpus import draw_document, draw_problem
from trainer.tasks.rust.families import FAMILIES, Family
from trainer.verdict import Verdict
from trainer.verify.rust import Candidate, RustVerifier

_FUNCTION = re.compile(r"pub fn (\w+)")
# What a brace means nothing in: comments, strings, raw strings, characters. A lifetime is none.
_TOKEN = re.compile(
    r"//[^\n]*|/\*|r(#*)\".*?(?:\"\1|\Z)|\"(?:\\.|[^\"\\])*(?:\"|\Z)"
    r"|'(?:\\[^\n]{1,10}?|[^\\'\n])'|[{}]",
    re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
# The fixed evaluation set: every family has more than these 80 held-out problems.
_HELD_OUT = 80 * len(FAMILIES)

# What the log says of the sandboxes that are not the usual one.
_SANDBOXES = {
    "landlock": "completions run in Landlock: bubblewrap does not work here (maxrl-ops doctor)",
    "none": "completions run WITHOUT A SANDBOX (unsafe_no_sandbox): they can read, change and send"
    " whatever this user can",
}


class RustTask:
    """Small functions in Rust: the prompt is a doc comment and a signature up to `{`."""

    name = "rust"
    reference_threshold = CLEAN_THRESHOLD
    reward_grid = (15.0, 20.0, 25.0, 30.0)
    threshold_bounds = (15.0, 30.0)
    reward_profiles = ("tested", "guide")
    model_dir: Path | None = Path(__file__).parent / "model"
    is_chat = False
    profile: Mapping[str, int | float | str] = {
        "iterations": 40,
        "prompts_per_iteration": 8,
        "n_samples": 8,
        "learning_rate": 3e-4,
        "max_new_tokens": 64,
        "evaluate_every": 20,
        "evaluation_prompts": 96,
        "checkpoint_every": 5,
        "hand_over_after": 15,
    }

    def __init__(self, *, unsafe_no_sandbox: bool = False) -> None:
        self._unsafe_no_sandbox = unsafe_no_sandbox

    @cached_property
    def _verifier(self) -> RustVerifier:
        return RustVerifier.find(unsafe_no_sandbox=self._unsafe_no_sandbox)

    def prepare(self) -> None:
        """Find rustc and the sandbox, and say which where it is not the usual one.

        Raises:
            VerifierUnavailable: Something is missing; the message says how to get it.
        """
        said = _SANDBOXES.get(self._verifier.sandbox_kind)
        if said is not None:
            sys.stderr.write(f"{said}\n")

    def training_prompts(self, rng: Random, count: int) -> list[Prompt]:
        """Prompts of as many different families as there are places."""
        order = [family for _ in range(-(-count // len(FAMILIES))) for family in _shuffled(rng)]
        return [draw_problem(family, rng).prompt for family in order[:count]]

    def held_out_prompts(self, count: int) -> list[Prompt]:
        """The fixed evaluation set: the families in turn, each problem once."""
        rng = Random("rust held out")
        found: dict[str, Prompt] = {}
        while len(found) < min(count, _HELD_OUT):
            family = FAMILIES[len(found) % len(FAMILIES)]
            prompt = draw_problem(family, rng, held_out=True).prompt
            # By text: the id also names words that a family without a constant does not show.
            found.setdefault(prompt.text, prompt)
        return list(found.values())

    def draw_document(self, rng: Random) -> tuple[str, str]:
        """A prompt and a completion to start a model from."""
        return draw_document(rng)

    def answer_end(self, prompt: Prompt, completion: str) -> int | None:  # noqa: ARG002
        """Just past the brace that closes the function which the prompt opened."""
        depth, at = 1, 0
        while token := _TOKEN.search(completion, at):
            at = token.end() if token[0] != "/*" else _comment_end(completion, token.end())
            depth += {"{": 1, "}": -1}.get(token[0], 0)
            if depth == 0:
                return at
        return None

    def verify(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Verdict]:
        """Compile and test every completion."""
        return self._verifier.verify(
            [
                Candidate(prompt.text + completion, _function_of(prompt), prompt.tests)
                for prompt, completion in zip(prompts, completions, strict=True)
            ]
        )


def _comment_end(text: str, at: int) -> int:
    """Just past the block comment whose inside starts at `at`; Rust's nest."""
    depth = 1
    while depth and (edge := _COMMENT_EDGE.search(text, at)):
        at, depth = edge.end(), depth + (1 if edge[0] == "/*" else -1)
    return at if depth == 0 else len(text)


def _shuffled(rng: Random) -> list[Family]:
    return rng.sample(FAMILIES, len(FAMILIES))


def _function_of(prompt: Prompt) -> str:
    match = _FUNCTION.search(prompt.text)
    assert match is not None  # noqa: S101 - prompts are ours
    return match[1]
