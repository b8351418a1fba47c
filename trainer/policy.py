"""The model: loading it, and choosing where it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import logging as transformers_logging
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.errors import ExitCode, TrainerError
from trainer.llama.blocks import covers


@dataclass(frozen=True, slots=True)
class Policy:
    """A causal language model with its tokenizer, on its device."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device

    @property
    def is_llama_like(self) -> bool:
        """Whether we sample and compute log-probs ourselves, or transformers does."""
        return covers(self.model)

    @property
    def pad_id(self) -> int:
        """The id that fills up batches; masked everywhere."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

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


def load_policy(checkpoint: str, device: torch.device) -> Policy:
    """Load a Hugging Face causal language model, in float32, ready to train.

    Raises:
        TrainerError: There is no such checkpoint, or it is not a causal language model.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if checkpoint.startswith(("/", ".", "~")) and not Path(checkpoint).expanduser().is_dir():
        raise TrainerError(f"checkpoint {checkpoint}: no such directory", ExitCode.NOT_FOUND)
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    except Exception as error:
        # transformers, tokenizers and safetensors each raise kinds of their own for a bad file.
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise TrainerError(
            f"checkpoint {checkpoint} cannot be loaded as a causal language model: {detail}",
            ExitCode.NOT_FOUND,
        ) from error
    if tokenizer.eos_token_id is None:
        raise TrainerError(f"checkpoint {checkpoint}: its tokenizer has no end-of-sequence token")
    # Dropout would make the log-probs of the update differ from those of the sampler.
    model.eval()
    model.to(device)
    return Policy(model, tokenizer, device)
