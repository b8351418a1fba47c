"""`report` and `compare`: files in, one page out, whatever a model has written into them."""

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from commands import refused
from scripted import header, record

from maxrl_ops.cli.app import run
from maxrl_ops.report.chart import Chart, Line, legend, svg, ticks
from maxrl_ops.report.curves import Curve, Curves, reached
from maxrl_ops.wire.documents import RunSpec
from maxrl_ops.wire.logformat import render
from maxrl_ops.wire.record import (
    Change,
    ControlApplied,
    Evaluated,
    Event,
    IterationRecord,
)
from maxrl_ops.wire.rundir import RunDir

HOSTILE = '</pre></style><script>document.title="owned"</script>\x1b]0;owned\x07<img src=//evil/x>'


def evaluated(iteration: int, pass_at_1: float) -> Evaluated:
    return Evaluated(iteration, 0.5, {1: pass_at_1, 8: 0.97}, 0.02, 0.6, 0.2)


def a_log(last: int = 60) -> list[Event]:
    return [
        header(),
        evaluated(0, 0.4),
        *(replace(record(n, correct=20 + n % 7), loss=4.0 / n) for n in range(1, 41)),
        ControlApplied(1, 41, (Change("correctness_threshold", "20", "30"),)),
        *(record(n, correct=min(64, n), threshold=20.0) for n in range(41, last + 1)),
        evaluated(40, 0.8),
        evaluated(last, 0.85),
    ]


def make(home: Path, name: str, events: list[Event], samples: list[str] | None = None) -> RunDir:
    directory = RunDir(home / "runs" / name)
    directory.path.mkdir(parents=True)
    RunSpec(name, "a job", {"iterations": 160}, (), "2026-11-24T00:00:00Z").save(directory)
    directory.log.write_text("".join(render(event) for event in events))
    lines = [
        {
            "iteration": n,
            "prompt": HOSTILE,
            "text": text,
            "verdict": {"parsed": True, "compiled": True, "tests_passed": 7, "tests_total": 7},
            "reward": 23.0,
        }
        for n, text in enumerate(samples or (), 1)
    ]
    directory.samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("MAXRL_OPS_HOME", str(place))
    monkeypatch.chdir(tmp_path)
    return place


