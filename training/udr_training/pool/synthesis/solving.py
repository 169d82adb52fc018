"""Solutions of a language model: how it is asked for the rest of one, and how its text is read."""

from collections.abc import Callable, Sequence
from itertools import chain

from udr.data import Kind, Metric, Task, formatting
from udr.errors import ConfigError
from udr.models import Message
from udr.types import Json, Row
from udr_training.answering import (
    Api,
    Question,
    Reply,
    ServerLM,
    estimated_tokens,
    final_answer,
    parse_answer,
)
from udr_training.pool.synthesis.search import Draw, Drawn

ANSWER = "####"
"""What stands before the final answer, in a line of its own."""

HOW = f"Work step by step, one step in a line, and end with a line that has only {ANSWER} and the final answer."
_REST = "A solution begins with the steps below. Write only the steps that follow them, down to the final answer."
_TEMPERATURE = 0.8
_METRICS = (Metric.EXACT_MATCH, Metric.FINAL_ANSWER)


def check_task(task: Task) -> None:
    """Raise ``ConfigError`` if the final answers of a task cannot be checked."""
    if task.kind is not Kind.GENERATION or task.metric not in _METRICS:
        raise ConfigError(
            f"the answers of task {task.name!r} cannot be checked: it has kind {task.kind} and metric {task.metric}; "
            f"solutions need a generation task with the metric {' or '.join(_METRICS)}"
        )


def is_worked(task: Task, row: Row) -> bool:
    """Return whether a row has a worked solution already: steps before its final answer."""
    return task.metric is Metric.FINAL_ANSWER and bool(row.target.partition(ANSWER)[0].strip()) and ANSWER in row.target


def read_solution(task: Task, row: Row, prefix: Sequence[str], text: str) -> tuple[tuple[str, ...], bool]:
    """Return the steps of a solution after those of a prefix, and whether its final answer is right.

    The last step is the final answer's line; it is empty, and the solution wrong, where there is no final answer. An
    answer without a step before it is no solution, and wrong as well. A prefix that the model repeats is left out.
    """
    body, found, answer = parse_answer(task, row, text, one_line=False).text.rpartition(ANSWER)
    lines = list(filter(None, map(str.strip, (body if found else answer).splitlines())))
    if prefix and lines[: len(prefix)] == list(prefix):
        lines = lines[len(prefix) :]
    answer = next(filter(None, map(str.strip, answer.splitlines())), "") if found else ""
    if not answer:
        return (*lines, ""), False
    last = f"{ANSWER} {answer}"
    is_worked_out = bool(prefix or lines)
    return (*lines, last), is_worked_out and final_answer(last, row.references or (row.target,)) == 1


class Solver:
    """Draws solutions of questions from a server's model, none twice.

    Args:
        task: the task of the questions.
        rows: the questions, with their final answers.
        examples: rows with worked solutions, which prompts show.
        lm: the model.
        max_tokens: the longest solution.
        on_done: called with the number of solutions drawn so far, now and then.

    Attributes:
        cut: the solutions that were longer.
        bare: those that are an answer without a step.
    """

    def __init__(
        self,
        task: Task,
        rows: Sequence[Row],
        examples: Sequence[Row],
        lm: ServerLM,
        max_tokens: int,
        on_done: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._task, self._rows, self._examples = task, rows, examples
        self._lm, self._max_tokens, self._on_done = lm, max_tokens, on_done
        self._before = self.cut = self.bare = 0

    def draw(self, draws: Sequence[Draw]) -> list[Drawn]:
        """Return what is drawn; errors as ``ServerLM.ask``."""
        before = self._before
        replies = self._lm.ask([self._question(draw) for draw in draws], lambda done: self._on_done(before + done))
        self._before += len(draws)
        return [self._drawn(draw, reply) for draw, reply in zip(draws, replies, strict=True)]

    def _drawn(self, draw: Draw, reply: Reply) -> Drawn:
        steps, right = read_solution(self._task, self._rows[draw.question], draw.prefix, reply.text)
        self.cut += reply.finish == "length"
        self.bare += not draw.prefix and len(steps) == 1 and bool(steps[0])
        tokens = reply.completion_tokens
        return Drawn(steps, right, estimated_tokens(reply.text) if tokens is None else tokens)

    def _question(self, draw: Draw) -> Question:
        row, chat = self._rows[draw.question], self._lm.api is Api.CHAT
        fields: dict[str, Json] = {"temperature": _TEMPERATURE, **({} if chat else {"stop": [formatting.SEPARATOR]})}
        prompt = self._messages(row, draw.prefix) if chat else self._text(row, draw.prefix)
        about = f"task {self._task.name!r}, row {row.id!r}"
        return Question(prompt, self._max_tokens, fields, draw.sample, about=about)

    def _messages(self, row: Row, prefix: Sequence[str]) -> tuple[Message, ...]:
        """Return a chat that asks for a solution; many servers cannot go on in an answer, so it asks in words."""
        task = self._task
        shown = [
            (formatting.input_text(task, example.input), formatting.output_text(task, example.target))
            for example in self._examples
        ]
        asked = formatting.input_text(task, row.input)
        if prefix:
            asked = formatting.SEPARATOR.join([asked, _REST, "\n".join(prefix)])
        return (
            Message(role="system", content=self._instruction),
            *chain.from_iterable(
                (Message(role="user", content=question), Message(role="assistant", content=solution))
                for question, solution in shown
            ),
            Message(role="user", content=asked),
        )

    def _text(self, row: Row, prefix: Sequence[str]) -> str:
        """Return a text that the solution continues."""
        shown = [formatting.demonstration_text(self._task, example) for example in self._examples]
        text = formatting.prompt(self._instruction, shown, formatting.query_prompt(self._task, row.input))
        return text + "".join(f"{' ' if not n else ''}{step}\n" for n, step in enumerate(prefix))

    @property
    def _instruction(self) -> str:
        return f"{self._task.instruction}\n{HOW}"
