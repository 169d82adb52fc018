"""Queries to tokens, by the model's tokenizer itself: what is otherwise done around it takes five times as long."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from udr.models.probe_texts import PROBES

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Tokens = Mapping[str, NDArray[np.int64]]
"""What a model reads of a batch, by name: each int64 [texts, longest text]."""

CPU_PADDING = 0.1
"""How much padding pays on a CPU, for each token of text: it costs what text does, and a further batch little.

Queries of several tasks are of such unlike lengths that sorted batches of 32 take twice the time.
"""

AT_ONCE = 4096
"""Texts that are tokenised, and sorted by length, at once: an encoding takes some kilobytes until it is padded."""

_PARTS = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}
"""What models call the parts of an encoding, and what tokenizers call them."""


class QueryTokens:
    """Tokenises queries as a model's own preprocessing does.

    Safe to share between threads: the tokenizer is never set up anew, as libraries do it for every call.

    Args:
        tokenizer: the model's, with its truncation and padding set; it is not changed.
        prompt: what stands before every query.
        names: which of ``_PARTS`` the model reads.
        constants: what else it is given, the same for every text.
    """

    def __init__(
        self, tokenizer: "Tokenizer", prompt: str, names: Sequence[str], constants: Mapping[str, object]
    ) -> None:
        self._tokenizer, self._prompt, self.names, self.constants = copy.deepcopy(tokenizer), prompt, names, constants
        padding = self._tokenizer.padding
        assert padding is not None
        self._left = padding["direction"] == "left"
        self._fill = {"input_ids": padding["pad_id"], "token_type_ids": padding["pad_type_id"], "attention_mask": 0}
        # Padded here, when texts are sorted by length.
        self._tokenizer.no_padding()

    @property
    def longest(self) -> int:
        """The most tokens that the model reads, or 0 where it has no limit."""
        cut = self._tokenizer.truncation
        return int(cut["max_length"]) if cut else 0

    def batches(
        self, texts: Sequence[str], size: int, padding: float, threads: int = 1
    ) -> Iterator[tuple[list[int], Tokens]]:
        """Yield the texts in batches of like length: their places in ``texts``, and their tokens.

        Args:
            texts: the queries, without the prompt.
            size: the most texts in a batch.
            padding: the most padding in a batch, for each token of its texts.
            threads: how many take batches as they fall free; the last ones are small, so that all end together.
        """
        for start in range(0, len(texts), AT_ONCE):
            encodings = self._encodings(texts[start : start + AT_ONCE])
            for places in _like([len(one) for one in encodings], size, padding, threads):
                yield [start + place for place in places], self._padded([encodings[place] for place in places])

    def together(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of texts as one batch, in their order."""
        return self._padded(self._encodings(texts))

    def _encodings(self, texts: Sequence[str]) -> "list[Encoding]":
        return self._tokenizer.encode_batch_fast([self._prompt + text for text in texts])

    def _padded(self, encodings: Sequence["Encoding"]) -> Tokens:
        width = max(len(one) for one in encodings)
        tokens = {name: np.full((len(encodings), width), self._fill[name], dtype=np.int64) for name in self.names}
        for name, rows in tokens.items():
            for row, one in zip(rows, encodings, strict=True):
                row[width - len(one) if self._left else 0 :][: len(one)] = getattr(one, _PARTS[name])
        return tokens


def _like(lengths: Sequence[int], size: int, padding: float, threads: int) -> Iterator[list[int]]:
    """Yield the places of like lengths, shortest first."""
    batch, tokens, most = list[int](), 0, _share(len(lengths), size, threads)
    for number, place in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        wide = lengths[place] * (len(batch) + 1) > (1 + padding) * (tokens + lengths[place])
        if batch and (wide or len(batch) >= most):
            yield batch
            batch, tokens, most = [], 0, _share(len(lengths) - number, size, threads)
        batch.append(place)
        tokens += lengths[place]
    if batch:
        yield batch


def _share(left: int, size: int, threads: int) -> int:
    """Return how many of the texts that are left one thread takes: no more than half of its share (guided scheduling).

    Never one alone where there are more, as each would cost more.
    """
    return size if threads == 1 else min(size, max(2, left // (2 * threads)))


def query_tokens(
    tokenizer: "Tokenizer", prompt: str, preprocess: Callable[[list[str]], Mapping[str, Any]]
) -> QueryTokens | None:
    """Return what tokenises a model's queries directly, or None where that gives other tokens than the model's own way.

    Chat templates, expanded queries, texts that are packed without padding: models have many ways, and the probe
    texts tell whether this one is plain.

    Args:
        tokenizer: the model's.
        prompt: what stands before every query.
        preprocess: the model's own way from queries to what it reads.
    """
    read = preprocess(list(PROBES))
    names = [name for name, value in read.items() if hasattr(value, "numpy")]
    # The call has left the tokenizer cutting and padding as the model wants it.
    if not names or not _PARTS.keys() >= set(names) or tokenizer.padding is None:
        return None
    constants = {name: value for name, value in read.items() if name not in names}
    direct = QueryTokens(tokenizer, prompt, names, constants)
    for texts in (list(PROBES), ["one text"], ["one " * (direct.longest + 8), "longer and shorter than what is cut"]):
        found, expected = direct.together(texts), preprocess(texts)
        if not all(np.array_equal(found[name], expected[name].numpy()) for name in names):
            return None
    return direct
