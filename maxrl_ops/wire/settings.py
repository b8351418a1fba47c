"""The settings of a run: one table for env flags, command-line flags and TOML files.

Precedence is the caller's business (flag > env > --config file > the task's profile > the
algorithm's default); what a value may be is decided here, once.
"""

import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from maxrl_ops.wire import task_spec

Value = bool | int | float | str

RUN_DIR_ENV = "MAXRL_RUN_DIR"
ATTEMPT_ENV = "MAXRL_OPS_ATTEMPT"
LOCK_FD_ENV = "MAXRL_OPS_LOCK_FD"
HOME_ENV = "MAXRL_OPS_HOME"
LISTEN_ENV = "MAXRL_OPS_LISTEN"
TLS_CERT_ENV = "MAXRL_OPS_TLS_CERT"
TLS_KEY_ENV = "MAXRL_OPS_TLS_KEY"
CLIENT_CA_ENV = "MAXRL_OPS_CLIENT_CA"
INSECURE_LISTEN_ENV = "MAXRL_OPS_INSECURE_LISTEN"
NO_DAEMON_ENV = "MAXRL_OPS_NO_DAEMON"
NO_WATCH_ENV = "MAXRL_OPS_NO_WATCH"
LOG_BYTES_ENV = "MAXRL_OPS_LOG_BYTES"
_OPS_PREFIX = "MAXRL_OPS_"

# The formulas themselves are trainer.objectives'.
OBJECTIVE_NAMES = (
    "grpo",
    "grpo_masked",
    "dr_grpo",
    "rloo",
    "maxrl",
    "maxrl_mean",
    "maxrl_zscore",
    "tailrl",
)

# hybrid: GRPO, then MaxRL after a planned number of iterations; adaptive: when the rules say so.
SCHEDULES = ("fixed", "hybrid", "adaptive")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class SettingError(ValueError):
    """A setting that cannot be used; the message is one line for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        key: Its name in TOML files and run.json; with dashes, the command-line flag.
        env: Its environment variable.
        allowed: What values it takes, for messages and --help.
        convert: Text to value; ValueError where the text is not allowed.
        help: One line.
    """

    key: str
    env: str
    allowed: str
    convert: Callable[[str], Value]
    help: str

    def parse(self, text: str, source: str) -> Value:
        """Convert `text`; `source` names where it came from.

        Raises:
            SettingError: Naming the source, the value and what is allowed.
        """
        try:
            return self.convert(text.strip())
        except ValueError:
            raise SettingError(f"{source}={text!r} is not allowed: give {self.allowed}") from None


def _boolean(text: str) -> bool:
    folded = text.lower()
    if folded in _TRUE or folded in _FALSE:
        return folded in _TRUE
    raise ValueError(text)


