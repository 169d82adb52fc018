"""Feedback by choice: one prompt lists candidates of a query, and the model names those that help most."""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from udr.data import formatting
from udr.errors import FeedbackError
from udr.models import Message
from udr_training.answering import (
    MORE_TOKENS,
    PromptSettings,
    Question,
    Reply,
    ServerLM,
    estimated_tokens,
    without_thoughts,
)
from udr_training.feedback.packing import Likelihoods
from udr_training.feedback.pairs import Pair
from udr_training.feedback.remote.answer_scorer import AnswerScorer
from udr_training.feedback.scoring import as_likelihoods

_LOG = logging.getLogger(__name__)

# Queries whose scores are stored in one commit.
_QUERIES = 16
# Tokens of an answer: each label, and some words around them.
_LABEL_TOKENS, _WORD_TOKENS = 8, 24
# Unlike a plain number, it is neither one of a list in the answer nor one that the prompt has and the answer repeats.
_LABEL = re.compile(r"(?<![^\W_])E(\d{1,4})(?!\d)", re.IGNORECASE)

_SYSTEM = (
    "You choose examples for a language model's prompt. Below are solved examples of a task, labelled [E1], [E2] and "
    "so on, then a new query with its right answer. Name the {picked} examples that would help most to find that "
    "answer, the best first. Answer with their labels only, separated by commas."
)
# The helpful examples of the probe, and others.
_HELPFUL = (
    "Question: How many wheels has a car?\nAnswer type: number",
    "Question: How many days has a week?\nAnswer type: number",
)
_OTHERS = (
    "Question: Who wrote the letter?\nAnswer type: person",
    "Question: Where is the old harbour?\nAnswer type: place",
    "Question: Who painted the ceiling?\nAnswer type: person",
)
_QUERY, _ANSWER = "Question: How many legs has a spider?\nAnswer type:", "number"
# Where its listings show the helpful ones, and how many it must find: any two labels are right for one at most.
_PLACES = ((0, 1), (2, 4), (1, 3), (0, 2))
_RIGHT = 3


@dataclass(frozen=True, slots=True)
class Listing:
    """Candidates in the order in which a prompt lists them, by their positions among a query's."""

    candidates: tuple[int, ...]
    picked: int


