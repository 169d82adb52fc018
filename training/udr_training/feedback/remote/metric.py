"""Feedback by the task's metric of generated answers, 0 to 1: one request per pair and sample."""

import logging
from collections.abc import Sequence

import numpy as np

from udr.errors import FeedbackError
from udr.types import Json
from udr_training.answering import (
    MORE_TOKENS,
    Api,
    Parsing,
    PromptSettings,
    Question,
    Reply,
    ServerLM,
    form_fields,
    longest_answer,
    parse_answer,
    without_thoughts,
)
from udr_training.feedback.packing import Likelihoods
from udr_training.feedback.pairs import Pair
from udr_training.feedback.remote.answer_scorer import AnswerScorer
from udr_training.feedback.remote.probes import REPEAT, WORDS, repeat_question, word_row
from udr_training.feedback.scoring import answer_score, as_likelihoods

# The version of the values of answers: scores of other ones are not reused, though the answers are.
_VALUES = 4

_LOG = logging.getLogger(__name__)


class MetricScorer(AnswerScorer):
    """Scores pairs by the metric of their answers; see ``AnswerScorer``.

    Args:
        lm: the server's model.
        prompts: how prompts are built.
        samples: answers per pair, whose mean is the score; several need a temperature above 0.
    """

    dtype = "metric"
    _answers = _unparsable = _cut = 0

    def __init__(self, lm: ServerLM, prompts: PromptSettings, samples: int = 1) -> None:
        super().__init__(lm, prompts, [samples, _VALUES])
        self._samples = samples
        self._stops = lm.api is Api.COMPLETIONS

    def _probe(self) -> list[Question]:
        stop = {"stop": ["\n"]} if self._stops else {}
        return [repeat_question(self._writer, word, 64, **stop) for word in WORDS]

    def _judge(self, replies: Sequence[Reply]) -> None:
        for word, reply in zip(WORDS, replies, strict=True):
            if not without_thoughts(reply.text):
                why = f"the answer ends by {reply.finish!r}" if reply.finish else "the answer is empty"
                raise FeedbackError(f"{self._lm.name} writes no answer: {why}; {MORE_TOKENS}")
            if parse_answer(REPEAT, word_row(word), reply.text).text.casefold().strip(" .") != word:
                raise FeedbackError(
                    f"{self._lm.name} does not follow demonstrations: asked to repeat {word!r}, it writes "
                    f"{reply.text[:40]!r}; a metric of such answers says nothing"
                )

    def _score(self, pairs: Sequence[Pair]) -> list[Likelihoods]:
        """Return the mean metric of each pair's answers, as likelihoods of its options."""
        questions = []
        for pair in pairs:
            rows = (pair.query, pair.demonstration, *pair.context)
            stop: dict[str, Json] = {"stop": [pair.ends]} if self._stops and pair.ends else {}
            fields = {**form_fields(pair.task, pair.query, self._prompts.form), **stop}
            room = longest_answer(pair.task, rows, self._prompts)
            questions += [self._question(pair, room, fields, sample) for sample in range(self._samples)]
        replies = iter(self._lm.ask(questions))
        likelihoods = []
        for pair in pairs:
            own = [next(replies) for _ in range(self._samples)]
            values = [self._value(pair, reply) for reply in own]
            likelihoods.append(as_likelihoods(pair.task, pair.query, float(np.mean(values))))
        return likelihoods

    def _value(self, pair: Pair, reply: Reply) -> float:
        """Return the metric of an answer, 0 to 1."""
        parsed = parse_answer(pair.task, pair.query, reply.text, self._prompts.form, one_line=pair.ends == "\n")
        self._answers += 1
        self._unparsable += parsed.parsing is Parsing.UNPARSABLE
        self._cut += reply.finish == "length"
        return answer_score(pair, parsed.text)

    def report(self) -> None:
        """See ``PairScorer``."""
        super().report()
        if self._unparsable:
            _LOG.warning(
                "%s: %d of %d answers are unparsable, and count as wrong", self.dtype, self._unparsable, self._answers
            )
        if self._cut:
            _LOG.warning("%s: %d of %d answers were cut; %s", self.dtype, self._cut, self._answers, MORE_TOKENS)
