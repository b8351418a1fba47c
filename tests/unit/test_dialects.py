"""Every dialect over its golden logs, and over what becomes of them in hostile hands.

`python tests/unit/test_dialects.py` writes the golden events anew: read the difference.
"""

import math
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl_ops.cli.plain import line_of
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.dialects import BUILT_IN, Dialect, DialectError, Past, Reader, load
from maxrl_ops.dialects.added import load_added
from maxrl_ops.dialects.detecting import MOST_KEPT, DetectingReader
from maxrl_ops.event_json import encode
from maxrl_ops.wire.record import Evaluated, Event, IterationRecord, RunStarted, Unparsed

LOGS = Path(__file__).parents[1] / "golden" / "logs"
DOCUMENT = Path(__file__).parents[2] / "docs" / "dialects.md"
# Of each golden log so many mutations; `make torture` makes more.
FUZZ = int(os.environ.get("TORTURE_FUZZ", "20"))
NAMES = sorted(path.name for path in LOGS.glob("*.log"))


def dialect_of(name: str) -> str:
    return name.partition(".")[0]


def told(reader: Reader, pieces: Iterable[bytes]) -> list[Event]:
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + reader.close()


def as_lines(events: list[Event]) -> list[str]:
    """As JSON, which NaN does not make unequal to itself."""
    return [f"{kind} {body}" for kind, body in map(encode, events)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def golden_lines(name: str) -> list[str]:
    return as_lines(told(load(dialect_of(name)).open(Past()), [(LOGS / name).read_bytes()]))


# --- Golden logs ----------------------------------------------------------------------------------


def test_every_dialect_has_a_golden_log() -> None:
    assert {dialect_of(name) for name in NAMES} == set(BUILT_IN)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_log_gives_its_golden_events(name: str) -> None:
    expected = (LOGS / name).with_suffix(".events").read_text().splitlines()
    assert golden_lines(name) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_log_is_known_by_its_lines_and_read_from_its_beginning(name: str) -> None:
    data = (LOGS / name).read_bytes()
    for pieces in ([data], bytewise(data)):
        reader = DetectingReader(Past())
        assert as_lines(told(reader, pieces)) == golden_lines(name)
        assert reader.dialect == dialect_of(name)
        assert reader.problems == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_done_with_and_what_is_pending_are_the_whole_log(name: str) -> None:
    data = (LOGS / name).read_bytes()
    whole = as_lines(load(dialect_of(name)).open(Past()).feed(data))
    for cut in range(0, len(data), 7):
        # A daemon that dies here begins in front of what was pending, and knows the past.
        first = load(dialect_of(name)).open(Past())
        before = first.feed(data[:cut])
        started = [event for event in before if isinstance(event, RunStarted)]
        records = [event for event in before if isinstance(event, IterationRecord)]
        after_start = bool(records) and (
            not started or before.index(started[-1]) < before.index(records[-1])
        )
        past = Past(
            started[-1] if started else None, records[-1] if records and after_start else None
        )
        assert 0 <= first.pending <= cut
        second = load(dialect_of(name)).open(past)
        assert as_lines(before + second.feed(data[cut - first.pending :])) == whole


# --- Hostile input --------------------------------------------------------------------------------

_NASTY = [
    *(b"\n", b"\r", b"\x00", b"\x1b[31m", b"\xff\xfe", b"nan", b"-inf", b"1e999", b"9" * 400),
    *(b"{'", b"{{{{", b"'" * 50, b": ", b" | ", b" - ", b"Iteration 1/2\n"),
]
mutations = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 40),
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from(_NASTY),
        ),
    ),
    max_size=6,
)


def mutated(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, dropped, added in changes:
        at = int(place * len(data))
        data = data[:at] + added + data[at + dropped :]
    return data


def check(name: str, data: bytes) -> None:
    """No input is refused, whatever way it is cut, and every event can be kept."""
    whole = as_lines(told(load(name).open(Past()), [data]))
    assert as_lines(told(load(name).open(Past()), bytewise(data))) == whole
    reader = DetectingReader(Past())
    found = as_lines(told(reader, [data]))
    again = DetectingReader(Past())
    assert as_lines(told(again, bytewise(data))) == found
    assert (again.dialect, again.lines, again.pending) == (
        reader.dialect,
        reader.lines,
        reader.pending,
    )


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=FUZZ, deadline=None)
@given(changes=mutations)
def test_a_mutated_golden_log_is_read_the_same_whole_and_byte_by_byte(
    name: str, changes: list[tuple[float, int, bytes]]
) -> None:
    check(dialect_of(name), mutated((LOGS / name).read_bytes()[:1500], changes))


