"""Whether a long text hangs together: what a language model gains from its order, and from what precedes each part.

After the measures by language model of LongWanjuan (Lv et al., 2024, arXiv 2402.13583). A text gains if it is likelier
in its own order than with its sentences shuffled, and if each part of it is likelier after the part before than alone.
Both compare a text with itself, so that easy texts do not pass for coherent ones.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from udr.data import FEWEST_SENTENCES, sentences_of, value_text
from udr.types import Row
from udr_training.pool.scores import Score

LEAST_ORDER, LEAST_JOINT = 0.0, 0.0
"""The gains, in nats a token, below which a text is chaotic, and seems to be several that were joined."""

_WINDOW, _FEWEST_APART, _LONGEST = 2, 3, 1_024
_MEANING = (
    "by how much a text's gain from the order of its sentences, or that of its part that gains least from what "
    "precedes, is above its bound, in nats a token; 1 for rows of fewer than 8 sentences"
)
_BATCH = 32


class TextLM(Protocol):
    """A language model that tells how likely each token of texts is."""

    @property
    def fingerprint(self) -> str:
        """A hash of the model's files."""

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a part of a text."""

    def token_log_likelihoods(self, texts: Sequence[tuple[int, ...]]) -> list[NDArray[np.float64]]:
        """Return the log-likelihood of each token of each text after those before it, natural logarithm."""


@dataclass(frozen=True, slots=True)
class Coherence:
    """What one text gains, in nats a token.

    Attributes:
        order: by its sentences' own order over random ones; about 0 if it is random.
        joint: by what precedes it, of the two sentences in a row that gain least, away from the start; about 0 if they
            begin another text.
        gain: the mean of these gains.
    """

    order: float
    joint: float
    gain: float

    @property
    def kind(self) -> str:
        """``chaotic``, ``aggregated`` (of several texts), or ``holistic``."""
        if self.order < LEAST_ORDER:
            return "chaotic"
        return "aggregated" if self.joint < LEAST_JOINT else "holistic"


def coherence(lm: TextLM, texts: Sequence[Sequence[str]], shuffles: int = 1, seed: int = 0) -> list[Coherence]:
    """Measure texts, each given as its sentences, of which there are at least ``FEWEST_SENTENCES``.

    Args:
        lm: the language model.
        texts: their sentences.
        shuffles: random orders that a text is compared with.
        seed: of these orders; a text's do not depend on the other texts.
    """
    parts = [_fitting([lm.tokens(_spaced(sentence)) for sentence in text]) for text in texts]
    orders, windows = [_orders(text, shuffles, seed) for text in parts], [_windows(len(text)) for text in parts]
    asked = [
        tuple(token for part in chosen for token in part)
        for text, own, cuts in zip(parts, orders, windows, strict=True)
        for chosen in (text, *own, *(text[cut : cut + _WINDOW] for cut in cuts))
    ]
    distinct = list(dict.fromkeys(asked))
    known = dict(zip(distinct, lm.token_log_likelihoods(distinct), strict=True))
    found = map(known.__getitem__, asked)
    return [
        _coherence(text, next(found), [next(found) for _ in own], {cut: next(found) for cut in cuts})
        for text, own, cuts in zip(parts, orders, windows, strict=True)
    ]


def _coherence(
    text: Sequence[Sequence[int]],
    whole: NDArray[np.float64],
    shuffled: Sequence[NDArray[np.float64]],
    alone: dict[int, NDArray[np.float64]],
) -> Coherence:
    starts = np.cumsum([0, *map(len, text)])
    order = float(np.mean([whole.sum() - other.sum() for other in shuffled])) / len(whole)
    gains = [
        float(whole[starts[cut] : starts[cut + _WINDOW]].sum() - own.sum()) / len(own) for cut, own in alone.items()
    ]
    return Coherence(order, min(gains), float(np.mean(gains)))


def _orders(text: Sequence[tuple[int, ...]], shuffles: int, seed: int) -> list[list[tuple[int, ...]]]:
    draw = random.Random(f"{seed} {text}")
    return [draw.sample(text, len(text)) for _ in range(shuffles)]


def _windows(count: int) -> range:
    return range(_FEWEST_APART, count - _WINDOW + 1)


def _fitting(parts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the first sentences, as many as have the most tokens that are read; very long ones are cut to fit."""
    ends = np.cumsum([len(part) for part in parts])
    if (fitting := int((ends <= _LONGEST).sum())) >= FEWEST_SENTENCES:
        return list(parts[:fitting])
    return [part[: _LONGEST // FEWEST_SENTENCES] for part in parts[:FEWEST_SENTENCES]]


def _spaced(sentence: str) -> str:
    # Chinese and Japanese have no spaces.
    return f" {sentence}" if sentence[0].isascii() else sentence


def coherence_score(rows: Sequence[Row], lm: TextLM, on_done: Callable[[int], None] = lambda _: None) -> Score:
    """Score rows by the coherence of their longest field.

    Args:
        rows: the pool, in its file's order.
        lm: the language model; it has to know the rows' language.
        on_done: called with the number of rows measured, now and then.
    """
    texts = [sentences_of(max(map(value_text, row.input.values()), key=len, default="")) for row in rows]
    long = [position for position, text in enumerate(texts) if len(text) >= FEWEST_SENTENCES]
    values, notes = [1.0] * len(rows), dict[int, str]()
    for first in range(0, len(long), _BATCH):
        batch = long[first : first + _BATCH]
        for position, found in zip(batch, coherence(lm, [texts[n] for n in batch], shuffles=2), strict=True):
            values[position] = round(min(found.order - LEAST_ORDER, found.joint - LEAST_JOINT), 6)
            if values[position] < 0:
                notes[position] = found.kind
        on_done(first + len(batch))
    return Score(
        name="coherence",
        meaning=_MEANING,
        values=tuple(values),
        flagged_below=0.0,
        notes=notes,
        settings={"lm": lm.fingerprint, "long_rows": len(long)},
    )
