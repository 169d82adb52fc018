"""What the evaluation after a training will cost (``udr train --dry-run``): measured on a few of its test rows."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from udr.data import Collection, sample
from udr.types import Json
from udr_training.answering import is_remote
from udr_training.config import RunConfig
from udr_training.evaluation.after_training import SHOTS, tested, untrained
from udr_training.evaluation.answers import AnsweringLM, LocalModel
from udr_training.evaluation.retrievers import Shown
from udr_training.feedback import load_local

# Test rows of a task that are answered.
_ROWS = 4


@dataclass(frozen=True, slots=True)
class Forecast:
    """The plan of the evaluation after a training.

    Attributes:
        rows: the number of test rows, by task.
        retrievers: how many are compared.
        seconds: the time of the language model's answers.
    """

    rows: Mapping[str, int]
    retrievers: int
    seconds: float

    def to_json(self) -> dict[str, Json]:
        """Return the plan as JSON."""
        return asdict(self)

    def line(self, duration: str) -> str:
        """Return the plan as a line for people, with its seconds in words."""
        rows = ", ".join(f"{task} {count}" for task, count in self.rows.items())
        total = self.retrievers * sum(self.rows.values())
        return (
            f"evaluation: {total:,} answers, to the test rows of each task ({rows}) with each of {self.retrievers} "
            f"retrievers, {duration}, plus the encoding of the pools"
        )


def forecast(
    collection: Collection, config: RunConfig, rows: int, load: Callable[[], AnsweringLM] | None = None
) -> Forecast | None:
    """Measure what ``prove`` would cost, of which these are the arguments; None if it would not evaluate.

    ``load`` returns the language model, if it is needed elsewhere, too.
    """
    folders = tested(collection)
    if not folders or is_remote(config.feedback.lm):
        return None
    lm = load_local(config.feedback) if load is None else load()
    counts, seconds = dict[str, int](), 0.0
    for name, folder in folders.items():
        queries = sample(folder.rows("test"), rows, config.seed)
        pool = folder.pool(config.candidates.pool or None, config.seed)
        draw, few = random.Random(config.seed), queries[:_ROWS]
        shown = [Shown(draw.sample(pool.rows, min(SHOTS, len(pool)))) for _ in few]
        answering = LocalModel(lm).answering(pool)
        # A warm-up, which also reads the pool: that takes the same time for all rows as for these.
        answering(few[:1], shown[:1], SHOTS, lambda _: None)
        began = time.monotonic()
        answering(few, shown, SHOTS, lambda _: None)
        counts[name] = len(queries)
        seconds += len(queries) * (time.monotonic() - began) / len(few)
    retrievers = len(untrained(config)) + 1
    return Forecast(counts, retrievers, retrievers * seconds)
