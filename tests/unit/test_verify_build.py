import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from trainer.verify import harness
from trainer.verify.build import Attempt, settle
from trainer.verify.diagnostics import Blame, blame

HERE = Path("artifact")


def line(level: str, file: str | None, message: str = "mismatched types", **more: object) -> bytes:
    spans = [] if file is None else [{"file_name": file, "is_primary": True, "expansion": None}]
    shape = {"level": level, "message": message, "spans": spans, "children": []} | more
    return json.dumps(shape).encode() + b"\n"


def test_diagnostics_are_counted_by_file() -> None:
    found = blame(
        line("error", "c3.rs")
        + line("error", "t3.rs")
        + line("warning", "c12.rs")
        + line("error: internal compiler error", "c4.rs")
        + line("note", "c5.rs")
        + line("warning", "root.rs")
        + line("failure-note", None, "For more information about this error")
    )
    assert found.errors == Counter({3: 2, 4: 1})
    assert found.warnings == Counter({12: 1})


def test_summaries_count_for_nobody() -> None:
    summaries = ["aborting due to 1 previous error", "2 warnings emitted", "1 warning emitted"]
    assert blame(b"".join(line("error", "c1.rs", text) for text in summaries)) == Blame()


def test_a_macro_is_followed_back_to_its_caller() -> None:
    call = {"file_name": "c7.rs", "is_primary": True, "expansion": None}
    inner = {"file_name": "/rustc/x/macros.rs", "is_primary": True, "expansion": {"span": call}}
    outer = {"file_name": "/rustc/x/vec.rs", "is_primary": True, "expansion": {"span": inner}}
    assert blame(line("error", None, spans=[outer])).errors == Counter({7: 1})


def test_the_primary_span_goes_before_others_and_those_before_notes() -> None:
    def at(name: str, primary: bool) -> dict[str, object]:
        return {"file_name": name, "is_primary": primary, "expansion": None}

    both = [at("c1.rs", False), at("c2.rs", True)]
    assert blame(line("error", None, spans=both)).errors == Counter({2: 1})
    note = [{"spans": [at("c9.rs", True)]}]
    elsewhere = [at("/rustc/library/core/src/slice.rs", True)]
    assert blame(line("error", None, spans=elsewhere, children=note)).errors == Counter({9: 1})


def test_other_output_is_skipped() -> None:
    assert blame(b'thread \'rustc\' has overflowed its stack\n{"level": "err') == Blame()


class Compiler:
    """Accepts all but the `guilty`; dies without a word when one of the `deadly` is there."""

    def __init__(self, guilty: set[int], deadly: set[int]):
        self.guilty, self.deadly, self.calls = guilty, deadly, 0

    def __call__(self, indices: Sequence[int]) -> Attempt:
        self.calls += 1
        errors = Counter({index: 2 for index in indices if index in self.guilty})
        dies = not self.deadly.isdisjoint(indices)
        warnings = Counter({index: 1 for index in indices if index % 2})
        return Attempt(not dies and not errors, not dies, Blame(errors, warnings), HERE)


@given(
    st.sets(st.integers(0, 40)),
    st.sets(st.integers(0, 40)),
    st.sets(st.integers(0, 40), max_size=3),
)
def test_settling_puts_everybody_in_the_right_place(
    everybody: set[int], guilty: set[int], deadly: set[int]
) -> None:
    settled = settle(sorted(everybody), Compiler(guilty, deadly))
    assert settled.unscored == {}
    fine = sorted(index for group in settled.groups for index in group.indices)
    assert fine == sorted(everybody - guilty - deadly)
    assert set(settled.errors) == everybody & (guilty | deadly)
    assert all(settled.errors[index] == 2 for index in everybody & guilty)
    assert all(settled.errors[index] == 1 for index in (everybody & deadly) - guilty)


def test_a_dead_compiler_costs_a_logarithm_not_all_singles() -> None:
    compiler = Compiler(set(), {13})
    settled = settle(range(64), compiler)
    assert settled.errors == {13: 1}
    assert compiler.calls == 13  # 64 32 16 8 4 2 1: one failing on each level, and its other half


def test_others_are_counted_without_those_who_stop_the_compiler() -> None:
    """0 hides one error of each other; alone in its batch goes who might hide unseen."""
    calls = []

    def attempt(indices: Sequence[int]) -> Attempt:
        calls.append(tuple(indices))
        errors = Counter({i: 1 if 0 in indices else 2 for i in indices if i < 3})
        return Attempt(not errors, True, Blame(errors, Counter(), {0} & set(indices)), HERE)

    settled = settle(range(5), attempt, alone={4})
    assert settled.errors == {0: 1, 1: 2, 2: 2}
    assert [group.indices for group in settled.groups] == [(3,), (4,)]
    assert calls == [(0, 1, 2, 3), (1, 2, 3), (3,), (4,)]


def test_no_crate_holds_more_than_sixty_four() -> None:
    sizes = []

    def attempt(indices: Sequence[int]) -> Attempt:
        sizes.append(len(indices))
        return Attempt(True, True, Blame(), HERE)

    assert len(settle(range(150), attempt).groups) == 3
    assert sorted(sizes) == [22, 64, 64]


def test_stopping_errors_are_known_by_their_code() -> None:
    found = blame(line("error", "c1.rs", code={"code": "E0106"}) + line("error", "c2.rs"))
    assert found.stopping == {1}


def test_unscored_is_for_all_in_the_batch_and_nobody_is_tried_again() -> None:
    def late(indices: Sequence[int]) -> Attempt:
        return Attempt(False, False, Blame(Counter({1: 1})), HERE, "late")

    assert settle([0, 1], late).unscored == {0: "late", 1: "late"}


def test_the_harness_is_believed_by_its_nonce_alone() -> None:
    assert harness.result(b"n0 begin\n\nn0 3 4\n", "n0") == (True, 3)
    assert harness.result(b"n0 begin\nn1 9 9\n9 9\nnoise\nn0 3 4\n", "n0") == (True, 3)
    assert harness.result(b"n0 begin\nn1 4 4\n", "n0") == (True, 0)
    assert harness.result(b"n0 begin\nn0 4 4\nlast words\n", "n0") == (True, 0)
    assert harness.result(b"n0 begin\nn0 4 4", "n0") == (True, 0)  # cut short
    assert harness.result(b"n0 begin\n\xff\n4 4\n", "n0") == (True, 0)
    assert harness.result(b"n1 begin\nn0 4 4\n", "n0") == (False, 0)
    assert harness.result(b"", "n0") == (False, 0)
