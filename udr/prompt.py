"""The prompt: the demonstrations that fit a token budget, and the query, as text or as chat messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from udr import text
from udr.budget import Draft, fit
from udr.errors import InvalidInputError, TooLongError
from udr.tasks import Task
from udr.tokenizer import TokenCounter
from udr.types import Fields, Json, RetrievedDemonstration


class Format(StrEnum):
    """What a prompt is for."""

    TEXT = "text"
    """One text, that a language model continues with the target."""

    MESSAGES = "messages"
    """Chat messages: the instruction as system, demonstrations as user and assistant turns, the query as user."""


class Message(TypedDict):
    """One chat message, as OpenAI's interface has it."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptDemonstration:
    """A demonstration that the prompt shows.

    Attributes:
        id: the row's id, unique within its task.
        task: the task it belongs to.
        similarity: the encoder's number; higher is nearer.
        rank: its rank among those retrieved, 1 for the nearest.
        tokens: those that it adds to the prompt as it stands with all that are nearer.
    """

    id: str
    task: str
    similarity: float
    rank: int
    tokens: int

    def to_json(self) -> dict[str, Json]:
        """Return its attributes by name."""
        return {
            "id": self.id,
            "task": self.task,
            "similarity": self.similarity,
            "rank": self.rank,
            "tokens": self.tokens,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A prompt that fits its budget: either ``text`` or ``messages``, the other is None.

    Attributes:
        text: the whole prompt; it ends before the space and the target.
        messages: the chat messages.
        tokens: tokens of the text; of messages, those of their contents joined by blank lines. What a chat
            template wraps around each message comes on top: leave room for it in the reserve.
        demonstrations: those that it shows, in the order shown: the nearest last.
    """

    text: str | None = None
    messages: tuple[Message, ...] | None = None
    tokens: int
    demonstrations: tuple[PromptDemonstration, ...]

    def to_json(self) -> dict[str, Json]:
        """Return ``prompt`` or ``messages``, ``tokens`` and ``demonstrations``."""
        body: dict[str, Json] = (
            {"prompt": self.text}
            if self.messages is None
            else {"messages": [{"role": m["role"], "content": m["content"]} for m in self.messages]}
        )
        return body | {"tokens": self.tokens, "demonstrations": [d.to_json() for d in self.demonstrations]}


@dataclass(frozen=True, slots=True)
class PromptBuilder:
    """Builds prompts of at most ``budget - reserve`` tokens.

    Attributes:
        tokenizer: counts tokens, as the language model that will read the prompt does.
        budget: tokens of prompt and answer together.
        reserve: tokens of the budget that are kept for the answer.

    Raises:
        InvalidInputError: the budget is below 1, or the reserve is below 0 or leaves nothing of the budget.
    """

    tokenizer: TokenCounter
    budget: int
    reserve: int = 0

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise InvalidInputError(f"the budget must be at least 1 token, found {self.budget}")
        if not 0 <= self.reserve < self.budget:
            raise InvalidInputError(
                f"the reserve must be at least 0 and below the budget of {self.budget} tokens, found {self.reserve}"
            )

    def build(
        self,
        task: Task,
        input: Fields | str,
        demonstrations: Sequence[RetrievedDemonstration],
        format: Format = Format.TEXT,
    ) -> Prompt:
        """Return the prompt with the nearest demonstrations that fit; exactly ``budget - reserve`` tokens fits.

        From the nearest on, a demonstration is taken when the prompt with it and those taken before it fits;
        one that does not fit is passed over for the next. When none fits, the prompt has none.

        Args:
            task: words the query; its instruction stands at the top.
            input: the query's fields by name; plain text where the task has one field.
            demonstrations: nearest first, as a retriever returns them; of this task or of others.
            format: text or chat messages.

        Raises:
            InvalidInputError: the input does not fit the task.
            TooLongError: the query does not fit, even without demonstrations.
        """
        format = Format(format)
        query = text.query_prompt(task, text.check_input(task, input))
        proposed = [_proposal(task, demonstration, format) for demonstration in demonstrations]
        draft = Draft(self.tokenizer, task.instruction, proposed, query)
        bare, limit = draft.count(()), self.budget - self.reserve
        if bare > limit:
            raise TooLongError(
                f"the prompt needs {bare} tokens without any demonstration, but the budget of {self.budget} less "
                f"the reserve of {self.reserve} allows {limit}; shorten the input or raise the budget"
            )
        taken = fit(draft, bare, limit)
        shown = tuple(reversed(taken))
        return Prompt(
            text=draft.joined(tuple(taken)) if format is Format.TEXT else None,
            messages=_messages(task, [proposed[n] for n in shown], query) if format is Format.MESSAGES else None,
            tokens=bare + sum(taken.values()),
            demonstrations=tuple(_listed(demonstrations[n], taken[n]) for n in shown),
        )


def _listed(demonstration: RetrievedDemonstration, tokens: int) -> PromptDemonstration:
    return PromptDemonstration(
        id=demonstration.id,
        task=demonstration.task,
        similarity=demonstration.similarity,
        rank=demonstration.rank,
        tokens=tokens,
    )


def _proposal(task: Task, demonstration: RetrievedDemonstration, format: Format) -> tuple[str, ...]:
    """Return the parts that a demonstration would add: its text, or a user turn and an assistant turn."""
    return (demonstration.text,) if format is Format.TEXT else _turns(task, demonstration)


def _turns(task: Task, demonstration: RetrievedDemonstration) -> tuple[str, str]:
    """Split a demonstration's text into what a user says and what the assistant answers.

    The answer is the target as the text ends with it: verbalised, and with what follows it in the output
    template, where the demonstration is of this task. Another task's output template is not known here; where
    its text does not end with the bare target, the last line is the answer.
    """
    shown, answer = demonstration.text, demonstration.target
    if demonstration.task == task.name:
        answer = text.output_text(task, answer).removeprefix(task.output.source.partition("{target}")[0])
    if not answer or not shown.endswith(answer):
        answer = shown.rpartition("\n")[2]
    return shown.removesuffix(answer).rstrip(" "), answer


def _messages(task: Task, shown: Sequence[Sequence[str]], query: str) -> tuple[Message, ...]:
    turns = [
        Message(role=role, content=turn)
        for turns in shown
        for role, turn in zip(("user", "assistant"), turns, strict=True)
    ]
    return (Message(role="system", content=task.instruction), *turns, Message(role="user", content=query))
