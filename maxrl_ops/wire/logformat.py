"""The guide's log format: the one place that renders it and the one that reads it.

    Iteration 50/1000
      Correctness: 12/16 (75.0%)
      Avg correct reward: 27.5
      Loss: 4.2
      [Good - on track]

Lines that start with "| " are what a reward or a library printed: never ours, never parsed.
`logkeys` is the table of what may stand in a block and in a header; `logwriter` writes it;
`logreader` reads it line by line, and what looks like the blocks before it at once, by a pattern
that `loglayout` makes of one of them.
"""

from maxrl_ops.wire.logkeys import exact, number, percent, verdict_of
from maxrl_ops.wire.logreader import Parser
from maxrl_ops.wire.logwriter import FOREIGN_PREFIX, foreign, render

__all__ = [
    "FOREIGN_PREFIX",
    "Parser",
    "exact",
    "foreign",
    "number",
    "percent",
    "render",
    "verdict_of",
]
