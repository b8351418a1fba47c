"""policy.toml: what it may say, and where what it may not stands; `maxrl-ops policy`."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from commands import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl_ops.cli.app import run
from maxrl_ops.core.policy import POLICIES, Mode, Policy
from maxrl_ops.core.policy_table import policy_of, table_of
from maxrl_ops.policy_file import ORDERED, PolicyError, PolicyFile, groups_of, number_at, to_toml
from maxrl_ops.toml_places import places_of

FILE = Path("policy.toml")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_OPS_HOME", str(tmp_path))
    return tmp_path


def complaint(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        PolicyFile.parse(text, FILE)
    said = str(caught.value)
    assert said.startswith("policy.toml")
    assert "\n" not in said
    return said.removeprefix("policy.toml:")


def test_every_number_can_be_set() -> None:
    text = 'policy = "paper"\nmode = "suggest"\n[low]\nbelow = 0.45\nmode = "observe"\n'
    found = PolicyFile.parse(text + "[window]\nsizes = [10, 20]\n", FILE)
    assert found.policy.name == "paper"
    assert found.policy.adapt.is_reversed
    assert (found.policy.mode, found.policy.low.mode) == (Mode.SUGGEST, Mode.OBSERVE)
    assert (found.policy.low.below, found.policy.window.sizes) == (0.45, (10, 20))
    assert found.policy.high == Policy().high


def test_a_whole_number_is_one_for_a_number() -> None:
    found = PolicyFile.parse("[window]\nz = 2\n", FILE).policy.window.z
    assert (found, type(found)) == (2.0, float)


def test_no_file_is_the_guides_policy(tmp_path: Path) -> None:
    assert PolicyFile.of_home(tmp_path / "policy.toml") == PolicyFile()
    assert PolicyFile.parse("# nothing\n", FILE).policy == Policy()


def test_a_run_may_be_allowed_less_and_never_more() -> None:
    found = PolicyFile.parse('policy = "observe"\n[runs]\n"rust-1" = "act"\n', FILE)
    assert found.for_run("rust-1").mode is Mode.OBSERVE
    found = PolicyFile.parse('[runs]\nrust-1 = "observe"\n', FILE)
    assert found.for_run("rust-1").mode is Mode.OBSERVE
    assert found.for_run("rust-2").mode is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[lo]\nbelow = 0.4", "1:2: there is no 'lo' in a policy (did you mean low?)"),
        ("[low]\n  belo = 0.4", "2:3: there is no 'belo' in [low] (did you mean below?)"),
        ("low.belo = 0.4", "1:5: there is no 'belo' in [low] (did you mean below?)"),
        ("low = {dwell = 3, belo = 0.4}", "1:19: there is no 'belo' in [low]"),
        ("name = 'x'", "1:1: there is no 'name' in a policy"),
        ("[low]\nbelow = 1.5", "2:9: low.below = 1.5 is not allowed: give a number from 0 to 1"),
        ("[low]\nbelow = nan", "2:9: low.below = nan is not allowed: give a number"),
        ("[low]\nbelow = inf", "2:9: low.below = inf is not allowed: give a number"),
        ('[low]\nbelow = "0.4"', "2:9: low.below = '0.4' is not allowed: give a number"),
        ("[low]\nbelow = true", "2:9: low.below = true is not allowed: give a number"),
        ("[low]\ndwell = 2.5", "2:9: low.dwell = 2.5 is not allowed: give a whole number from 1"),
        ("[low]\ndwell = 1979-05-27", "2:9: low.dwell = 1979-05-27 is not"),
        ("low = 3", "1:7: low is a table: [low], and its keys below"),
        ("[low.below]\nx = 1", "1:6: low.below = {'x': 1} is not allowed: give a number"),
        ("[[low]]\nbelow = 0.4", "1:3: low is a table"),
        ("mode = 'of'", "1:8: mode = 'of' is not allowed: give act or suggest or observe"),
        ("mode = 'off'", "1:8: mode = 'off' is not allowed"),
        ("[high]\nmode = 1", "2:8: high.mode = 1 is not allowed: give act or suggest or observe"),
        ("[adapt]\nis_reversed = 1", "2:15: adapt.is_reversed = 1 is not allowed: give true or"),
        ("[unstable]\nobjective = 'best'", "2:13: unstable.objective = 'best' is not allowed"),
        ("[window]\nsizes = [40, 20]", "2:9: window.sizes = [40, 20] is not allowed: give 1 to 16"),
        ("[window]\nsizes = []", "2:9: window.sizes = [] is not allowed"),
        ("[window]\nsizes = [1]", "2:9: window.sizes = [1] is not allowed"),
        ("[window]\nsizes = 20", "2:9: window.sizes = 20 is not allowed"),
        ("policy = 'gide'", "1:10: there is no policy 'gide' (did you mean guide?); guide or"),
        ("policy = 3", "1:10: there is no policy 3; guide or paper or observe"),
        ("runs = 'x'", "1:8: runs is a table"),
        ("[runs]\n'../x' = 'act'", "2:1: '../x' cannot be a run's name"),
        ("[runs]\nx = 'acts'", "2:5: runs.x = 'acts' is not allowed: give act or suggest or"),
        ("[low]\nclears_above = 0.4", "2:16: low.below = 0.5 lies above low.clears_above = 0.4"),
        ("[bounds]\nn_samples_least = 64", "2:19: bounds.n_samples_least = 64 lies above"),
        ("[low]\nbelow = ", "2:9: Invalid value"),
        ("[low]\nbelow = 0.4\nbelow = 0.5", "3:12: Cannot overwrite a value"),
        ("[low", "1:5: Expected ']' at the end of a table declaration (the file ends here)"),
        ("x = " + "[" * 100_000, " nested too deeply: no policy is"),
        ("x = " + "9" * 10_000, " it has a number of thousands of digits"),
        ("[low]\nbelow = " + "[" * 90 + "]" * 90, "[[[... is not allowed"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, said: str) -> None:
    assert said in complaint(text)


def test_what_no_text_is(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(b"mode = '\xff'")
    with pytest.raises(PolicyError, match=r"not UTF-8 text \(byte 8\)"):
        PolicyFile.load(path)
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(PolicyError, match="longer than 256 KiB"):
        PolicyFile.load(path)


# --- Round trips ----------------------------------------------------------------------------------


def _values(default: Any, limits: Any) -> st.SearchStrategy[Any]:
    match default:
        case bool():
            return st.booleans()
        case int():
            return st.integers(limits["least"], limits["most"])
        case float():
            return st.floats(limits["least"], limits["most"])
        case tuple():
            few = st.lists(st.integers(5, 1000), min_size=1, max_size=16, unique=True)
            return few.map(lambda sizes: tuple(sorted(sizes)))
        case str():
            return st.sampled_from(["maxrl", "grpo"])
    return st.sampled_from([None, Mode.ACT, Mode.SUGGEST, Mode.OBSERVE])


def _groups(kind: Any) -> st.SearchStrategy[Any]:
    default = kind()
    return st.builds(
        kind, **{f.name: _values(getattr(default, f.name), f.metadata) for f in fields(kind)}
    )


def _in_order(policy: Policy) -> Policy:
    for keys in ORDERED:
        (group, low), (_, high) = (key.split(".") for key in keys)
        values = getattr(policy, group)
        least, most = sorted((getattr(values, low), getattr(values, high)))
        policy = replace(policy, **{group: replace(values, **{low: least, high: most})})
    return policy


POLICY = st.builds(
    Policy,
    name=st.sampled_from(list(POLICIES)),
    mode=_values(None, {}),
    **{name: _groups(type(group)) for name, group in groups_of(Policy())},
).map(_in_order)


@settings(max_examples=40, deadline=None)
@given(POLICY)
def test_what_is_printed_reads_back_as_the_same(policy: Policy) -> None:
    shown = PolicyFile(policy, {"rust-1": Mode.OBSERVE})
    found = PolicyFile.parse(to_toml(shown), FILE)
    # What a file does not give is as the named policy has it.
    assert found.policy == replace(policy, mode=policy.mode or POLICIES[policy.name].mode)
    assert found.runs == shown.runs


@settings(max_examples=40, deadline=None)
@given(POLICY)
def test_a_table_as_the_history_keeps_it_reads_back_as_the_same(policy: Policy) -> None:
    assert policy_of(json.loads(json.dumps(table_of(policy)))) == policy


def test_a_table_of_another_version_is_filled_in() -> None:
    found = policy_of({"low": {"below": 0.4, "unheard": 1}, "unheard": {}})
    assert found.low.below == 0.4
    assert found.high == Policy().high


def test_every_default_lies_within_its_own_limits() -> None:
    for name in POLICIES:
        assert PolicyFile.parse(to_toml(PolicyFile(POLICIES[name])), FILE).policy == POLICIES[name]
    for name, group in groups_of(Policy()):
        for each in fields(group):
            assert each.metadata["about"]
            if type(getattr(group, each.name)) in (int, float):
                assert math.isfinite(number_at(Policy(), f"{name}.{each.name}"))


def test_places_in_a_document_with_everything() -> None:
    text = (
        "# a comment = 1\n"
        'a . "b c" = """x\n] = [ # no comment"""  # y = 1\n'
        "list = [ # one\n  1, 'two = 2', [3],\n]\n"
        "[t.'u']\nkey = {inner = 1, other.deep = [{}]}\n"
        "[[many]]\nx = 1\n[[many]]\nx = 2\n"
        "last = 1979-05-27T07:32:00Z # end"
    )
    places = places_of(text)
    expected = {
        ("a", "b c"): "2:13",
        ("list",): "4:8",
        ("t", "u", "key"): "8:7",
        ("t", "u", "key", "inner"): "8:16",
        ("t", "u", "key", "other", "deep"): "8:32",
        ("many", "x"): "10:5",
        ("many", "last"): "13:8",
    }
    assert {key: str(place) for key, place in places.values.items()} == expected
    assert str(places.keys["t", "u"]) == "7:4"


