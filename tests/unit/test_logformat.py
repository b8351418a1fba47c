"""The log format: what is rendered reads back, however the bytes are cut."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.totals import Totals
from maxrl_ops.event_json import decode, encode
from maxrl_ops.wire.lines import LONGEST_LINE
from maxrl_ops.wire.logformat import Parser, foreign, render, verdict_of
from maxrl_ops.wire.logkeys import BLOCK_KEYS, HEADER_KEYS
from maxrl_ops.wire.record import (
    Algorithm,
    Change,
    CheckpointSaved,
    ControlApplied,
    ControlRejected,
    Evaluated,
    Event,
    IterationRecord,
    RunEnded,
    RunStarted,
    Unparsed,
    UpdateSkipped,
)

GUIDE = b"""Iteration 50/1000
  Correctness: 12/16 (75.0%)
  Avg correct reward: 27.5
  Loss: 4.2
  [Good - on track]

Iteration 100/1000
  Correctness: 14/16 (87.5%)
  Avg correct reward: 29.2
  Loss: 3.8
  [Excellent - ahead of schedule]
"""

# DESIGN.md's example block, to the letter.
DESIGN = """Iteration 50/1000
  Correctness: 12/16 (75.0%)
  Avg correct reward: 27.5
  Loss: 4.2
  Objective: maxrl
  Reference correctness: 12/16 (75.0%)
  Rewards above: 15:13 20:12 25:9 30:1 of 16
  Groups: 0 all wrong, 1 all correct, 1 mixed
  Effective samples: 1.9 of 6.0 (T/2 1.6, 2T 2.3)
  Reward: 21.3 +- 9.1
  Compile: 81.2%   Tests: 75.0%   Trivial: 0.0%   Unique: 14/16   Unscored: 0
  Length: 27.4 tokens
  Grad norm: 0.84   Entropy: 1.23   KL: 0.0012   LR: 1e-05
  Time: 2.41s (sample 1.20s, verify 0.80s, update 0.41s)   Tokens: 1754
  Control: revision 3
  At: 2026-11-22T13:30:05Z
  [Good - on track]