def _integer(key: str, low: int, high: int, help_text: str) -> Setting:
    def convert(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", text) or not low <= int(text) <= high:
            raise ValueError(text)
        return int(text)

    return _setting(key, f"a whole number from {low} to {high}", convert, help_text)


def _number(key: str, low: float, high: float, help_text: str, *, above: bool = False) -> Setting:
    def convert(text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or not low <= value <= high or (above and value == low):
            raise ValueError(text)
        return value

    bounds = f"above {low:g} and up to {high:g}" if above else f"from {low:g} to {high:g}"
    return _setting(key, f"a number {bounds}", convert, help_text)


def _choice(key: str, choices: tuple[str, ...], help_text: str) -> Setting:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return _setting(key, " or ".join(choices), convert, help_text)


def _pattern(key: str, pattern: str, allowed: str, help_text: str) -> Setting:
    def convert(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return _setting(key, allowed, convert, help_text)


def _command_line(text: str) -> str:
    if not text.isprintable() or not shlex.split(text):
        raise ValueError(text)
    return text


def _setting(key: str, allowed: str, convert: Callable[[str], Value], help_text: str) -> Setting:
    return Setting(key, f"MAXRL_{key.upper()}", allowed, convert, help_text)


SETTINGS: Mapping[str, Setting] = {
    setting.key: setting
    for setting in (
        Setting(
            "use_maxrl", "USE_MAXRL", "true or false", _boolean, "Train with MaxRL, or with GRPO."
        ),
        _choice("engine", ("native", "trl"), "Whose loop trains: ours, or Hugging Face TRL's."),
        _pattern(
            "engine_config",
            r"[^\x00-\x1f]+",
            "a TOML file",
            "TRL's arguments, key = value, and a table [lora] of peft's.",
        ),
        _setting(
            "launch",
            "a program and its arguments",
            _command_line,
            "What starts the trainer: torchrun --nproc-per-node 2, accelerate launch, srun ...",
        ),
        _choice("objective", OBJECTIVE_NAMES, "The exact formula of the loss."),
        _choice("schedule", SCHEDULES, "Keep the objective, or begin with GRPO and hand over."),
        _integer("hand_over_after", 1, 10_000_000, "Iterations of GRPO before a hybrid's MaxRL."),
        _setting(
            "task",
            task_spec.ALLOWED,
            task_spec.parse_known,
            "Where prompts and verdicts come from.",
        ),
        _choice(
            "reward",
            ("tested", "guide", "own"),
            "Gated by tests, the guide's plain scale, or what an own task says.",
        ),
        _pattern(
            "reward_weights",
            r"[^\x00-\x1f]+",
            "a TOML file",
            "What quality is worth on top of the reward tested: measure = number a line.",
        ),
        _setting(
            "reward_command",
            "a program and its arguments",
            _command_line,
            "What rewards the completions of --task FILE.jsonl.",
        ),
        _number(
            "reward_timeout",
            0,
            86_400,
            "Seconds that an own task's reward may take for one batch.",
            above=True,
        ),
        _pattern(
            "checkpoint",
            r"[^\x00-\x1f]+",
            "a directory or a hub id",
            "Model to start from: a Hugging Face directory or hub id.",
        ),
        _integer("iterations", 1, 10_000_000, "Iterations to train."),
        _integer("n_samples", 2, 1024, "Completions sampled for each prompt."),
        _integer("prompts_per_iteration", 1, 4096, "Prompts in one iteration."),
        _choice(
            "prompt_sampling",
            ("uniform", "difficulty"),
            "Draw prompts as the task gives them, or those solved about half the time more often.",
        ),
        _integer(
            "replay", 0, 4096, "Prompts whose earlier correct completions are learned from again."
        ),
        _integer("max_new_tokens", 1, 32_768, "Longest completion, in tokens."),
        _number("sampling_temperature", 0, 10, "Temperature of the sampler.", above=True),
        _number(
            "correctness_threshold", -1e6, 1e6, "A sample is correct when its reward is above."
        ),
        _number("weight_temperature", 1e-9, 1e6, "Softmax temperature of MaxRL weights."),
        _number("learning_rate", 0, 1, "AdamW learning rate.", above=True),
        _number("max_grad_norm", 0, 1e6, "Clip the gradient's norm to this.", above=True),
        _number("entropy_bonus", 0, 100, "Weight of the tokens' entropy, for variety."),
        _number("kl_coefficient", 0, 100, "Weight of the divergence from the first model."),
        _setting(
            "length_normalisation",
            "true or false",
            _boolean,
            "Divide each sequence's log-probability by its length.",
        ),
        _integer("updates_per_batch", 1, 64, "Steps on the same samples; clipped from the second."),
        _number("clip_low", 0, 1, "How far a token's probability ratio counts below 1."),
        _number("clip_high", 0, 100, "How far it counts above 1."),
        _integer("seed", 0, 2**63 - 1, "Seed of everything random."),
        _pattern(
            "device",
            r"auto|cpu|mps|cuda(:[0-9]{1,3})?",
            "auto, cpu, mps, cuda or cuda:N",
            "Where the model runs.",
        ),
        _choice("precision", ("float32", "bfloat16"), "What the model computes in."),
        _setting(
            "gradient_checkpointing",
            "true or false",
            _boolean,
            "Compute each layer twice, to save memory.",
        ),
        _setting(
            "torch_compile",
            "true or false",
            _boolean,
            "Fuse the model's layers by torch.compile: a slower start, and not faster everywhere.",
        ),
        _choice(
            "chat_template",
            ("auto", "always", "never"),
            "Whether a prompt is put to the model as a message; auto: as the task wants it.",
        ),
        _setting(
            "unsafe_no_sandbox",
            "true or false",
            _boolean,
            "Run what the model writes unconfined where the host has no sandbox.",
        ),
        _integer("evaluate_every", 0, 10_000_000, "Iterations between evaluations; 0: ends only."),
        _integer("evaluation_prompts", 1, 100_000, "Held-out prompts in an evaluation."),
        _integer("checkpoint_every", 1, 10_000_000, "Iterations between checkpoints."),
    )
}

_BY_ENV = {setting.env: setting for setting in SETTINGS.values()}


def nearest(name: str, names: list[str]) -> str:
    """` (did you mean X?)` for a misspelt name, or nothing."""
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def from_environment(env: Mapping[str, str]) -> dict[str, Value]:
    """The settings that the environment gives.

    Raises:
        SettingError: For a wrong value, or a `MAXRL_*` variable that does not exist. `MAXRL_OPS_*`
            belongs to the tool and is not looked at.
    """
    for name in sorted(env):
        known = name in _BY_ENV or name == RUN_DIR_ENV or name.startswith(_OPS_PREFIX)
        if name.startswith("MAXRL_") and not known:
            raise SettingError(
                f"{name}={env[name]!r}: there is no such setting{nearest(name, list(_BY_ENV))}; "
                f"allowed: {', '.join(_BY_ENV)}"
            )
    return {s.key: s.parse(env[s.env], s.env) for s in SETTINGS.values() if s.env in env}


def from_table(table: Mapping[str, object], source: str) -> dict[str, Value]:
    """The settings of a parsed TOML or JSON table.

    Raises:
        SettingError: For an unknown key or a value of a wrong kind, naming `source`.
    """
    values: dict[str, Value] = {}
    for key, raw in table.items():
        if key not in SETTINGS:
            hint = nearest(key, list(SETTINGS))
            raise SettingError(f"{source}: there is no setting {key!r}{hint}")
        if not isinstance(raw, bool | int | float | str):
            raise SettingError(f"{source}: {key} must be {SETTINGS[key].allowed}")
        values[key] = SETTINGS[key].parse(to_text(raw), f"{source}: {key}")
    return values


def to_text(value: Value) -> str:
    """A value as `Setting.parse` reads it back, floats exactly."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_environment(values: Mapping[str, Value]) -> dict[str, str]:
    """The environment variables that carry `values` to a trainer."""
    return {SETTINGS[key].env: to_text(value) for key, value in values.items()}
