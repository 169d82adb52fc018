"""Tokenises texts with the model's tokenizer directly, five times as fast as the library's own preprocessing."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from udr.errors import ModelError, optional_import, reason
from udr.models.probe_texts import PROBES

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Tokens = Mapping[str, NDArray[np.int64]]
"""A model's inputs for a batch, by name: each int64 [num_texts, longest text]."""

CPU_PADDING = 0.1
"""The largest share of padding per batch on a CPU, where padding costs as much as text and another batch little: with
queries of several tasks, sorted batches of 32 would take twice the time."""

AT_ONCE = 4096
"""Texts tokenised and sorted by length at once; each encoding takes a few kilobytes until it is padded."""

_LEAST = 4
"""Texts of a thread's batch, if there are as many for each thread: fewer take a tenth longer each."""

_PARTS = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}
"""Attributes of an encoding, by the models' names of them."""


class QueryTokenizer:
    """Tokenises the texts of a role, such as queries, exactly as a model's own preprocessing does; thread-safe.

    Args:
        tokenizer: the model's tokenizer, with truncation and padding set; nobody else uses it.
        prompt: the prefix of every text.
        names: which of ``_PARTS`` the model reads.
        constants: further inputs, the same for every text.
    """

    def __init__(
        self, tokenizer: "Tokenizer", prompt: str, names: Sequence[str], constants: Mapping[str, object]
    ) -> None:
        self._tokenizer, self.prompt, self.names, self.constants = tokenizer, prompt, names, constants
        padding = self._tokenizer.padding
        assert padding is not None
        self._padding = padding
        self._left = padding["direction"] == "left"
        self._fill = {"input_ids": padding["pad_id"], "token_type_ids": padding["pad_type_id"], "attention_mask": 0}
        # Padding happens later, when texts are sorted by length.
        self._tokenizer.no_padding()

    @classmethod
    def open(cls, path: Path, prompt: str, names: Sequence[str]) -> "QueryTokenizer":
        """Open a file that ``save`` wrote; the rest as the constructor.

        Raises:
            ModelError: it is not such a file, or a name is not one of ``_PARTS``.
            MissingExtraError: tokenizers is not installed.
        """
        with optional_import("tokenizers", "index"):
            from tokenizers import Tokenizer
        try:
            tokenizer = Tokenizer.from_buffer(path.read_bytes())
        except Exception as error:
            # The library raises bare Exception for an invalid file.
            raise ModelError(f"{path}: cannot be read: {reason(error)}") from error
        if tokenizer.padding is None or not _PARTS.keys() >= set(names):
            raise ModelError(f"{path}: does not pad, or the model reads other inputs than tokens: {', '.join(names)}")
        return cls(tokenizer, prompt, names, {})

    def save(self, path: Path) -> None:
        """Write the tokenizer, with truncation and padding, as JSON."""
        tokenizer = copy.deepcopy(self._tokenizer)
        tokenizer.enable_padding(**self._padding)
        tokenizer.save(str(path))

    @property
    def longest(self) -> int:
        """The largest number of tokens that the model reads, or 0 if there is no limit."""
        truncation = self._tokenizer.truncation
        return int(truncation["max_length"]) if truncation else 0

    def batches(
        self, texts: Sequence[str], size: int, padding: float, threads: int = 1, *, at_once: int = AT_ONCE
    ) -> Iterator[tuple[list[int], Tokens]]:
        """Yield batches of similar lengths: positions in ``texts``, and tokens.

        Args:
            texts: the queries, without the prompt.
            size: the largest batch.
            padding: the largest number of padding tokens per token of text.
            threads: threads that share the batches; the last batches are short, so that all threads finish together.
            at_once: texts tokenised and sorted at once.
        """
        for start in range(0, len(texts), at_once):
            encodings = self._encodings(texts[start : start + at_once])
            for positions in _by_length([len(encoding) for encoding in encodings], size, padding, threads):
                batch = [encodings[position] for position in positions]
                yield [start + position for position in positions], self._padded(batch)

    def batch(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of texts as one batch."""
        return self._padded(self._encodings(texts))

    def _encodings(self, texts: Sequence[str]) -> "list[Encoding]":
        return self._tokenizer.encode_batch_fast([self.prompt + text for text in texts])

    def _padded(self, encodings: Sequence["Encoding"]) -> Tokens:
        width = max(len(encoding) for encoding in encodings)
        tokens = {name: np.full((len(encodings), width), self._fill[name], dtype=np.int64) for name in self.names}
        for name, rows in tokens.items():
            for row, encoding in zip(rows, encodings, strict=True):
                row[width - len(encoding) if self._left else 0 :][: len(encoding)] = getattr(encoding, _PARTS[name])
        return tokens


def _by_length(lengths: Sequence[int], size: int, padding: float, threads: int) -> Iterator[list[int]]:
    """Yield positions of similar lengths, longest first: threads wait for the last batches, which so are short."""
    batch, tokens, limit = list[int](), 0, 0
    least = min(_LEAST, size, math.ceil(len(lengths) / threads))
    for number, position in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)):
        wide = batch and lengths[batch[0]] * (len(batch) + 1) > (1 + padding) * (tokens + lengths[position])
        if batch and (wide or len(batch) >= limit):
            yield batch
            batch, tokens = [], 0
        if not batch:
            # A thread's share of the rest (guided scheduling).
            limit = min(size, max(least, (len(lengths) - number) // threads))
        batch.append(position)
        tokens += lengths[position]
    if batch:
        yield batch


def direct_tokenizer(
    tokenizer: "Tokenizer", prompt: str, preprocess: Callable[[list[str]], Mapping[str, Any]]
) -> QueryTokenizer | None:
    """Return a direct tokenizer of a model's queries, or None if its tokens differ from the model's own on the probes.

    They differ if ``preprocess``, the model's own preprocessing, uses a chat template, expands queries or does not pad.
    """
    inputs = preprocess(list(PROBES))
    names = [name for name, value in inputs.items() if hasattr(value, "numpy")]
    # The call above has set the tokenizer's truncation and padding.
    if not names or not _PARTS.keys() >= set(names) or tokenizer.padding is None:
        return None
    constants = {name: value for name, value in inputs.items() if name not in names}
    direct = QueryTokenizer(copy.deepcopy(tokenizer), prompt, names, constants)
    for texts in (list(PROBES), ["one text"], ["one " * (direct.longest + 8), "longer and shorter than what is cut"]):
        actual, expected = direct.batch(texts), preprocess(texts)
        if not all(np.array_equal(actual[name], expected[name].numpy()) for name in names):
            return None
    return direct
