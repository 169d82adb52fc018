"""What a server is asked before its answers are feedback: to repeat words, and to find a helpful example.

A server that cannot do that gives scores that look plausible. This module is pure, but for the questions.
"""

import math

from udr.data import Kind, Metric, Task, Template
from udr.prompts import Order
from udr.types import Row
from udr_training.answering import PromptWriter, Question, Reply

REPEAT = Task(
    name="probe",
    family="probe",
    kind=Kind.GENERATION,
    instruction="Repeat the word.",
    input=Template("Word: {word}"),
    output=Template("Repeated: {target}"),
    metric=Metric.EXACT_MATCH,
)
WORDS = ("market", "green")
"""The words that a server must repeat; they begin with different letters."""

_SHOWN = ("river", "pencil", "seven", "cloud")
# In nats: a model that repeats words finds the right one much likelier than the other.
_LIKELIER = 2.0
# Listed probabilities may add up to a little more than 1, by rounding.
_MOST = 1.02


def word_row(word: str) -> Row:
    """Return a row of the probe's task."""
    return Row(id=word, input={"word": word}, target=word)


def repeat_question(writer: PromptWriter, word: str, max_tokens: int, **fields: int | bool | list[str]) -> Question:
    """Return the question to repeat a word, after four others."""
    rows = [word_row(shown) for shown in _SHOWN]
    built = writer.build(REPEAT, word_row(word), rows, Order.NEAREST_LAST, 0, max_tokens)
    values = {name: list(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Question(built.prompt, max_tokens, {**values})


def find_problem(first: Reply, second: Reply) -> str | None:
    """Return what is wrong with the log-probabilities of answers that repeat ``WORDS``; None if nothing is."""
    for reply in (first, second):
        if not reply.top:
            return "it returns no log-probabilities of alternatives (logprobs.content[0].top_logprobs)"
        values = [value for _, value in reply.top[0]]
        if len(values) < 2:
            return f"it lists {len(values)} alternatives of a token, and a share needs several"
        if max(values) - min(values) < 1e-6:
            return f"all log-probabilities are {values[0]:.2f}"
        if (total := sum(map(math.exp, values))) > _MOST:
            return f"the probabilities of a token's alternatives add up to {total:.2f}"
        if not reply.text.lstrip().startswith(reply.tokens[0].strip()):
            return f"the answer is {reply.text[:20]!r}, but its first token {reply.tokens[0]!r}"
    one, other = WORDS
    for reply, right, wrong in ((first, one, other), (second, other, one)):
        lead = _log_share(reply, right) - _log_share(reply, wrong)
        if not lead >= _LIKELIER:
            return (
                f"asked to repeat {right!r}, it finds {wrong!r} as likely (by {-lead:.1f} nats more): the numbers are "
                "not those of the answer, or the model is too weak"
            )
    return None


def _log_share(reply: Reply, word: str) -> float:
    """Return the log-probability of the tokens that begin a word; at most that of the last one listed if none does."""
    shares = [math.exp(value) for token, value in reply.top[0] if (text := token.strip()) and word.startswith(text)]
    return math.log(math.fsum(shares)) if shares and math.fsum(shares) > 0 else min(value for _, value in reply.top[0])
