"""A causal language model of Transformers: log-likelihoods of packed options, and greedy generation."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from udr.errors import ConfigError, FeedbackError, ModelError, reason
from udr.models import cpu_multiplies, hub
from udr_training.config import DTYPES
from udr_training.feedback.local.forward import packed_log_likelihoods, plain_log_likelihoods, token_log_likelihoods
from udr_training.feedback.local.generation import BATCH_TOKENS, answer_text, greedy_tokens, has_ended
from udr_training.feedback.local.memory import keep_freed_memory
from udr_training.feedback.local.multiplication import multiply_in_float32
from udr_training.feedback.local.self_check import exact_packing
from udr_training.feedback.local.tokenizer import ModelTokenizer, longest_sequence, model_folder
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens, pack, plan

_LOG = logging.getLogger(__name__)

PACK_TOKENS = {"cpu": 512, "cuda": 4096}
"""Tokens per pack, by device: attention grows with the square of a pack's size, small packs leave cores idle."""


_SMALLER = "use a smaller model, another dtype or another device"


class CausalLM:
    """Scores options after prompts, packed if the model allows it, and generates greedily.

    Attributes:
        name: the model's name, as requested.
        fingerprint: a hash of its files.
        dtype: the precision of its weights.
        model: the Transformers model.
        tokenizer: its tokenizer.
        packing: how the model takes packs; None if no way passed the self-check, then every prompt and option is a
            padded row.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pack_tokens: int | None = None,
    ) -> None:
        self.name, self.fingerprint = name, fingerprint
        # Transformers' types are too loose to check.
        self.model: Any = model
        torch.nn.Module.eval(model)
        parameter = next(model.parameters())
        self._device = parameter.device
        self.dtype = str(parameter.dtype).removeprefix("torch.")
        self._pack_tokens = pack_tokens or PACK_TOKENS.get(self._device.type, PACK_TOKENS["cpu"])
        ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        self.tokenizer = ModelTokenizer(tokenizer, longest_sequence(model.config), ends)
        try_blocks = self._device.type == "cuda"
        self.packing = exact_packing(model, name, self._pack_tokens, self.context, try_blocks=try_blocks)

    @classmethod
    def load(cls, name: str, device: str = "cpu", dtype: str = "float32", pack_tokens: int | None = None) -> "CausalLM":
        """Load a language model by name, including GGUF files.

        Args:
            name: a hub name, a path, or ``package:NAME``.
            device: ``cpu``, ``cuda``, ``cuda:1``, ...
            dtype: the weights' precision: ``float32``, ``bfloat16`` or ``float16``; log-probabilities are float32.
            pack_tokens: tokens per pack; None uses the measured optimum of the device.

        Raises:
            ModelError: there is no such model, it is not a causal language model, or it does not fit on the device.
            ConfigError: the dtype or the device does not exist.
        """
        _LOG.info("loading %s...", name.removeprefix(hub.PACKAGE))
        check_device(device)
        if dtype not in DTYPES:
            raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, found {dtype!r}")
        folder, fingerprint = model_folder(name)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), local_files_only=True, dtype=getattr(torch, dtype)
            )
            model.to(device)
        except torch.OutOfMemoryError as error:
            raise ModelError(f"model {name!r} in {dtype} does not fit on {device}; {_SMALLER}") from error
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"model {name!r} is not a loadable causal language model: {reason(error)}") from error
        if model.device.type == "cpu":
            keep_freed_memory()
            if not cpu_multiplies(dtype):
                multiply_in_float32(model)
        return cls(name, fingerprint, model, tokenizer, pack_tokens)

    @property
    def context(self) -> int:
        """The longest sequence of the model, in tokens."""
        return self.tokenizer.context

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the tokens of one segment of a prompt; see ``ModelTokenizer``."""
        return self.tokenizer.tokens(text, start=start)

    def likelihoods(
        self, prompts: Sequence[Prompt], on_done: Callable[[int], None] = lambda _: None
    ) -> list[Likelihoods]:
        """Return the likelihoods of each prompt's options, planned and scored; ``on_done`` gets the prompts done."""
        results: dict[int, Likelihoods] = {}
        for numbers in self.plan(prompts):
            scored = self.score([prompts[number] for number in numbers])
            results |= dict(zip(numbers, scored, strict=True))
            on_done(len(results))
        return [results[number] for number in range(len(prompts))]

    def plan(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return which prompts to score together, as positions."""
        return plan(prompts, self._pack_tokens)

    def score(self, prompts: Sequence[Prompt]) -> list[Likelihoods]:
        """Return the likelihoods of the options of prompts that are scored together.

        If memory runs out, the prompts are scored in halves, and later packs are smaller.

        Raises:
            FeedbackError: a log-likelihood is not finite, or memory is too small for one prompt.
        """
        results = self._log_likelihoods(prompts)
        if not all(np.isfinite(result).all() for result in results):
            raise FeedbackError(f"model {self.name!r} in {self.dtype} returns log-likelihoods that are not finite")
        return [
            Likelihoods(sums, tuple(map(len, prompt.options))) for prompt, sums in zip(prompts, results, strict=True)
        ]

    def _log_likelihoods(self, prompts: Sequence[Prompt]) -> list[NDArray[np.float64]]:
        try:
            if self.packing is not None and max(prompt.length for prompt in prompts) <= self.packing.longest:
                return packed_log_likelihoods(self.model, pack(prompts), self.packing)
            return plain_log_likelihoods(self.model, prompts)
        except torch.OutOfMemoryError as error:
            if len(prompts) == 1:
                raise self._no_memory(prompts[0].length) from error
            size, middle = len(pack(prompts)), len(prompts) // 2
            self._pack_tokens = min(self._pack_tokens, max(1, size // 2))
            _LOG.warning("out of memory with a pack of %d tokens; using packs of %d tokens", size, self._pack_tokens)
        return [*self._log_likelihoods(prompts[:middle]), *self._log_likelihoods(prompts[middle:])]

    def token_log_likelihoods(self, texts: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        """Return the log-likelihood of each token of texts after those before it, the first as a text's beginning.

        Texts are padded, not packed: all their tokens count, so little is shared.

        Raises:
            FeedbackError: memory is too small for one text.
        """
        start = self.tokens("", start=True) or ((0,) if self.tokenizer.end is None else (self.tokenizer.end,))
        try:
            return token_log_likelihoods(self.model, [(*start, *text) for text in texts])
        except torch.OutOfMemoryError as error:
            raise self._no_memory(len(start) + max(map(len, texts))) from error

    def generate(
        self,
        prompts: Sequence[Tokens],
        stop: Sequence[str],
        max_new_tokens: int,
        on_done: Callable[[int], None] = lambda _: None,
        *,
        empty: bool = False,
    ) -> list[str]:
        """Return each prompt's greedy continuation, up to the first stop text; batched if the model respects masks.

        Line breaks at its beginning are no stop texts, unless it may be ``empty``.

        Raises:
            FeedbackError: memory is too small for one prompt.
        """
        limits = [min(max_new_tokens, self.context - len(prompt)) for prompt in prompts]
        batch_tokens = BATCH_TOKENS.get(self._device.type, BATCH_TOKENS["cpu"]) if self.packing is not None else 0
        ends = partial(has_ended, self.tokenizer, stop=stop, empty=empty)
        answers = greedy_tokens(self.model, prompts, limits, ends, batch_tokens, self._no_memory, on_done)
        return [answer_text(self.tokenizer, answer, stop, empty=empty) for answer in answers]

    def _no_memory(self, tokens: int) -> FeedbackError:
        return FeedbackError(
            f"model {self.name!r}: out of memory with one prompt of {tokens} tokens on {self._device}; {_SMALLER}"
        )


def check_device(device: str) -> None:
    """Raise a ConfigError if this machine, or this build of torch, lacks a device."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {device!r} cannot be used: {reason(error)}") from error