class _Tags(HTMLParser):
    """What elements a page has, and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {k}={v}" for k, v in attrs if k in ("src", "href", "srcset")]


def tags_of(page: str) -> _Tags:
    found = _Tags()
    found.feed(page)
    return found


def reported(name: str = "one") -> str:
    assert run(["report", name]) == 0
    return Path(f"{name}.html").read_text(encoding="utf-8")


def test_a_report_has_the_plots_the_evaluations_and_the_setup(home: Path) -> None:
    make(home, "one", a_log(), ["fn sum() {}"])
    page = reported()
    for title in ("Correctness", "Held-out evaluation", "Loss", "Correctness threshold", "Set-up"):
        assert f">{title}<" in page
    assert "85.0%" in page
    assert "7 of 7 tests passed" in page
    assert "the guide expects" in page
    assert page.count("<svg") >= 4


def test_what_a_model_wrote_stays_text_and_nothing_is_loaded(home: Path) -> None:
    events: list[Event] = [header(), replace(record(1), verdict=HOSTILE, extra={"Mood": HOSTILE})]
    make(home, "one", events, [HOSTILE, "plain"])
    page = reported()
    found = tags_of(page)
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert found.loads == []
    assert "\x1b" not in page
    assert "\x07" not in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page


def test_a_run_that_has_not_begun_and_a_log_that_tells_little(home: Path) -> None:
    make(home, "none", [])
    assert "<svg" not in reported("none")
    make(home, "few", [IterationRecord(1, n_correct=3, n_total=8, loss=math.nan)])
    page = reported("few")
    assert ">Correctness<" in page
    assert ">Loss<" not in page


def test_a_long_run_makes_no_long_page(home: Path) -> None:
    make(home, "one", [header(), *(record(n) for n in range(1, 20_001))])
    assert len(reported()) < 1_000_000


@pytest.mark.parametrize("columns", ["20", "80"])
def test_nothing_of_a_table_is_cut_on_a_narrow_terminal(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    names = ["a-run-with-quite-a-long-name-that-people-give-" + end for end in ("12345", "12346")]
    for name in names:
        make(home, name, a_log())
    assert run(["compare", *names]) == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()[1:]] == names
    assert "objective" in told
    assert "85.0% ± 2.0%" in told
    assert run(["demo"]) == 0
    assert "0.633309" in capsys.readouterr().out


def test_compare_tells_when_each_reached_what(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(home, "one", a_log())
    make(home, "two", [header(), evaluated(0, 0.2), record(1), evaluated(1, 0.3)])
    assert run(["compare", "one", "two", "--json", "--to", "both.html"]) == 0
    one, two = json.loads(capsys.readouterr().out)
    assert one["reached"]["75.0%"] == {"iteration": 60, "samples": 60 * 64}
    assert one["reached"]["90.0%"] is None
    assert two["reached"]["50.0%"] is None
    page = Path("both.html").read_text(encoding="utf-8")
    assert ">Held-out pass@1<" in page
    assert tags_of(page).loads == []
    assert run(["compare", "one", "two"]) == 0
    assert "never" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["report", "ohne"], 3, "there is no run 'ohne' (did you mean one?)"),
        (["report", "one", "--to", "nowhere/x.html"], 2, "there is no directory"),
        (["report", "one", "--to", "."], 2, "is a directory"),
        (["compare", "one", "one"], 2, "give two runs or more"),
    ],
)
def test_wrong_input(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    make(home, "one", a_log())
    assert said in refused(arguments, capsys, code)


@pytest.mark.needs("chromium")
def test_a_browser_shows_it_without_a_word(home: Path, tmp_path: Path) -> None:
    """Nothing is wider than a phone, nothing is refused, and a hostile sample runs nothing."""
    make(home, "one", a_log(), [HOSTILE, "x" * 3000])
    page = reported()
    # A script that is allowed in this copy alone tells what the browser made of the page.
    probe = (
        "<script>addEventListener('load', () => { document.body.dataset.seen = JSON.stringify({"
        "wide: document.documentElement.scrollWidth, points: [...document.querySelectorAll("
        "'polyline')].map(line => line.points.length), title: document.title}) })</script>"
    )
    copy = tmp_path / "probe.html"
    copy.write_text(
        re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace(
            "</body>", f"{probe}</body>"
        ),
        encoding="utf-8",
    )
    dom = browse(copy, tmp_path / "profile")
    told = re.search(r'data-seen="([^"]+)"', dom)
    assert told is not None, dom[-500:]
    seen = json.loads(told[1].replace("&quot;", '"'))
    assert seen["wide"] <= 500
    assert len(seen["points"]) >= 5
    assert min(seen["points"]) >= 2
    assert seen["title"] == "one: maxrl-ops report"


def browse(page: Path, profile: Path) -> str:
    """The page's elements after headless Chromium has loaded it, in a window of a phone's width."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
        " --disable-background-networking --disable-component-update --window-size=500,900"
    ).split()
    chromium = shutil.which("chromium")
    assert chromium is not None
    done = subprocess.run(
        [chromium, *flags, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# --- Pure parts -----------------------------------------------------------------------------------


def test_a_resume_takes_back_what_it_makes_again() -> None:
    curves = Curves()
    for event in a_log():
        curves.append(event)
    curves.append(header(attempt=2, resumed_from=30))
    assert curves.last == 30
    assert curves.curve("correct")[-1][0] == 30
    assert [e.iteration for e in curves.evaluations] == [0]
    assert curves.thresholds == [(0, 30.0)]


def test_a_curve_is_bounded_and_keeps_its_mean() -> None:
    curve = Curve()
    for n in range(100_000):
        curve.add(n, float(n % 10))
    points = curve.whole()
    assert len(points) <= 2001
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert abs(sum(y for _, y in points) / len(points) - 4.5) < 0.1


def test_a_level_is_reached_when_it_is_held_twice_running() -> None:
    told = [evaluated(n, share) for n, share in ((0, 0.8), (1, 0.2), (2, 0.8), (3, 0.9))]
    assert reached(told, 0.75) == 3
    assert reached(told[:-1], 0.75) is None


@pytest.mark.parametrize("chart", [
    Chart("a", [Line("one", [(1.0, 5.0)])]),
    Chart("b", [Line("<i>", [(1.0, math.nan), (2.0, math.inf), (3.0, 1e300)])]),
    Chart("c", [Line("log", [(1.0, 0.0), (2.0, -1.0), (3.0, 1e-9), (4.0, 1e9)])],
          is_logarithmic=True),
])  # fmt: skip
def test_a_chart_of_any_figures_stays_within_its_bounds(chart: Chart) -> None:
    drawn = svg(chart) + legend(chart)
    assert "<i>" not in drawn.replace('<i class="c0"></i>', "")
    assert "nan" not in drawn
    places = re.findall(r'points="([^"]*)"', drawn)
    for pair in " ".join(places).split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 640
        assert 0 <= y <= 260


def test_a_legend_names_only_what_is_drawn() -> None:
    # Evaluations of other trainers have no greedy pass.
    lines = [Line("pass@1", [(1, 0.5)], 3), Line("greedy", [(1, math.nan)], 2), Line("none", [])]
    assert re.findall(r"</i>([^<]+)", legend(Chart("Held-out", lines))) == ["pass@1"]


def test_ticks_are_round() -> None:
    assert ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0.13, 0.34)[0] == 0.15