@pytest.mark.parametrize("name", BUILT_IN)
@settings(max_examples=FUZZ, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read(name: str, data: bytes) -> None:
    check(name, data)


HOSTILE = [
    b"{" * 60_000,
    b"{'" * 30_000,
    b"{'epoch': '1', 'loss': " + b"'" * 50_000 + b"}",
    b'{"step": 1, "x": ' + b"[" * 60_000 + b"}",
    b'{"step": 1, "loss": ' + b"9" * 5000 + b"}",
    b"step:1 - " + b"a:" * 30_000,
    b"step:1" + b" - " * 20_000,
    b"10:42:07 SUCCESS Step 1 |" + b"a a " * 15_000,
    b"10:42:07 SUCCESS Step 1 |" + b"|" * 60_000,
    b"] Global step 1: {" + b"'a': (" * 10_000,
    b"Step 1 | Pass@1: " + b"Pass@1: 0" * 7000,
    b"1," + b"0" * 60_000,
    b"Iteration 1 Statistics:\n" + b"  Loss: 1\n" * 6000,
    b"x" * 200_000,
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_line_costs_no_time_and_no_memory(line: bytes) -> None:
    for name in BUILT_IN:
        events = told(load(name).open(Past()), [line + b"\n"])
        assert max((len(body) for _, body in map(encode, events)), default=0) < 40_000
    reader = DetectingReader(Past())
    told(reader, [line + b"\n", (LOGS / "trl.log").read_bytes()])
    assert reader.pending <= MOST_KEPT + len(line)


# --- What a format leaves open --------------------------------------------------------------------


def test_steps_that_trl_does_not_number_are_counted_on_behind_what_was_told() -> None:
    past = Past(newest=IterationRecord(40, extra={"epoch": "2.5"}))
    line = b"{'loss': '0', 'grad_norm': '1', 'reward': '0.5', 'epoch': '2.5625'}\n"
    [record] = load("trl").open(past).feed(line)
    assert isinstance(record, IterationRecord)
    assert (record.iteration, record.reward_mean) == (41, 0.5)
    # The epoch went back to its beginning: the trainer was started again.
    [again] = load("trl").open(past).feed(line.replace(b"2.5625", b"0.0625"))
    assert isinstance(again, IterationRecord)
    assert again.iteration == 1


@pytest.mark.parametrize("loss", ["NaN", "nan", "-inf", "Inf"])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("guide", "Iteration 1/2\n  Correctness: 1/2 (50.0%)\n  Loss: {}\n  [Fair]\n"),
        ("nanochat_rl", "Iteration 1 Statistics:\n  Loss: {}\n\nIteration 2/3\n"),
        ("trl", "{{'loss': '{}', 'grad_norm': '1', 'reward': '1', 'epoch': '1'}}\n"),
        ("verl", "step:1 - actor/pg_loss:{} - critic/rewards/mean:0.5\n"),
        (
            "openrlhf",
            "INFO 08-13 19:25:45 ppo_trainer.py:547] Global step 1: {{'policy_loss': {}}}\n",
        ),
        ("jsonl", '{{"step": 1, "loss": "{}"}}\n'),
    ],
)
def test_a_loss_that_is_not_finite_is_a_figure(name: str, line: str, loss: str) -> None:
    events = told(load(name).open(Past()), [line.format(loss).encode()])
    [record] = [event for event in events if isinstance(event, IterationRecord)]
    assert record.loss is not None
    assert repr(record.loss) == repr(float(loss))


def test_a_csv_whose_iterations_start_again_is_a_new_attempt() -> None:
    rows = (LOGS / "nanochat_rl.5col.log").read_bytes()
    events = told(load("nanochat_rl").open(Past()), [rows])
    assert [event.attempt for event in events if isinstance(event, RunStarted)] == [1, 2]


