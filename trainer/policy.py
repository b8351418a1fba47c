"""The model: loading it, and choosing where it runs."""

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers import logging as transformers_logging
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from maxrl_ops.wire.user_paths import expanded
from trainer.errors import ExitCode, TrainerError
from trainer.llama.blocks import covers
from trainer.llama.kernels import EAGER, Kernels, compiled

# More than a driver and its context take of a GPU that nobody uses.
_OTHERS_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Policy:
    """A causal language model with its tokenizer, on its device.

    Attributes:
        model: Its weights are float32, whatever it computes in.
        precision: What matrices are multiplied in, for samples and for gradients.
        is_chat: A prompt is what a person says to the model, not what the model continues.
        kernels: What computes a layer of a model that we cover.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    precision: torch.dtype = torch.float32
    is_chat: bool = False
    kernels: Kernels = EAGER

    def computing(self) -> AbstractContextManager[object]:
        """Within it, the model computes in its precision."""
        if self.precision is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def encode(self, text: str) -> tuple[int, ...]:
        """The token ids that stand before an answer to the prompt `text`."""
        if not self.is_chat:
            return tuple(self.tokenizer(text)["input_ids"])
        said = [{"role": "user", "content": text}]
        ids = self.tokenizer.apply_chat_template(
            said, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return tuple(cast("list[int]", ids))

    @property
    def is_llama_like(self) -> bool:
        """Whether we sample and compute log-probs ourselves, or transformers does."""
        return covers(self.model)

    @property
    def ends(self) -> frozenset[int]:
        """The ids that end a sequence: the tokenizer's, and those that the model's maker lists.

        Many models that chat end their turn with another token than a document.
        """
        listed: Any = self.model.generation_config.eos_token_id
        listed = listed if isinstance(listed, list) else [listed]
        found = {self.tokenizer.eos_token_id, *listed}
        return frozenset(int(each) for each in found if each is not None)

    @property
    def embedded(self) -> int:
        """How many token ids the model knows: those below."""
        rows: int = cast("Any", self.model.get_input_embeddings()).weight.shape[0]
        return rows

    @property
    def positions(self) -> int | None:
        """The longest sequence that the model can read, in tokens; None where nothing bounds it."""
        config: Any = self.model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        if longest is None:
            return None
        rope = getattr(config, "rope_parameters", None) or {}
        # Of these kinds, some checkpoints tell the length before it is stretched.
        is_stretched = rope.get("rope_type") in {"linear", "dynamic", "yarn"}
        factor = max(1.0, rope.get("factor") or 1.0) if is_stretched else 1.0
        return int(longest * factor)

    @property
    def pad_id(self) -> int:
        """The id that fills up batches; masked everywhere, but looked up among the embeddings."""
        candidates = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        rows = self.embedded
        return next((int(i) for i in candidates if i is not None and i < rows), 0)

    def describe(self) -> str:
        """`llama, 0.92 M parameters`."""
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return f"{self.model.config.model_type}, {count / 1e6:.3g} M parameters"


def choose_device(asked: str) -> tuple[torch.device, str]:
    """The device for `--device`, and how the log names it.

    Raises:
        TrainerError: The device asked for is not there. There is no silent fallback; only `auto`
            chooses, and says what.
    """
    if asked == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(chosen), f"{chosen} (chosen by auto)"
    device = torch.device(asked)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if count == 0:
            raise TrainerError(
                f"device {asked!r}: PyTorch {torch.__version__} sees no CUDA device here; "
                "give --device cpu, or auto"
            )
        if (device.index or 0) >= count:
            raise TrainerError(f"device {asked!r}: there are {count} CUDA devices, from cuda:0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise TrainerError(f"device {asked!r} is not available here; give --device cpu, or auto")
    return device, asked


def speaks_in_chat(policy: Policy, asked: str, *, is_chat_task: bool) -> bool:
    """Whether prompts are put to the model in its chat template: `asked` is auto, always or never.

    Raises:
        TrainerError: It is to be so always, and the tokenizer has no template.
    """
    has_template = bool(policy.tokenizer.chat_template)
    if asked == "always" and not has_template:
        raise TrainerError(
            "chat_template=always: the checkpoint's tokenizer has no chat template; give auto or "
            "never, or a checkpoint that was trained to chat"
        )
    return asked == "always" or (asked == "auto" and is_chat_task and has_template)


def choose_kernels(device: torch.device, *, torch_compile: bool) -> Kernels:
    """What computes the layers.

    Raises:
        TrainerError: They are to be compiled, and there is no compiler.
    """
    if not torch_compile:
        return EAGER
    # On a GPU, Triton brings its own and needs a C compiler for what calls it.
    name = os.environ.get("CXX", "g++") if device.type == "cpu" else os.environ.get("CC", "gcc")
    if shutil.which(name) is None:
        raise TrainerError(
            f"torch_compile=true needs the compiler {name!r}, which is not there: apt install g++, "
            f"or leave it out"
        )
    return compiled()


def others_memory(device: torch.device) -> str | None:
    """What to say of a GPU that somebody else uses already; asked before anything is loaded."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    if total - free < _OTHERS_BYTES:
        return None
    gib = 1 << 30
    return (
        f"{device}: {(total - free) / gib:.1f} of {total / gib:.1f} GiB are in use by others: this "
        f"run may be slow, or run out of memory; --device cuda:N chooses another"
    )