# --- The command ----------------------------------------------------------------------------------


def test_the_policy_in_force_is_printed_as_a_file(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["policy"]) == 0
    printed = capsys.readouterr().out
    assert "below = 0.5  # the upper bound of correctness lies below this [0 to 1]" in printed
    (home / "policy.toml").write_text(printed.replace("below = 0.5 ", "below = 0.45 "))
    assert run(["policy", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changed"] == {"low.below": {"was": 0.5, "is": 0.45}}
    assert told["policy"]["low"]["below"] == 0.45
    assert told["source"] == str(home / "policy.toml")


def test_a_named_policy(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "--named", "paper"]) == 0
    assert "is_reversed = true" in capsys.readouterr().out
    said = refused(["policy", "--named", "papr"], capsys, 2)
    assert said == "there is no policy 'papr' (did you mean paper?): give guide or paper or observe"


def test_a_file_is_checked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / "mine.toml"
    file.write_text('mode = "suggest"\nlow.dwell = 7\n[runs]\nx = "observe"\n')
    assert run(["policy", "--check", str(file)]) == 0
    assert capsys.readouterr().out == (
        f"{file}: a policy, guide with 2 changes\n"
        "  mode = suggest (was None)\n  low.dwell = 7 (was 5)\n  x: at most observe\n"
    )
    file.write_text("low.dwel = 7")
    said = refused(["policy", "--check", str(file)], capsys, 2)
    assert said == f"{file}:1:5: there is no 'dwel' in [low] (did you mean dwell?)"
    said = refused(["policy", "--check", str(home / "none")], capsys, 3)
    assert said == f"there is no file {home}/none"
    assert "give one" in refused(["policy", "--check", "x", "--named", "guide"], capsys, 2)
    assert "directory" in refused(["policy", "--check", str(home)], capsys, 2)


def test_hostile_words_stay_words(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "policy.toml").write_text('"\\u001b]0;owned\\u0007" = 1')
    said = refused(["policy"], capsys, 2)
    assert not {"\x1b", "\x07"} & set(said)
