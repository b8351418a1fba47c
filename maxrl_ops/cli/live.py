"""The live view of one run: what a person wants to see at 80x24, drawn from a look at its files."""

from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from maxrl_ops.cli.printable import shown
from maxrl_ops.core.printable import one_line
from maxrl_ops.core.run_history import RunHistory
from maxrl_ops.core.sentence import duration
from maxrl_ops.core.snapshot import RunSnapshot
from maxrl_ops.wire.record import Event

_SPARKS = "▁▂▃▄▅▆▇█"
_ASCII_SPARKS = "_.-:=+*#"
_SPARK_LENGTH = 60

STATE_STYLES = {
    "starting": "cyan",
    "running": "green",
    "paused": "yellow",
    "stopping": "yellow",
    "stopped": "yellow",
    "backing_off": "red",
    "stalled": "red",
    "failed": "bold red",
    "supervisor_gone": "bold red",
    "interrupted": "bold red",
    "suspended": "yellow",
    "damaged": "bold red",
    "finished": "bold green",
}


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at a run: how it is, its folded log, and what is new since the last look."""

    run: RunSnapshot
    history: RunHistory
    events: list[Event] = field(default_factory=list)


def view(sight: Sight, width: int = 80, encoding: str = "utf-8") -> RenderableType:
    """The panel for a terminal of so many columns, which can show this encoding's signs."""
    run = sight.run
    facts = Table.grid(padding=(0, 2), expand=True)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(ratio=1)
    for label, content in (
        ("run", _what(run)),
        ("iteration", _progress(run)),
        ("correctness", _correctness(sight, width, encoding)),
        ("loss", _loss(run)),
        ("threshold", _threshold(run)),
        ("phase", _phase(run)),
        ("held-out", _held_out(run)),
        ("but wrong", _wrong(run)),
        ("saved", _saved(run)),
        ("autopilot", _autopilot(run)),
    ):
        if content is not None:
            facts.add_row(label, content)
    return Panel(
        Group(facts, Text(), shown(run.sentence, "bold")),
        title=Text.assemble(" ", (one_line(run.name), "bold"), "  ", state_text(run), " "),
        title_align="left",
        subtitle=None if run.is_over else Text(" Ctrl-C leaves; the run goes on ", style="dim"),
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="dim",
        padding=(0, 1),
    )


def state_text(run: RunSnapshot) -> Text:
    """The state in its colour, and the attempt where it is not the first."""
    text = run.state.replace("_", " ")
    if (run.attempt or 1) > 1 and not run.is_over:
        text += f", attempt {run.attempt}"
    return shown(text, STATE_STYLES.get(run.state, ""))


def _what(run: RunSnapshot) -> Text:
    """Algorithm and objective, task, device; the model, whose name may be long, comes last."""
    algorithm = run.algorithm or "?"
    if run.objective and run.objective != algorithm.lower():
        algorithm += f" ({run.objective})"
    text = Text(overflow="ellipsis", no_wrap=True)
    text.append(one_line(algorithm), style="bold")
    for part in (run.task, run.device, run.model):
        if part:
            text.append("  " + one_line(part))
    return text


def _progress(run: RunSnapshot) -> RenderableType:
    done, target = run.iteration or 0, run.target_iterations
    if not target:
        return Text(str(done))
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    left = "" if run.eta_seconds is None else f"{duration(run.eta_seconds)} left"
    row.add_row(f"{done}/{target}", ProgressBar(total=target, completed=min(done, target)), left)
    return row


def _correctness(sight: Sight, width: int, encoding: str) -> Text:
    if sight.run.correctness is None:
        return Text("-")
    text = Text(f"{sight.run.correctness:4.0%}  ", no_wrap=True, overflow="crop")
    # The newest stand right: what does not fit beside frame, label and figure is the oldest.
    length = max(0, min(_SPARK_LENGTH, width - 24))
    return text.append(sparkline(sight.history, length, encoding), style="cyan")


def sparkline(history: RunHistory, length: int = _SPARK_LENGTH, encoding: str = "utf-8") -> str:
    """Correctness of the last iterations, 0% lowest and 100% highest."""
    sparks = _SPARKS if encoding.lower().startswith("utf") else _ASCII_SPARKS
    values = [record.correctness for record in history.iterations[-length:]] if length else []
    top = len(sparks) - 1
    return "".join(" " if v is None else sparks[round(min(max(v, 0), 1) * top)] for v in values)


def _loss(run: RunSnapshot) -> Text:
    parts = [_number(run.loss)]
    if run.correct_reward_mean is not None:
        parts.append(f"average correct reward {_number(run.correct_reward_mean)}")
    if run.skipped_updates:
        parts.append(f"{run.skipped_updates} updates skipped")
    return Text("   ".join(parts))


def _threshold(run: RunSnapshot) -> Text:
    parts = [_number(run.threshold)]
    if run.reference_threshold is not None:
        parts[0] += f" (reference {_number(run.reference_threshold)})"
    if run.weight_temperature is not None:
        parts.append(f"weight temperature {_number(run.weight_temperature)}")
    if run.n_samples is not None:
        parts.append(f"{run.n_samples} samples")
    return Text("   ".join(parts))


def _phase(run: RunSnapshot) -> Text | None:
    if run.phase is None:
        return None
    age = run.phase.age_seconds
    return shown(run.phase.name + ("" if age is None else f"   for {age:.0f} s"))


def _held_out(run: RunSnapshot) -> Text:
    if not run.evaluations:
        return Text("-")
    last, first = run.evaluations[-1], run.evaluations[0]
    text = Text("pass@1 ")
    if last is not first and first.pass_at_1 is not None:
        text.append(f"{first.pass_at_1:.2f} -> ")
    text.append("-" if last.pass_at_1 is None else f"{last.pass_at_1:.2f}", style="bold")
    if last.se is not None:
        text.append(f" +- {last.se:.2f}")
    if (pass_at_8 := last.pass_at_k.get("8")) is not None:
        text.append(f"   pass@8 {pass_at_8:.2f}")
    return text.append(f"   at {last.iteration}", style="dim")


def _wrong(run: RunSnapshot) -> Text | None:
    """Reward hacking would show here first."""
    if run.compiles_but_wrong is None:
        return None
    return Text(f"{run.compiles_but_wrong:.0%} of held-out samples compile but are wrong")


def _autopilot(run: RunSnapshot) -> Text | None:
    """The mode; what was decided, or why nothing was, stands in the sentence below."""
    return None if run.mode is None else shown(run.mode)


def _saved(run: RunSnapshot) -> Text:
    saved = "-" if run.last_checkpoint is None else f"checkpoint {run.last_checkpoint}"
    restarts = run.restarts or 0
    text = Text(saved)
    text.append(f"   {restarts} restarts", style="red" if restarts else "dim")
    if run.control_revision is not None:
        text.append(f"   control {run.control_revision}, applied {run.acknowledged_revision or 0}")
    return text


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
