"""A causal language model of Transformers, in process: option log-likelihoods of packed prompts, and greedy text."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from udr import models
from udr.errors import ConfigError, FeedbackError, ModelError
from udr_training.config import DTYPES
from udr_training.feedback.gguf import converted
from udr_training.feedback.packing import Pack, Prompt, Tokens, pack, plan

_LOG = logging.getLogger(__name__)

PACK_TOKENS = {"cpu": 512, "cuda": 4096}
"""Tokens a pack, by device; attention over a pack grows with its square, small packs leave the cores idle."""

_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPES}

# Packed and plain scores may differ by rounding only; far less than any score is read to.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}


class CausalLM:
    """Scores options after prompts, packed where the model allows it, and continues prompts greedily.

    Attributes:
        name: the model's name, as it was asked for.
        fingerprint: of its files.
        dtype: of its weights, as text.
        packed: whether packing passed the self-check; else every prompt and option is a padded row of its own.
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
        # Transformers types its models' calls and its tokenizers' too loosely to be checked.
        self._model: Any = model
        torch.nn.Module.eval(model)
        self._tokenizer: Any = tokenizer
        self._device = next(model.parameters()).device
        self._dtype: torch.dtype = next(model.parameters()).dtype
        self.dtype = str(self._dtype).removeprefix("torch.")
        self._pack_tokens = pack_tokens or PACK_TOKENS.get(self._device.type, PACK_TOKENS["cpu"])
        self._cache: dict[str, Tokens] = {}
        self._window = _smallest_window(model.config)
        self.packed = self._packing_is_exact()

    @classmethod
    def load(cls, name: str, device: str = "cpu", dtype: str = "float32") -> "CausalLM":
        """Load the language model that ``name`` stands for (see ``udr.models``), GGUF included.

        Args:
            name: a hub name, a path, or ``package:NAME``.
            device: ``cpu``, ``cuda``, ``cuda:1``, ...
            dtype: ``float32``, ``bfloat16`` or ``float16``; the weights', log-probabilities are always float32.

        Raises:
            ModelError: the name leads nowhere, or not to a causal language model.
            ConfigError: there is no such type of weights, or no such device.
        """
        check_device(device)
        if dtype not in _DTYPES:
            raise ConfigError(f"unknown dtype {dtype!r}; there are {', '.join(_DTYPES)}")
        path = models.locate(name)
        fingerprint = models.fingerprint(path)
        folder = converted(path, fingerprint) if path.suffix == ".gguf" else path
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder))
            model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=_DTYPES[dtype])
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"model {name!r} is no causal language model that can be loaded: {reason}") from error
        return cls(name, fingerprint, model.to(device), tokenizer)

    @property
    def context(self) -> int:
        """The longest sequence the model takes, in tokens."""
        length = getattr(self._model.config, "max_position_embeddings", None)
        return int(length) if length else 1 << 20

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the tokens of one segment of a prompt; segments are tokenised apart.

        Args:
            text: the segment.
            start: whether a prompt starts with it; then it begins with BOS where the tokenizer adds one.
        """
        key = f"{int(start)}{text}"
        if key not in self._cache:
            ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            self._cache[key] = (*(self._bos() if start else ()), *ids)
        return self._cache[key]

    def _bos(self) -> Tokens:
        ids = self._tokenizer("")["input_ids"]
        bos = self._tokenizer.bos_token_id
        return (bos,) if bos is not None and ids[:1] == [bos] else ()

    def log_likelihoods(self, prompts: Sequence[Prompt]) -> list[NDArray[np.float64]]:
        """Return the options' log-likelihoods, sums over tokens, one array [num_options] a prompt."""
        results: dict[int, NDArray[np.float64]] = {}
        for numbers in self.plan(prompts):
            scored = self.score([prompts[number] for number in numbers])
            results |= dict(zip(numbers, scored, strict=True))
        return [results[number] for number in range(len(prompts))]

    def plan(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Say which prompts to score together, longest first: positions in ``prompts``."""
        return plan(prompts, self._pack_tokens)

    def score(self, prompts: Sequence[Prompt]) -> list[NDArray[np.float64]]:
        """Return the options' log-likelihoods of prompts that were planned together.

        Raises:
            FeedbackError: the model answers with numbers that are none.
        """
        # A pack's mask says nothing of local attention: what is longer than a layer's window is scored alone.
        fits = self.packed and max(prompt.length for prompt in prompts) <= self._window
        results = self._score_packed(pack(prompts)) if fits else self._score_plain(prompts)
        if not all(np.isfinite(result).all() for result in results):
            raise FeedbackError(f"model {self.name!r} in {self.dtype} gives log-likelihoods that are not finite")
        return results

    @torch.inference_mode()
    def _score_packed(self, packed: Pack) -> list[NDArray[np.float64]]:
        visible = torch.from_numpy(packed.visible).to(self._device)
        mask = torch.zeros(visible.shape, dtype=self._dtype, device=self._device)
        mask.masked_fill_(~visible, torch.finfo(self._dtype).min)
        places, edge_places = np.unique(packed.sources, return_inverse=True)
        logits = self._model(
            input_ids=torch.from_numpy(packed.tokens)[None].to(self._device),
            position_ids=torch.from_numpy(packed.positions)[None].to(self._device),
            attention_mask=mask[None, None],
            logits_to_keep=torch.from_numpy(places).to(self._device),
            use_cache=False,
        ).logits[0]
        logs = torch.log_softmax(logits.float(), dim=-1)
        chosen = logs[torch.from_numpy(edge_places), torch.from_numpy(packed.targets)]
        return packed.log_likelihoods(chosen.cpu().numpy())

    @torch.inference_mode()
    def _score_plain(self, prompts: Sequence[Prompt], rows: int = 8) -> list[NDArray[np.float64]]:
        sequences = [(sum(prompt.parts, ()), option) for prompt in prompts for option in prompt.options]
        sums: list[float] = []
        for first in range(0, len(sequences), rows):
            sums += self._score_rows(sequences[first : first + rows])
        flat = iter(sums)
        return [np.array([next(flat) for _ in prompt.options]) for prompt in prompts]

    def _score_rows(self, sequences: Sequence[tuple[Tokens, Tokens]]) -> list[float]:
        width = max(len(context) + len(option) - 1 for context, option in sequences)
        ids = torch.zeros((len(sequences), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, (context, option) in enumerate(sequences):
            inputs = (*context, *option[:-1])
            ids[row, : len(inputs)] = torch.tensor(inputs)
            mask[row, : len(inputs)] = 1
        logits = self._model(
            input_ids=ids.to(self._device), attention_mask=mask.to(self._device), use_cache=False
        ).logits
        sums = []
        for row, (context, option) in enumerate(sequences):
            predicted = logits[row, len(context) - 1 : len(context) + len(option) - 1].float()
            logs = torch.log_softmax(predicted, dim=-1)
            sums.append(float(logs[torch.arange(len(option)), torch.tensor(option)].double().sum()))
        return sums

    def _packing_is_exact(self) -> bool:
        """Compare packed with plain scores on a full pack of made-up prompts."""
        generator = np.random.default_rng(0)
        vocabulary = self._model.get_input_embeddings().num_embeddings

        def some(count: int) -> Tokens:
            return tuple(int(token) for token in generator.integers(vocabulary, size=count))

        root = some(4)
        lengths = [min(length, self.context // 2) for length in (self._pack_tokens // 4, self._pack_tokens // 8, 9)]
        prompts = [
            Prompt((root, some(length), some(3 + query)), (some(1), some(3), (*some(1), 1)))
            for length in lengths
            for query in range(2)
        ]
        # One shared demonstration, so that a query must not see the query before it.
        prompts[1] = Prompt((*prompts[0].parts[:2], some(5)), prompts[1].options)
        plain = np.concatenate(self._score_plain(prompts, rows=3))
        try:
            packed = np.concatenate(self._score_packed(pack(prompts)))
        except (TypeError, ValueError, RuntimeError) as error:
            _LOG.warning("%s: does not take packed prompts (%s); scoring each alone, slower", self.name, error)
            return False
        worst = float(np.abs(packed - plain).max())
        if not worst <= _TOLERANCE[self._dtype]:
            _LOG.warning("%s: packed scores are off by %.2g; scoring each prompt alone, slower", self.name, worst)
            return False
        return True

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Tokens], stop: Sequence[str], max_new_tokens: int) -> list[str]:
        """Return each prompt's greedy continuation, cut before the first of the stop texts.

        Args:
            prompts: tokens, each scored alone, so an answer does not depend on its neighbours.
            stop: the texts that end an answer, one list for all.
            max_new_tokens: the most tokens an answer may have.
        """
        return [self._continue(prompt, tuple(stop), max_new_tokens) for prompt in prompts]

    def _continue(self, prompt: Tokens, stop: tuple[str, ...], max_new_tokens: int) -> str:
        ids = torch.tensor([prompt], device=self._device)
        cache: Any = None
        new: list[int] = []
        while len(new) < max_new_tokens and len(prompt) + len(new) < self.context:
            answer = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, token = answer.past_key_values, int(answer.logits[0, -1].argmax())
            if token == self._tokenizer.eos_token_id:
                break
            new.append(token)
            ids = torch.tensor([[token]], device=self._device)
            if any(text in self._tokenizer.decode(new).lstrip("\n") for text in stop):
                break
        text = str(self._tokenizer.decode(new)).lstrip("\n")
        for ending in stop:
            text = text.partition(ending)[0]
        return text.strip()


def _smallest_window(config: Any) -> int:  # noqa: ANN401
    """Return how far the model's most short-sighted layer looks back, in tokens."""
    config = getattr(config, "text_config", None) or config
    windows = [getattr(config, name, None) for name in ("sliding_window", "window_size", "attention_chunk_size")]
    return min((window for window in windows if isinstance(window, int) and window > 0), default=1 << 30)


def check_device(device: str) -> None:
    """Refuse a device that this machine, or this build of torch, does not have.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
