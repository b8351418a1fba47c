"""The task `maze`: `S.#/..G/#..=` wants moves from S to G, such as `DRR`.

Many ways are right: the moves are simulated. 0 is for what is no string of moves, 8 for one that
walks into a wall or off the grid, 12 for any free walk, 16 for one that stops beside the goal, 23
for one that ends on it, 27 for the shortest.
"""

import math
import re
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from trainer.tasks.base import Prompt
from trainer.tasks.own import OwnTask

# A cell is its place in the text without the slashes, row by row.
Cell = int

_SIDE = 3
_CELLS = range(_SIDE * _SIDE)
_WALLS = 0.35
# Families: how many moves the shortest way has.
_DISTANCES = (2, 3, 4)
_PROMPTS_EACH = 240
_LONGEST = 8
_ANSWER = re.compile(rf"[UDLR]{{1,{_LONGEST}}}")
# How often the corpus makes any move at all instead of one that leads to the goal.
_SLIP = 0.65
# So many draws give the corpus of who knows the ways its mazes; most come several times.
_DRAWS = 20_000


def _beside(cell: Cell) -> dict[str, Cell]:
    row, column = divmod(cell, _SIDE)
    steps = {"U": (row - 1, column), "D": (row + 1, column)}
    steps |= {"L": (row, column - 1), "R": (row, column + 1)}
    return {m: y * _SIDE + x for m, (y, x) in steps.items() if {y, x} <= set(range(_SIDE))}


MOVES: Sequence[Mapping[str, Cell]] = [_beside(cell) for cell in _CELLS]


def cells_of(text: str) -> tuple[frozenset[Cell], Cell, Cell]:
    """The free cells of a prompt's text, the start and the goal."""
    marks = text.rstrip("=").replace("/", "")
    free = frozenset(cell for cell, mark in enumerate(marks) if mark != "#")
    return free, marks.index("S"), marks.index("G")


def distances(free: frozenset[Cell], goal: Cell) -> dict[Cell, int]:
    """How many moves from each cell to the goal; cells without a way are not in it."""
    found = {goal: 0}
    queue = deque([goal])
    while queue:
        cell = queue.popleft()
        for beside in MOVES[cell].values():
            if beside in free and beside not in found:
                found[beside] = found[cell] + 1
                queue.append(beside)
    return found


def walk(free: frozenset[Cell], start: Cell, moves: str) -> Cell | None:
    """Where the moves end; None where they leave the free cells."""
    at = start
    for move in moves:
        beside = MOVES[at].get(move)
        if beside not in free:
            return None
        at = beside
    return at


def reward(prompt: Prompt, completion: str) -> float:
    """What a completion is worth."""
    if _ANSWER.fullmatch(completion) is None:
        return 0.0
    free, start, goal = cells_of(prompt.text)
    end = walk(free, start, completion)
    if end is None:
        return 8.0
    if end == goal:
        return 27.0 if len(completion) == int(prompt.tests[0]) else 23.0
    return 16.0 if goal in MOVES[end].values() else 12.0


class MazeTask(OwnTask):
    """The prompts, and the corpus of a walker who stumbles."""

    alphabet = "UDLR.#SG/="
    model_dir: Path | None = Path(__file__).parent / "model"
    profile: Mapping[str, int | float | str] = {
        "iterations": 200,
        "prompts_per_iteration": 8,
        "n_samples": 8,
        "learning_rate": 1e-3,
        "max_new_tokens": 8,
        "evaluate_every": 10,
        "evaluation_prompts": 64,
        "checkpoint_every": 50,
    }

    def __init__(self) -> None:
        super().__init__(
            _prompts(),
            reward,
            name="maze",
            reference_threshold=20.0,
            reward_grid=(15.0, 20.0, 25.0, 30.0),
            threshold_bounds=(15.0, 30.0),
            is_chat=False,
        )
        self._held_out = {prompt.id for prompt in self.held_out_prompts(sys.maxsize)}

    def draw_document(self, rng: Random) -> tuple[str, str]:
        """A maze that is not held out, and a way."""
        prompt = _draw(rng)
        while prompt is None or prompt.id in self._held_out:
            prompt = _draw(rng)
        free, at, goal = cells_of(prompt.text)
        far, moves = distances(free, goal), ""
        while at != goal and len(moves) < _LONGEST:
            move = rng.choice("UDLR" if rng.random() < _SLIP else _nearer(far, at))
            # Where a wall is, it goes on as if it had not bumped into it.
            at = MOVES[at][move] if MOVES[at].get(move) in free else at
            moves += move
        return prompt.text, moves


class KnownMazeTask(MazeTask):
    """The same prompts, and the corpus of a walker who knows every way: of the model in `known`.

    Its mazes are drawn evenly over the distances: as they come, one in ten needs four moves, and
    from the stumbling walker no model learned those.
    """

    def __init__(self) -> None:
        super().__init__()
        self._corpus: dict[str, list[Prompt]] = {f"{distance} moves": [] for distance in _DISTANCES}
        rng = Random("corpus")
        for _ in range(_DRAWS):
            prompt = _draw(rng)
            if prompt is not None and prompt.id not in self._held_out:
                self._corpus[prompt.family].append(prompt)

    def draw_document(self, rng: Random) -> tuple[str, str]:
        """A maze that is not held out, and a shortest way."""
        prompt = rng.choice(self._corpus[rng.choice(list(self._corpus))])
        free, at, goal = cells_of(prompt.text)
        far, moves = distances(free, goal), ""
        while at != goal:
            move = rng.choice(_nearer(far, at))
            at = MOVES[at][move]
            moves += move
        return prompt.text, moves


def _nearer(far: Mapping[Cell, int], at: Cell) -> list[str]:
    """The moves that lead towards the goal."""
    return [move for move, cell in MOVES[at].items() if far.get(cell, math.inf) < far[at]]


def _prompts() -> list[Prompt]:
    rng = Random("maze")
    families: dict[str, dict[str, Prompt]] = {}
    while sum(map(len, families.values())) < len(_DISTANCES) * _PROMPTS_EACH:
        prompt = _draw(rng)
        if (
            prompt is not None
            and len(family := families.setdefault(prompt.family, {})) < _PROMPTS_EACH
        ):
            family[prompt.text] = prompt
    return [prompt for family in families.values() for prompt in family.values()]


def _draw(rng: Random) -> Prompt | None:
    """A maze, or None where it is too easy, too hard or has no way."""
    marks = ["#" if rng.random() < _WALLS else "." for _ in _CELLS]
    start, goal = rng.sample(_CELLS, 2)
    marks[start], marks[goal] = "S", "G"
    free = frozenset(cell for cell in _CELLS if marks[cell] != "#")
    distance = distances(free, goal).get(start)
    if distance not in _DISTANCES:
        return None
    rows = ["".join(marks[i : i + _SIDE]) for i in _CELLS[::_SIDE]]
    text = "/".join(rows) + "="
    return Prompt(text, f"{distance} moves", text, (str(distance),))


def task() -> MazeTask:
    """What `--task .../maze/task.py:task` asks for."""
    return MazeTask()
