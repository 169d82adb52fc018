"""Rows by whether their long texts hang together, as a language model in this process reads them."""

from collections.abc import Callable, Sequence

from udr.data import FEWEST_SENTENCES, longest_text, sentences_of
from udr.models import LEAST_JOINT, LEAST_ORDER, TextLM, coherence
from udr.types import Row
from udr_training.pool.scores import Score

_MEANING = (
    "by how much a text's gain from the order of its sentences, or that of its part that gains least from what "
    "precedes, is above its bound, in nats a token; 1 for rows of fewer than 8 sentences"
)
_BATCH = 32


def coherence_score(rows: Sequence[Row], lm: TextLM, on_done: Callable[[int], None] = lambda _: None) -> Score:
    """Score rows by the coherence of their longest field.

    Args:
        rows: the pool, in its file's order.
        lm: the language model; it has to know the rows' language.
        on_done: called with the number of rows measured, now and then.
    """
    texts = [sentences_of(longest_text(row)) for row in rows]
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
