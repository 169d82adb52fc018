"""Mining criteria from a person's preferences, after CritiQ (Guo et al., 2025, arXiv 2502.19279).

A manager proposes criteria, workers judge the person's pairs by each. Those that agree with the person are kept, those
that nearly do are revised, the others dropped and replaced, for some rounds. This module is pure but for what it asks.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from udr.data import Task, formatting
from udr.errors import ConfigError, DataError
from udr.types import Row
from udr_training.answering import MORE_TOKENS, without_thoughts
from udr_training.pool.criteria.judging import Ask, Verdict, judge, majority, say_unreadable, shown
from udr_training.pool.criteria.known import KNOWN, Criterion

_LISTED = re.compile(r"\[.*\]", re.DOTALL)
_EXAMPLES = 3
# The normal quantile of a one-sided bound of 95 %.
_QUANTILE = 1.6449


@dataclass(frozen=True, slots=True)
class Judged:
    """A criterion, and the workers' verdicts on the person's pairs, of which the person preferred the first row."""

    criterion: Criterion
    verdicts: tuple[Verdict, ...]

    @property
    def decided(self) -> int:
        """The pairs for which the criterion prefers a row."""
        return sum(verdict in (Verdict.FIRST, Verdict.SECOND) for verdict in self.verdicts)

    @property
    def agreement(self) -> float:
        """The share of decided pairs in which it agrees with the person; 0 of none."""
        return sum(verdict is Verdict.FIRST for verdict in self.verdicts) / self.decided if self.decided else 0.0

    @property
    def confidence(self) -> float:
        """The lower bound of the agreement; see ``lower_bound``."""
        return lower_bound(self.agreement, self.decided)


@dataclass(frozen=True, kw_only=True, slots=True)
class MiningSettings:
    """How criteria are mined.

    Attributes:
        number: criteria that are judged in a round.
        rounds: at most.
        keep: the agreement of a criterion that is kept; its lower bound must be above 0.5, too.
        revise: the agreement of one that is revised.

    Raises:
        ConfigError: a number is out of range.
    """

    number: int = 8
    rounds: int = 3
    keep: float = 0.75
    revise: float = 0.6

    def __post_init__(self) -> None:
        for name, value in (("criteria", self.number), ("rounds", self.rounds)):
            if value < 1:
                raise ConfigError(f"--{name} must be at least 1, found {value}")
        if not 0.5 < self.keep <= 1:
            raise ConfigError(f"--agreement must be above 0.5 and at most 1, found {self.keep:g}")


@dataclass(frozen=True, slots=True)
class Mined:
    """The criteria that were kept, the surest first, those that were dropped, and the votes of the kept ones."""

    kept: tuple[Judged, ...]
    dropped: tuple[Judged, ...]
    votes: tuple[Verdict, ...] = field(default=())

    @property
    def agreement(self) -> float:
        """The share of all pairs in which the majority of the kept criteria agrees with the person."""
        return sum(vote is Verdict.FIRST for vote in self.votes) / len(self.votes)


def lower_bound(share: float, count: int) -> float:
    """Return the lower end of Wilson's 95 % interval (one-sided) of a share of a count; 0 of none."""
    if not count:
        return 0.0
    square = _QUANTILE**2
    centre = share + square / (2 * count)
    spread = _QUANTILE * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return max(0.0, (centre - spread) / (1 + square / count))


def mine(
    task: Task,
    pairs: Sequence[tuple[Row, Row]],
    manager: Ask,
    worker: Ask,
    settings: MiningSettings = MiningSettings(),
    on_round: Callable[[str], None] = lambda _: None,
) -> Mined:
    """Mine criteria.

    Args:
        task: the rows' task.
        pairs: the better and the worse row of each of the person's preferences.
        manager: asks the model that proposes and revises criteria.
        worker: asks the model that judges pairs.
        settings: how.
        on_round: called with a line about each round, and about replies that could not be read.

    Raises:
        DataError: no criterion agrees with the person.
    """
    kept, dropped = list[Judged](), list[Judged]()
    waiting = _proposed(task, pairs, manager, settings.number, [], on_round)
    revised, verdicts = dict[str, Judged](), list[Verdict]()
    for number in range(1, settings.rounds + 1):
        nearly = list[Judged]()
        for criterion in waiting:
            judged = Judged(criterion, tuple(judge(task, criterion, pairs, worker)))
            verdicts += judged.verdicts
            if (before := revised.pop(criterion.name, None)) is not None and before.agreement > judged.agreement:
                # The revision is worse, and so is a further one likely.
                dropped.append(judged)
                judged = before
            elif judged.agreement >= settings.keep and judged.confidence > 0.5:
                kept.append(judged)
                continue
            elif judged.agreement >= settings.revise:
                nearly.append(judged)
                continue
            dropped.append(judged)
        said = say_unreadable(verdicts)
        on_round(f"round {number}: {len(kept)} kept, {len(nearly)} to revise, {len(dropped)} dropped{said}")
        wanted = settings.number - len(kept) - len(nearly)
        hopeless = all(verdict is Verdict.UNREADABLE for verdict in verdicts)
        if number == settings.rounds or hopeless or (not nearly and wanted < 1):
            dropped += nearly
            break
        revised = {judged.criterion.name: judged for judged in nearly}
        waiting = [_revised(task, pairs, manager, judged) for judged in nearly]
        waiting += _proposed(task, pairs, manager, wanted, [*kept, *nearly, *dropped], on_round) if wanted > 0 else []
        if not waiting:
            break
    if not kept:
        best = max(dropped, key=lambda judged: judged.agreement)
        raise DataError(
            f"no criterion agrees with the pairs; the best of {len(dropped)}, {best.criterion.name!r}, agrees in "
            f"{best.agreement:.0%} of {best.decided} pairs{said}; give more pairs, or a more capable model"
        )
    kept.sort(key=lambda judged: -judged.confidence)
    votes = tuple(map(majority, zip(*(judged.verdicts for judged in kept), strict=True)))
    return Mined(tuple(kept), tuple(dropped), votes)


