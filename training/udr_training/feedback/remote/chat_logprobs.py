"""Feedback by the alternatives of an answer's first tokens: the share of the gold option, in one request per pair."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udr.data import formatting
from udr.errors import FeedbackError
from udr_training.answering import Question, Reply, answer_options
from udr_training.feedback.packing import Likelihoods
from udr_training.feedback.pairs import Pair
from udr_training.feedback.remote.answer_scorer import AnswerScorer
from udr_training.feedback.remote.probes import WORDS, find_problem, repeat_question

_LOG = logging.getLogger(__name__)

# The most that OpenAI's interface allows; --lm-set body.top_logprobs=N asks for fewer.
_FIELDS: dict[str, Any] = {"logprobs": True, "top_logprobs": 20}
# Tokens of an answer where options begin alike.
_LONGER = 6
# In place of a probability of 0.
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Shares:
    """The probabilities of options as the beginning of an answer.

    Attributes:
        values: [num_options]; an option that no listed token begins has the most that it can have.
        outside: the probability of answers that begin like no option, or with no listed token.
        unlisted: the positions of the options that no listed token begins.
    """

    values: NDArray[np.float64]
    outside: float
    unlisted: tuple[int, ...]


def option_shares(options: Sequence[str], reply: Reply) -> Shares:
    """Return the probabilities of options from the alternatives of an answer's first tokens.

    A token that begins one option counts for it. A token that begins several, and that the model wrote, is followed to
    the next token, or counts for the option that it is if the answer ends there; one that it did not write counts for
    them in equal parts. White space and case do not count, unless options differ only by case. Without alternatives,
    the options have equal shares, all of them outside.
    """
    folded = [option.strip().casefold() for option in options]
    distinct = len(set(folded)) == len(folded)
    names = folded if distinct else [option.strip() for option in options]
    values = np.zeros(len(names))
    # An answer that was cut, of which a longer option may have been the rest, is no option.
    answer = None if reply.finish == "length" else (reply.text.casefold() if distinct else reply.text).strip()

    def follow(position: int, prefix: str, share: float, among: Sequence[int]) -> None:
        """Add the share of an answer that begins with ``prefix``, from the alternatives at a position."""
        for token, value in reply.top[position]:
            text = (prefix + (token.casefold() if distinct else token)).lstrip()
            begun = _begun(text, names, among)
            part = share * math.exp(value)
            written = token == reply.tokens[position]
            if written and position + 1 < len(reply.top) and (len(begun) > 1 or not text):
                follow(position + 1, text, part, begun or among)
            else:
                if written and text.rstrip() == answer:
                    begun = [option for option in begun if names[option] == answer] or begun
                for option in begun:
                    values[option] += part / len(begun)

    if reply.top:
        follow(0, "", 1.0, range(len(names)))
    outside = max(0.0, 1.0 - float(values.sum()))
    # An option without a listed token has at most the share of the last one listed, and of what is left.
    last = min((value for at in reply.top[:1] for _, value in at), default=0.0)
    most = max(_LEAST, min(math.exp(last), outside))
    unlisted = tuple(int(option) for option in np.flatnonzero(values == 0))
    values[values == 0] = most
    return Shares(np.maximum(values, _LEAST), outside, unlisted)


def _begun(text: str, names: Sequence[str], among: Sequence[int]) -> list[int]:
    """Return the options that an answer beginning with ``text`` can be."""
    if not text:
        return []
    if open_ones := [option for option in among if names[option].startswith(text)]:
        return open_ones
    # The answer goes on after an option: by a full stop, the end, or in another word.
    ended = [option for option in among if text.startswith(names[option]) and not text[len(names[option])].isalnum()]
    return [max(ended, key=lambda option: len(names[option]))] if ended else []


class ChatLogprobs(AnswerScorer):
    """Scores pairs of classification and multiple-choice tasks by ``top_logprobs``; see ``AnswerScorer``."""

    dtype = "chat-logprobs"
    _outside = 0.0
    _pairs = _unlisted = _silent = 0

    def _probe(self) -> list[Question]:
        return [repeat_question(self._writer, word, 4, **_FIELDS) for word in WORDS]

    def _judge(self, replies: Sequence[Reply]) -> None:
        first, second = replies
        if problem := find_problem(first, second):
            raise FeedbackError(
                f"{self._lm.name} returns no usable log-probabilities: {problem}; use --kind metric or rank"
            )

    def _score(self, pairs: Sequence[Pair]) -> list[Likelihoods]:
        """Return the log-probabilities of the options of each pair, as likelihoods of one token."""
        options = [tuple(answer_options(pair.task, pair.query).values()) for pair in pairs]
        questions = [
            self._question(pair, 1 if _differ_at_once(names) else _LONGER, _FIELDS)
            for pair, names in zip(pairs, options, strict=True)
        ]
        likelihoods = []
        for pair, names, reply in zip(pairs, options, self._lm.ask(questions), strict=True):
            shares = option_shares(names, reply)
            self._pairs += 1
            self._silent += not any(reply.top[:1])
            self._outside += shares.outside
            self._unlisted += formatting.gold(pair.task, pair.query) in shares.unlisted
            likelihoods.append(Likelihoods(np.log(shares.values), (1,) * len(names)))
        return likelihoods

    def report(self) -> None:
        """See ``PairScorer``."""
        super().report()
        if self._pairs:
            message = (
                "%s: %.1f %% of the probability is outside the options' listed tokens, on average; the gold option is "
                "outside in %d of %d pairs, whose scores are at most what is left"
            )
            _LOG.warning(message, self.dtype, 100 * self._outside / self._pairs, self._unlisted, self._pairs)
        if self._silent:
            message = "%s: %d of %d answers list no alternatives (top_logprobs), and give all options the same share"
            _LOG.warning(message, self.dtype, self._silent, self._pairs)


def _differ_at_once(options: Sequence[str]) -> bool:
    """Return whether the options' first characters differ, so that the first token tells them apart."""
    return len({option.strip().casefold()[:1] for option in options}) == len(options)