def listings(names: Sequence[str], listed: int, picked: int, shuffles: int, seed: str) -> Iterator[Listing]:
    """Yield listings that show each candidate once per shuffle, in parts of about ``listed``.

    Args:
        names: the candidates' ids.
        listed: candidates per listing.
        picked: how many of them are to be named, if there are more.
        shuffles: how often each candidate is listed.
        seed: of the order.
    """
    for shuffle in range(shuffles):
        order = sorted(
            range(len(names)), key=lambda n: hashlib.sha256(json.dumps([seed, shuffle, names[n]]).encode()).digest()
        )
        # Parts of almost equal size: none has a single candidate, unless there is only one.
        parts = max(1, min(round(len(order) / listed), len(order) // 2))
        for part in range(parts):
            candidates = order[part::parts]
            yield Listing(tuple(candidates), max(1, min(picked, len(candidates) - 1)))


def read_numbers(text: str, count: int, picked: int) -> list[int]:
    """Return the first different numbers from 1 to ``count`` whose labels an answer names, at most ``picked``."""
    numbers = [int(number) for number in _LABEL.findall(without_thoughts(text))]
    return list(dict.fromkeys(number for number in numbers if 1 <= number <= count))[:picked]


class RankScorer(AnswerScorer):
    """Scores a query's candidates together; see ``AnswerScorer``.

    A score is the mean over the listings that show the candidate: 1 if it is named first, less if later, 0 if not. An
    answer that names none is left out. A candidate without another answer gets the mean of its query's.

    Args:
        lm: the server's model, asked by chat.
        prompts: the budget.
        listed: candidates per listing.
        picked: how many of them the model names.
        shuffles: how often each candidate is listed.
    """

    dtype = "rank"
    _answers = _unparsable = _cut = _unknown = 0

    def __init__(
        self, lm: ServerLM, prompts: PromptSettings, listed: int = 10, picked: int = 3, shuffles: int = 3
    ) -> None:
        super().__init__(lm, prompts, [listed, picked, shuffles, _SYSTEM])
        self._listed, self._picked, self._shuffles = listed, picked, shuffles

    def batches(self, pairs: Sequence[Pair]) -> Iterator[list[int]]:
        """See ``PairScorer``; the candidates of a query stay together."""
        groups = list(_by_query(pairs).values())
        for start in range(0, len(groups), _QUERIES):
            yield [position for group in groups[start : start + _QUERIES] for position in group]

    def _probe(self) -> list[Question]:
        questions = []
        for places in _PLACES:
            examples = list(_OTHERS)
            for place, helpful in zip(places, _HELPFUL, strict=True):
                examples.insert(place, helpful)
            questions.append(self._list("Give the type of answer.", examples, _QUERY, _ANSWER, len(_HELPFUL)))
        return questions

    def _judge(self, replies: Sequence[Reply]) -> None:
        count = len(_HELPFUL) + len(_OTHERS)
        named = [read_numbers(reply.text, count, len(_HELPFUL)) for reply in replies]
        if empty := next(
            (without_thoughts(reply.text) for reply, numbers in zip(replies, named, strict=True) if not numbers), None
        ):
            raise FeedbackError(
                f"{self._lm.name} names no labels of examples, it writes {empty[:60]!r}; use --kind metric"
            )
        if not all(named):
            raise FeedbackError(
                f"{self._lm.name} writes no answer when it is asked for labels; use --kind metric; {MORE_TOKENS}"
            )
        helpful = [[place + 1 for place in places] for places in _PLACES]
        if sum(sorted(numbers) == right for numbers, right in zip(named, helpful, strict=True)) < _RIGHT:
            raise FeedbackError(
                f"{self._lm.name} does not find the {len(_HELPFUL)} helpful ones of {count} examples: of "
                f"{len(_PLACES)} listings they are {_labels(helpful)}, and the model names {_labels(named)}; use "
                "--kind metric or chat-logprobs"
            )

    def _score(self, pairs: Sequence[Pair]) -> list[Likelihoods]:
        """Return the mean value of each candidate over the listings that show it, as likelihoods of its options."""
        queries = _by_query(pairs)
        shown = list[tuple[list[int], Listing]]()
        for (task, query), positions in queries.items():
            names = [pairs[position].demonstration.id for position in positions]
            for listing in listings(names, self._listed, self._picked, self._shuffles, f"{task}/{query}"):
                shown.append((positions, listing))
        questions = [
            self._listing_question([pairs[positions[n]] for n in listing.candidates], listing.picked)
            for positions, listing in shown
        ]
        values: list[list[float]] = [[] for _ in pairs]
        for (positions, listing), reply in zip(shown, self._lm.ask(questions), strict=True):
            numbers = read_numbers(reply.text, len(listing.candidates), listing.picked)
            self._answers += 1
            if not numbers:
                # The answer says nothing of its candidates.
                self._unparsable += 1
                self._cut += reply.finish == "length"
                continue
            for place, candidate in enumerate(listing.candidates, start=1):
                value = 1 - numbers.index(place) / listing.picked if place in numbers else 0.0
                values[positions[candidate]].append(value)
        likelihoods = []
        for pair, own in zip(pairs, values, strict=True):
            self._unknown += not own
            known = own or [value for n in queries[pair.task.name, pair.query.id] for value in values[n]]
            likelihoods.append(as_likelihoods(pair.task, pair.query, sum(known) / len(known) if known else 0.0))
        return likelihoods

    def _listing_question(self, pairs: Sequence[Pair], picked: int) -> Question:
        task, query = pairs[0].task, pairs[0].query
        examples = [formatting.demonstration_text(task, pair.demonstration) for pair in pairs]
        answer = formatting.output_text(task, query.target).removeprefix(task.output.source.partition("{target}")[0])
        prompt = formatting.query_prompt(task, query.input, query.choices)
        about = f"task {task.name!r}, query {query.id!r} with candidates {', '.join(p.demonstration.id for p in pairs)}"
        question = replace(self._list(task.instruction, examples, prompt, answer, picked), about=about)
        if (tokens := sum(map(estimated_tokens, question.texts)) + question.max_tokens) > self._prompts.budget:
            raise FeedbackError(
                f"task {task.name!r}, query {query.id!r}: a listing of {len(pairs)} candidates has about {tokens} "
                f"tokens, but feedback.budget is {self._prompts.budget}; lower feedback.listed, or raise the budget"
            )
        return question

    def _list(self, instruction: str, examples: Sequence[str], query: str, answer: str, picked: int) -> Question:
        labelled = [f"[E{number}]\n{text}" for number, text in enumerate(examples, start=1)]
        content = formatting.SEPARATOR.join(
            [
                f"Task: {instruction}",
                *labelled,
                f"[Query]\n{query} {answer}",
                f"The {picked} most helpful of {len(examples)}:",
            ]
        )
        messages = Message(role="system", content=_SYSTEM.format(picked=picked)), Message(role="user", content=content)
        return Question(messages, _WORD_TOKENS + _LABEL_TOKENS * picked)

    def report(self) -> None:
        """See ``PairScorer``."""
        if self._unparsable:
            message = "%s: %d of %d answers name no example, and are left out%s"
            why = f"; {self._cut} of them were cut; {MORE_TOKENS}" if self._cut else ""
            _LOG.warning(message, self.dtype, self._unparsable, self._answers, why)
        if self._unknown:
            _LOG.warning(
                "%s: %d candidates have no other answer, and get the mean of their query", self.dtype, self._unknown
            )


def _labels(listings: Sequence[Sequence[int]]) -> str:
    return ", ".join("+".join(f"E{number}" for number in numbers) for numbers in listings)


def _by_query(pairs: Sequence[Pair]) -> dict[tuple[str, str], list[int]]:
    """Return the positions of each query's pairs, by its task and id."""
    positions: dict[tuple[str, str], list[int]] = {}
    for position, pair in enumerate(pairs):
        positions.setdefault((pair.task.name, pair.query.id), []).append(position)
    return positions