def _proposed(
    task: Task,
    pairs: Sequence[tuple[Row, Row]],
    manager: Ask,
    number: int,
    tried: Sequence[Judged],
    on_round: Callable[[str], None],
) -> list[Criterion]:
    """Return new criteria: the manager's, or known ones if its reply has too few."""
    names = {judged.criterion.name.casefold() for judged in tried}
    listed = "\n".join(f"- {one.name}: {one.text}" for one in KNOWN)
    judged = "\n".join(f"- {one.criterion.name}: agrees in {one.agreement:.0%}" for one in tried)
    parts = [
        "A person said which of two rows of a task is the better example. Propose criteria that explain the choices.",
        f"Task: {task.instruction}",
        *(_pair(task, pair) for pair in pairs[:_EXAMPLES]),
        f"Criteria that have been used elsewhere:\n{listed}",
        *([f"Criteria that were tried here, and how often they agree with the person:\n{judged}"] if judged else []),
        f"Propose {number} criteria that were not tried here, each judged on its own. Answer with a JSON list of "
        'objects and nothing else: [{"name": "...", "text": "..."}]',
    ]
    (reply,) = manager([formatting.SEPARATOR.join(parts)])
    found = _read_criteria(without_thoughts(reply))
    new = {one.name: one for one in found if one.name.casefold() not in names}
    if len(new) < number:
        why = "" if without_thoughts(reply) else f" (the reply is empty: {MORE_TOKENS})"
        on_round(f"the model proposes {len(new)} of {number} criteria that can be read; known ones fill up{why}")
        new |= {one.name: one for one in KNOWN if one.name not in names | {name.casefold() for name in new}}
    return list(new.values())[:number]


def _revised(task: Task, pairs: Sequence[tuple[Row, Row]], manager: Ask, judged: Judged) -> Criterion:
    """Return a criterion as the manager revises it, by pairs in which it disagrees with the person."""
    wrong = [pair for pair, verdict in zip(pairs, judged.verdicts, strict=True) if verdict is not Verdict.FIRST]
    parts = [
        "A criterion says which of two rows of a task is the better example, but a person does not always agree.",
        f"Task: {task.instruction}",
        f"Criterion: {judged.criterion.name}. {judged.criterion.text}",
        f"It agrees with the person in {judged.agreement:.0%} of the pairs. In these it does not:",
        *(_pair(task, pair) for pair in wrong[:_EXAMPLES]),
        "Revise the text of the criterion so that it agrees. Answer with the new text and nothing else.",
    ]
    (reply,) = manager([formatting.SEPARATOR.join(parts)])
    text = " ".join(without_thoughts(reply).split())
    return Criterion(judged.criterion.name, text or judged.criterion.text)


def _pair(task: Task, pair: tuple[Row, Row]) -> str:
    better, worse = pair
    return f"Better:\n{shown(task, better)}\n\nWorse:\n{shown(task, worse)}"


def _read_criteria(reply: str) -> list[Criterion]:
    """Return the criteria of a reply that can be read."""
    found = _LISTED.search(reply)
    try:
        values = json.loads(found[0]) if found else []
    except ValueError:
        values = []
    texts = [(one.get("name"), one.get("text")) for one in values if isinstance(one, dict)]
    return [
        Criterion(" ".join(name.split()), " ".join(text.split()))
        for name, text in texts
        if isinstance(name, str) and isinstance(text, str) and name.strip() and text.strip()
    ]