def test_an_evaluation_of_nanochats_has_no_greedy_pass() -> None:
    [event] = load("nanochat").open(Past()).feed(b"Step 60 | Pass@1: 0.2100, Pass@2: 0.3\n")
    assert isinstance(event, Evaluated)
    assert (event.iteration, event.pass_at_k) == (60, {1: 0.21, 2: 0.3})
    assert math.isnan(event.greedy)


def test_a_line_that_begins_like_its_own_and_ends_too_early_is_counted() -> None:
    line = b"{'loss': '0', 'grad_norm': '1', 'reward': '0.5', 'epoch': '2.5'\n"
    assert [type(event) for event in load("trl").open(Past()).feed(line)] == [Unparsed]


def test_a_dialect_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DialectError, match=r"there is no dialect 'trll': give guide or .* jsonl"):
        load("trll")


def test_a_log_of_nobodys_is_kept_no_longer_than_64_kib() -> None:
    reader = DetectingReader(Past())
    for _ in range(100):
        assert reader.feed(b"nothing that anybody writes\n" * 100) == []
        assert reader.pending <= MOST_KEPT + 28
    assert reader.dialect is None
    data = (LOGS / "verl.log").read_bytes()
    assert as_lines(reader.feed(data)) == golden_lines("verl.log")


def test_a_log_that_goes_on_behind_its_last_word_has_not_ended() -> None:
    log = (LOGS / "nanochat_rl.train_rl.log").read_bytes()
    reader, history = load("nanochat_rl").open(Past()), RunHistory()
    for event in reader.feed(log):
        history.append(event)
    assert history.ended is not None
    for event in reader.feed(b"51,26.5667,2.1453,1.0000,1.0000\n"):
        history.append(event)
    assert (history.ended, history.iteration) == (None, 51)


def test_a_pass_that_was_not_measured_is_left_out_of_its_line() -> None:
    [event] = load("nanochat").open(Past()).feed(b"Step 60 | Pass@1: 0.2100\n")
    assert line_of(event) == "evaluation at 60: pass@1 21.0%"


# --- Other packages' ------------------------------------------------------------------------------


def broken(_: object) -> Reader:
    raise ZeroDivisionError("somebody's\nbug")


BROKEN = Dialect("broken", broken, lambda line: bool(broken(line)))
WELL = Dialect("well", load("verl").open, load("verl").tells)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module:DIALECT", "cannot be loaded: ModuleNotFoundError"),
        ("test_dialects:NOTHING", "cannot be loaded: AttributeError"),
        ("test_dialects:LOGS", "is no Dialect but PosixPath"),
    ],
)
def test_a_dialect_that_another_package_breaks_is_named_in_one_line(value: str, said: str) -> None:
    with pytest.raises(DialectError, match=said) as refusal:
        load_added("theirs", value)
    assert "\n" not in str(refusal.value)


def test_an_error_in_another_packages_dialect_is_one_line_with_its_name() -> None:
    added = load_added("theirs", "test_dialects:BROKEN")
    for deed in (lambda: added.open(Past()), lambda: added.tells("a line")):
        with pytest.raises(
            DialectError, match=r"^dialect 'theirs' failed: ZeroDivisionError: somebody's bug$"
        ):
            deed()
    data = (LOGS / "verl.log").read_bytes()
    well = load_added("theirs", "test_dialects:WELL")
    assert as_lines(told(well.open(Past()), [data])) == golden_lines("verl.log")


def test_the_documented_dialect_reads_what_it_is_documented_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [source] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    module = ModuleType("documented")
    exec(source, module.__dict__)  # noqa: S102 - of our own documentation
    monkeypatch.setitem(sys.modules, "documented", module)
    mine = load_added("mine", "documented:DIALECT")
    lines = b"loading\nit 12 score 0.5\n"
    assert mine.tells("it 12 score 0.5")
    for pieces in ([lines], bytewise(lines)):
        [record] = told(mine.open(Past()), pieces)
        assert isinstance(record, IterationRecord)
        assert (record.iteration, record.reward_mean) == (12, 0.5)


if __name__ == "__main__":
    for golden in NAMES:
        text = "".join(f"{line}\n" for line in golden_lines(golden))
        (LOGS / golden).with_suffix(".events").write_text(text)
