"""Whether a long text hangs together: what a language model gains from its order, and from what precedes each part.

After the measures by language model of LongWanjuan (Lv et al., 2024, arXiv 2402.13583). A text gains if it is likelier
in its own order than with its sentences shuffled, and if each part of it is likelier after the part before than alone.
Both compare a text with itself, so that easy texts do not pass for coherent ones.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from udr.data import FEWEST_SENTENCES
from udr.errors import MissingExtraError, optional_import

LM_GROUP = "udr.text_lm"
"""The entry-point group of what loads a ``TextLM`` by its name and device."""

LEAST_ORDER, LEAST_JOINT = 0.0, 0.0
"""The gains, in nats a token, below which a text is chaotic, and seems to be several that were joined."""

_WINDOW, _FEWEST_APART, _LONGEST = 2, 3, 1_024


class TextLM(Protocol):
    """A language model that tells how likely each token of texts is."""

    @property
    def fingerprint(self) -> str:
        """A hash of the model's files."""

    @property
    def context(self) -> int:
        """The longest sequence of the model, in tokens, with the one before a text."""

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a part of a text."""

    def token_log_likelihoods(self, texts: Sequence[tuple[int, ...]]) -> list[NDArray[np.float64]]:
        """Return the log-likelihood of each token of each text after those before it, natural logarithm."""


def load_text_lm(name: str, device: str | None = None) -> TextLM:
    """Load the language model that reads long texts.

    Args:
        name: a hub name, a path, or ``package:NAME``.
        device: ``cpu`` (None), ``cuda``, ...

    Raises:
        MissingExtraError: the extra ``training`` is not installed.
        ModelError: there is no such model.
    """
    needed = "a language model in this process, for --text-lm,"
    # Not imported: the core has no language models, another package does.
    entry = next(iter(entry_points(group=LM_GROUP)), None)
    if entry is None:
        raise MissingExtraError(needed, "training")
    with optional_import(needed, "training"):
        load = entry.load()
    return cast(TextLM, load(name, device or "cpu"))


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
    longest = min(_LONGEST, lm.context - 1)
    parts = [_fitting([lm.tokens(_spaced(sentence)) for sentence in text], longest) for text in texts]
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


def _fitting(parts: Sequence[tuple[int, ...]], longest: int) -> list[tuple[int, ...]]:
    """Return the first sentences, as many as have the most tokens that are read; very long ones are cut to fit."""
    ends = np.cumsum([len(part) for part in parts])
    if (fitting := int((ends <= longest).sum())) >= FEWEST_SENTENCES:
        return list(parts[:fitting])
    return [part[: longest // FEWEST_SENTENCES] for part in parts[:FEWEST_SENTENCES]]


def _spaced(sentence: str) -> str:
    # Chinese and Japanese have no spaces.
    return f" {sentence}" if sentence[0].isascii() else sentence