def load_policy(checkpoint: str, device: torch.device) -> Policy:
    """Load a Hugging Face causal language model, in float32, ready to train.

    Raises:
        TrainerError: There is no such checkpoint, or it is not a causal language model.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    where = checkpoint
    if checkpoint.startswith(("/", ".", "~")):
        where = str(expanded(checkpoint))
        if not Path(where).is_dir():
            raise TrainerError(f"checkpoint {checkpoint}: no such directory", ExitCode.NOT_FOUND)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        # transformers, tokenizers and safetensors each raise kinds of their own for a bad file.
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise TrainerError(
            f"checkpoint {checkpoint} cannot be loaded as a causal language model: {detail}",
            ExitCode.NOT_FOUND,
        ) from error
    model, loading = loaded
    _check_weights(checkpoint, loading)
    _check_vocabulary(checkpoint, tokenizer, model)
    if tokenizer.eos_token_id is None:
        raise TrainerError(f"checkpoint {checkpoint}: its tokenizer has no end-of-sequence token")
    _mend_generation_config(checkpoint, model)
    # Dropout would make the log-probs of the update differ from those of the sampler.
    model.eval()
    model.to(device)
    return Policy(model, tokenizer, device)


def _mend_generation_config(checkpoint: str, model: Any) -> None:
    """Keep only the token ids of a generation_config.json that transformers would not save again.

    Which those are differs between its versions; found out at a checkpoint, it would end the run.
    """
    config = model.generation_config
    try:
        with TemporaryDirectory() as nowhere:
            config.save_pretrained(nowhere)
    except ValueError as error:
        why = " ".join(str(error).split())[:300]
        sys.stderr.write(
            f"checkpoint {checkpoint}: of its generation_config.json only the token ids are kept: "
            f"{why}\n"
        )
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        )


def _check_weights(checkpoint: str, loading: Mapping[str, Any]) -> None:
    """Refuse what transformers would fill up with random weights."""
    lacking = sorted(loading["missing_keys"]) or sorted(str(k) for k in loading["mismatched_keys"])
    if lacking:
        raise TrainerError(
            f"checkpoint {checkpoint}: {len(lacking)} of the model's weights are not in it or have "
            f"another shape than its config.json says, {lacking[0]} for one",
            ExitCode.NOT_FOUND,
        )


def _check_vocabulary(checkpoint: str, tokenizer: PreTrainedTokenizerBase, model: Any) -> None:
    """Refuse a tokenizer that is another model's: its tokens would have no embedding."""
    special = set(tokenizer.all_special_ids)
    highest = max((i for i in tokenizer.get_vocab().values() if i not in special), default=0)
    rows = model.get_input_embeddings().weight.shape[0]
    if highest >= rows:
        raise TrainerError(
            f"checkpoint {checkpoint}: its tokenizer knows token {highest}, its model only those "
            f"below {rows}: they do not belong together"
        )