"""


def parse(data: bytes) -> list[Event]:
    parser = Parser()
    return parser.feed(data) + parser.close()


def test_the_guides_own_log() -> None:
    first, second = parse(GUIDE)
    assert first == IterationRecord(50, 1000, 12, 16, 27.5, 4.2, verdict="Good - on track")
    assert isinstance(second, IterationRecord)
    assert second.correctness == 14 / 16


def test_the_designs_block_reads_and_writes_back_to_the_letter() -> None:
    [record] = parse(DESIGN.encode())
    assert isinstance(record, IterationRecord)
    assert record.extra == {}
    assert record.rewards_above == {15: 13, 20: 12, 25: 9, 30: 1}
    assert (record.compile_ratio, record.unscored) == (pytest.approx(0.812), 0)
    assert (record.sample_time, record.control_revision) == (1.2, 3)
    assert record.at == "2026-11-22T13:30:05Z"
    assert render(record) == DESIGN


def test_every_other_event_reads_back() -> None:
    events: list[Event] = [
        RunStarted(
            algorithm=Algorithm.MAXRL,
            objective="maxrl",
            task="rust",
            model="llama, 0.9 M",
            device="cpu (chosen by auto)",
            reward="tested",
            seed=3,
            target_iterations=40,
            prompts_per_iteration=8,
            n_samples=8,
            correctness_threshold=20.0,
            weight_temperature=1.0,
            learning_rate=3e-4,
            reference_threshold=20.0,
            bounds=(15.0, 30.0),
            attempt=2,
            resumed_from=20,
        ),
        Evaluated(0, 0.6, {1: 0.385, 8: 0.81}, 0.021, 0.43, 0.04),
        UpdateSkipped(7, "loss nan, grad norm inf"),
        CheckpointSaved(50, 0.31),
        ControlApplied(3, 51, (Change("correctness_threshold", "15.0", "20.0"),)),
        ControlRejected(4, "n_samples=0 is not allowed: give more"),
        RunEnded("finished", "1000 iterations"),
    ]
    assert parse("".join(map(render, events)).encode()) == events


def test_a_header_is_closed_by_its_blank_line_and_by_any_other_line() -> None:
    header = "RL Method: GRPO\nObjective: grpo\n"
    started = RunStarted(Algorithm.GRPO, "grpo")
    assert Parser().feed(f"{header}\n".encode()) == [started]
    checkpoint = CheckpointSaved(5, 0.1)
    assert Parser().feed((header + render(checkpoint)).encode()) == [started, checkpoint]
    again = Parser().feed((header + header).encode())
    assert again == [started]


def test_verdict_words() -> None:
    words = [verdict_of(x) for x in (0.938, 0.9, 0.875, 0.75, 0.5, 0.4999)]
    assert [w.split(" ")[0] for w in words] == [
        "Outstanding",
        "Outstanding",
        "Excellent",
        "Good",
        "Fair",
        "Low",
    ]


def test_what_a_reward_prints_cannot_forge_a_block() -> None:
    hostile = "Iteration 99/100\n  Correctness: 16/16 (100.0%)\nRun finished: 100 iterations"
    log = GUIDE.decode().replace("\n\n", f"\n{foreign(hostile)}")
    assert parse(log.encode()) == parse(GUIDE)


def test_a_value_cannot_end_its_line() -> None:
    started = RunStarted(Algorithm.MAXRL, model="x\nRun finished: ha\r\u2028y")
    [event] = parse(render(started).encode())
    assert isinstance(event, RunStarted)
    assert event.model == "x Run finished: ha y"


def test_not_finite_numbers_and_unknown_keys_are_kept() -> None:
    block = b"Iteration 3\n  Loss: nan\n  Grad norm: inf\n  Mood: good   Loss: soon\nx\n"
    record, unknown = parse(block)
    assert isinstance(record, IterationRecord)
    assert record.loss is not None
    assert math.isnan(record.loss)
    assert record.grad_norm == math.inf
    assert record.extra == {"Mood": "good", "Loss": "soon"}
    assert unknown == Unparsed("x", "unknown line")


def test_ansi_nul_and_carriage_returns_are_stripped() -> None:
    noisy = b"10%\r20%\rIteration 5/9\r\n  \x1b[31mLoss:\x1b[0m 4.\x002\r\n  [ok]\r\n"
    assert parse(noisy) == [IterationRecord(5, 9, loss=4.2, verdict="ok")]


def test_a_line_without_end_is_cut_and_said() -> None:
    parser = Parser()
    for _ in range(40):
        assert parser.feed(b"x" * 10_000) == []
    [event] = parser.feed(b"\n")
    assert event == Unparsed("x" * 200, "too long")
    assert parser.feed(GUIDE) + parser.close() == parse(GUIDE)


def test_an_unterminated_line_is_never_parsed() -> None:
    parser = Parser()
    assert parser.feed(b"Iteration 5/9\n  Loss: 4.2\n  [o") == []
    assert parser.close() == [IterationRecord(5, 9, loss=4.2)]


pieces = st.one_of(
    st.sampled_from(
        [
            GUIDE,
            DESIGN.encode(),
            b"\r",
            b"\n",
            b"\r\n",
            b"  ",
            b"  [",
            b"]\n",
            b"| Iteration 1/2\n",
            b"Iteration 7/9\n",
            b"RL Method: MaxRL\n",
            b"Task: rust\n",
            b"\x00\xff\x1b[",
            b"z" * (LONGEST_LINE - 3),
            b"z\r" * 4,
            render(Evaluated(0, 0.6, {1: 0.385, 8: 0.81}, 0.021)).encode(),
        ]
    ),
    st.binary(max_size=30),
)


@given(st.lists(pieces, max_size=12).map(b"".join), st.data())
def test_however_the_bytes_are_cut_the_events_are_the_same(
    data: bytes, draw: st.DataObject
) -> None:
    whole = parse(data)
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=20).map(sorted))
    parser, events, start = Parser(), [], 0
    for cut in [*cuts, len(data)]:
        events += parser.feed(data[start:cut])
        start = cut
    assert repr(events + parser.close()) == repr(whole)


def test_byte_by_byte_with_garbage_between() -> None:
    garbage = b"\xff\xfe garbage\r\n\x00\n| Loss: 1\n  indented\n"
    data = GUIDE + garbage + DESIGN.encode() + garbage
    parser = Parser()
    events = [event for i in range(len(data)) for event in parser.feed(data[i : i + 1])]
    assert events + parser.close() == parse(data)
    assert [e.iteration for e in events if isinstance(e, IterationRecord)] == [50, 100, 50]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Loss: " + "9" * 400, {"loss": math.inf}),
        ("Loss: " + "9" * 5000, {"loss": math.inf}),
        ("Loss: 1e" + "9" * 5000, {"loss": math.inf}),
        ("Loss:  4.2", {"loss": 4.2}),
        ("Unscored: " + "9" * 19, {"unscored": None}),
        ("Correctness: 1/" + "9" * 19, {"n_correct": None}),
        ("Rewards above: " + "9" * 5000 + ":1 of 16", {"rewards_above": {math.inf: 1}}),
    ],
)
def test_numbers_that_are_too_long_are_never_misread(line: str, told: dict[str, object]) -> None:
    [record] = parse(f"Iteration 1\n  {line}\n".encode())
    assert {name: getattr(record, name) for name in told} == told


def test_an_evaluation_with_a_name_that_is_no_number_is_read_but_for_that() -> None:
    line = b"Evaluation at 2: greedy 1%, pass@1 2%, pass@k 3%, pass@9999999 4%\n"
    assert repr(parse(line)) == repr([Evaluated(2, 0.01, {1: 0.02}, math.nan)])


@pytest.mark.parametrize(
    "line",
    [
        "Control 1 applied at 2: " + "a" * 60_000,
        "Control 1 applied at 2: " + "a " * 30_000,
        "Iteration 1\n  Rewards above: " + "1" * 60_000,
        "Iteration 1\n  Rewards above: " + "1:1 " * 15_000,
        "Iteration 1\n  Effective samples: " + "1." * 30_000,
        "Iteration 1\n  Time: " + "1" * 60_000,
        "Evaluation at 1: " + "a 1" * 20_000,
        "Evaluation at 1: a " + "1" * 60_000,
        "Checkpoint 1: saved in " + "1" * 60_000,
    ],
)
def test_a_line_that_almost_fits_costs_no_more_than_another(line: str) -> None:
    """The daemon reads all runs in one loop: a pattern that tries all combinations stops it."""
    before = time.process_time()
    parse(line.encode() + b"\n")
    # A few milliseconds; what tries combinations takes minutes to years.
    assert time.process_time() - before < 5


# Any value behind any key, in and between blocks: nothing may raise, here or where it is counted.
values = st.one_of(
    st.text(st.sampled_from("0123456789.:/%+-eE ()spassnaifTof,@k\u0663"), max_size=24),
    st.sampled_from(
        ["9" * 400, "9" * 5000, "1e999", "-inf%", "nan", "0/0", "1/0 (x%)", "1:1 of 0"]
    ),
)
keys = st.sampled_from(sorted({*BLOCK_KEYS, *HEADER_KEYS, "RL Method"}))
between = st.sampled_from(
    [
        "Iteration {0}/{1}",
        "Evaluation at {0}: greedy {1}%, pass@1 {1}% +- {2}%, pass@{0} {1}%",
        "Checkpoint {0}: saved in {1}s",
        "Control {0} applied at {1}: {2} {1} (was {0})",
        "Control {0} applied at 1: objective {1} (was {2}), n_samples {1} (was 8)",
        "Control {0} rejected: {1}",
        "Update {0} skipped: loss {1}",
        "Run finished: {0}",
        "RL Method: MaxRL\nBounds: {0}-{1}\nAttempt: {2}",
        "Iteration 7\n  Loss: {0}\n  Correctness: {1}/{2}\n  Time: {0}s (sample {1}s)",
    ]
)
near = st.one_of(
    st.builds("  {}: {}".format, keys, values),
    st.builds("{}: {}".format, keys, values),
    st.builds(str.format, between, values, values, values),
    st.builds(str.format, between, *[st.integers(0, 10**19).map(str)] * 3),
)


@given(st.lists(near, max_size=12).map("\n".join))
def test_text_near_the_format_never_raises(text: str) -> None:
    history, totals = RunHistory(), Totals()
    for event in parse(f"{text}\n".encode()):
        history.append(event)
        totals.append(event)
        if not isinstance(event, Unparsed):
            assert decode(*encode(event)).__class__ is event.__class__


ratios = st.none() | st.integers(0, 1000).map(lambda n: n / 1000)
numbers = st.none() | st.floats(allow_nan=False, width=32)
counts = st.integers(0, 10**6)


@given(
    st.builds(
        IterationRecord,
        iteration=counts,
        target_iterations=st.none() | counts,
        n_correct=counts,
        n_total=st.integers(1, 10**6),
        correct_reward_mean=numbers,
        loss=numbers,
        compile_ratio=ratios,
        tests_pass_ratio=ratios,
        grad_norm=numbers,
        entropy=numbers,
        learning_rate=numbers,
        tokens=st.none() | counts,
        control_revision=st.none() | counts,
        verdict=st.none() | st.text(max_size=20),
        extra=st.dictionaries(st.sampled_from(["Mood", "Host"]), st.text(max_size=20)),
    )
)
def test_what_is_rendered_reads_back(record: IterationRecord) -> None:
    text = render(record)
    events = parse(text.encode("utf-8", "replace"))
    assert [render(event) for event in events] == [
        text.encode("utf-8", "replace").decode("utf-8", "replace")
    ]
