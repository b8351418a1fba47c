"""Names and constants -> problems, and the corpus of a sloppy programmer to start a model from.

Held-out problems use function names and constants that no training problem has. Parameter names
are shared: a model this small copies only words that it has seen copied.
"""

from dataclasses import dataclass
from random import Random
from string import Template

from trainer.tasks.base import Prompt
from trainer.tasks.rust.families import FAMILIES, Family

# Which constants are held out: every fourth one. `prefix` counts characters, so 2 is the least.
_CONSTANTS = range(2, 100)
_VERBS = "get find make calc take run read build pick give scan work".split()
_NOUNS = "data items list row batch range group set part block page slot".split()
_HELD_OUT_NOUNS = "basket ledger sample window".split()
_PARAMETERS = (
    "xs values items data nums input list row entries numbers vals points scores sizes costs "
    "marks ages prices levels counts"
).split()
_INDICES = "i k idx pos at n".split()


@dataclass(frozen=True, slots=True)
class Problem:
    """A family with its names and its constant filled in."""

    family: Family
    words: dict[str, str]

    def fill(self, text: str) -> str:
        """Put the names and the constant into one of the family's texts."""
        return Template(text).substitute(self.words)

    def completion(self, body: str) -> str:
        """What follows the opening brace: the indented body and the closing brace."""
        lines = "".join(f"\n    {line}" for line in self.fill(body).split("\n"))
        return f"{lines}\n}}"

    @property
    def prompt(self) -> Prompt:
        """The doc comment and the signature up to the brace; no newline after it."""
        family, words = self.family, self.words
        return Prompt(
            id=f"{family.name}/{words['f']}/{words['p']}/{words['i']}/{words['c']}",
            family=family.name,
            text=f"/// {self.fill(family.doc)}\n{self.fill(family.signature)} {{",
            tests=tuple(self.fill(test) for test in family.tests),
        )


def draw_problem(family: Family, rng: Random, *, held_out: bool = False) -> Problem:
    """A problem of `family`, with names and a constant of its split."""
    constant = rng.choice([c for c in _CONSTANTS if (c % 4 == 1) == held_out])
    words = {
        "f": f"{rng.choice(_VERBS)}_{rng.choice(_HELD_OUT_NOUNS if held_out else _NOUNS)}",
        "p": rng.choice(_PARAMETERS),
        "i": rng.choice(_INDICES),
    }
    numbers = {"c": str(constant), "lo": str(constant - 1), "hi": str(constant + 1)}
    return Problem(family, words | numbers)


# What the sloppy programmer writes, by share. The broken attempts are what reinforcement learning
# can mend; the lazy bodies are what it drifts to when compiling is all that is rewarded.
_RIGHT, _LAZY, _WRONG = 0.30, 0.18, 0.03


def draw_document(rng: Random) -> tuple[str, str]:
    """A prompt and a completion of the training split, right or not."""
    problem = draw_problem(rng.choice(FAMILIES), rng)
    family, share = problem.family, rng.random()
    if share < _RIGHT:
        completion = problem.completion(rng.choice(family.right))
    elif share < _RIGHT + _LAZY:
        completion = problem.completion(rng.choice(family.lazy))
    elif share < _RIGHT + _LAZY + _WRONG:
        completion = problem.completion(rng.choice(family.wrong))
    else:
        completion = _break(problem.completion(rng.choice(family.right)), problem, rng)
    return problem.prompt.text, completion


_SLIPS = (
    (".copied()", ""),
    (".iter()", ""),
    (".collect()", ""),
    ("&", ""),
    ("|x|", "|y|"),
    ("total", "sum"),
    (";", ""),
    ("**", ""),
    ("*x", "x"),
    (")", ""),
    ("(", ""),
    ("Some(x)", "x"),
    ("let mut ", "let "),
    (".unwrap_or", ".or"),
    ("push(x", "push("),
    ("x", "z"),
)


def _break(completion: str, problem: Problem, rng: Random) -> str:
    """One slip of the hand: a forgotten call, an undefined name, a lost bracket."""
    slips = [(old, new) for old, new in _SLIPS if old in completion]
    old, new = rng.choice([*slips, (problem.words["p"], rng.choice(_PARAMETERS))])
    places = [i for i in range(len(completion)) if completion.startswith(old, i)]
    place = rng.choice(places) if places else 0
    return completion[:place] + new + completion[place + len(old) :] if places else completion
