"""Prompts for a model that answers, by the same ``PromptBuilder`` that serves users."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from udr.data import Kind, Task, Template, formatting
from udr.errors import ConfigError, TooLongError
from udr.models import Message, TokenCounter, load_tokenizer
from udr.prompts import Format, Layout, Order, PromptBuilder
from udr.retrieval import RetrievedDemonstration
from udr.types import Json, Row

_BYTES_PER_TOKEN = 3.0
"""Fewer than common tokenizers have in most languages, so that an estimate is rather too high."""

BUDGET = "--budget N of udr evaluate, elsewhere --set feedback.budget=N"
"""The options that set how many tokens a prompt and its answer may have, as errors name them."""


class AnswerForm(StrEnum):
    """The form in which a model is asked to answer."""

    TEXT = "text"
    """As the demonstrations do."""

    JSON = "json"
    """As the JSON object ``{"answer": ...}``."""

    SCHEMA = "schema"
    """As that object, by a JSON schema that the server enforces; for labels and choices, one of them."""


def estimated_tokens(text: str) -> int:
    """Return an estimate of a text's tokens: one for three bytes of its UTF-8."""
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / _BYTES_PER_TOKEN)


class EstimatedTokens:
    """Counts tokens by an estimate, for models whose tokenizer is not known."""

    name, fingerprint = "estimate", "3 bytes per token"

    def count(self, text: str) -> int:
        """Return an estimate of a text's tokens."""
        return estimated_tokens(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSettings:
    """How the prompts of a model that answers are built; see ``PromptBuilder``.

    Attributes:
        layout: where chat messages show the demonstrations.
        list_options: list the labels or choices after the instruction.
        budget: tokens of prompt and answer together.
        tokenizer: the model's, which counts them; None estimates.
        message_tokens: tokens of each chat message beside its content, if the tokenizer has no chat template.
        form: the form in which the model is asked to answer.
    """

    layout: Layout = Layout.TURNS
    list_options: bool = False
    budget: int = 8192
    tokenizer: str | None = None
    message_tokens: int = 4
    form: AnswerForm = AnswerForm.TEXT

    @staticmethod
    def read(*, layout: str, form: str, budget: int, list_options: bool, tokenizer: str | None) -> "PromptSettings":
        """Return the settings of options.

        Raises:
            ConfigError: one is invalid.
        """
        for option, value, choices in (("layout", layout, Layout), ("answer-form", form, AnswerForm)):
            if value not in list(choices):
                raise ConfigError(f"--{option} must be one of {', '.join(choices)}; found {value!r}")
        if budget < 1:
            raise ConfigError(f"--budget must be at least 1 token, found {budget}")
        return PromptSettings(
            layout=Layout(layout), form=AnswerForm(form), budget=budget, list_options=list_options, tokenizer=tokenizer
        )

    def to_json(self) -> dict[str, Json]:
        """Return the settings, on which answers depend."""
        return {**asdict(self), "layout": self.layout.value, "form": self.form.value}


@dataclass(frozen=True, slots=True)
class BuiltPrompt:
    """A prompt as a server takes it, and the ids of the demonstrations that it shows, in this order."""

    prompt: str | tuple[Message, ...]
    shown: tuple[str, ...]


class PromptWriter:
    """Builds the prompts of one model.

    Args:
        settings: how.
        format: text or chat messages.

    Raises:
        ModelError: the tokenizer cannot be loaded.
    """

    def __init__(self, settings: PromptSettings, format: Format) -> None:
        self._settings, self._format = settings, format
        counter: TokenCounter = EstimatedTokens()
        if settings.tokenizer is not None:
            counter = load_tokenizer(settings.tokenizer)
        self._counter = counter

    def build(
        self, task: Task, query: Row, rows: Sequence[Row], order: Order, seed: int, max_tokens: int
    ) -> BuiltPrompt:
        """Return the prompt of a query.

        Args:
            task: the task.
            query: the row to answer.
            rows: the demonstrations, the best first; those that do not fit are left out.
            order: in which they are shown.
            seed: of the order ``shuffle``.
            max_tokens: of the answer.

        Raises:
            TooLongError: the query does not fit.
        """
        settings, chat = self._settings, self._format is Format.MESSAGES
        builder = PromptBuilder(
            self._counter,
            settings.budget,
            min(max_tokens, settings.budget - 1),
            order=order,
            seed=seed if order is Order.SHUFFLE else 0,
            layout=settings.layout if chat else Layout.TURNS,
            message_tokens=settings.message_tokens if chat else 0,
            list_options=settings.list_options,
        )
        if settings.form is not AnswerForm.TEXT:
            rows = [_in_json(task, row) for row in rows]
            lead = task.output.source.partition("{target}")[0]
            instruction = f'{task.instruction}\nAnswer as JSON: {{"answer": "..."}}'
            task = replace(task, instruction=instruction, output=Template(f"{lead}{{target}}"))
        try:
            built = builder.build(
                task,
                formatting.query_fields(task, query),
                [_retrieved(task, row, len(rows) - n) for n, row in enumerate(rows)],
                self._format,
            )
        except TooLongError as error:
            raise TooLongError(f"task {task.name!r}, row {query.id!r}: {error} ({BUDGET})") from error
        shown = tuple(demonstration.id for demonstration in built.demonstrations)
        return BuiltPrompt(built.messages or () if chat else str(built.text), shown)


def _retrieved(task: Task, row: Row, nearness: int) -> RetrievedDemonstration:
    """Return a row as the builder takes it; earlier ones are nearer."""
    return RetrievedDemonstration(
        id=row.id,
        task=task.name,
        similarity=float(nearness),
        rank=0,
        input=row.input,
        target=row.target,
        text=formatting.demonstration_text(task, row),
    )


def _in_json(task: Task, row: Row) -> Row:
    """Return a row whose target is its answer as JSON."""
    answer = task.verbalizer.get(row.target, row.target)
    return replace(row, target=json.dumps({"answer": answer}, ensure_ascii=False))


def answer_options(task: Task, row: Row) -> dict[str, str]:
    """Return the texts of a row's possible answers, as the model reads them, by target; none for generation."""
    if task.kind is Kind.GENERATION:
        return {}
    return {target: task.verbalizer.get(target, target) for target in formatting.targets(task, row)}


def form_fields(task: Task, row: Row, form: AnswerForm) -> dict[str, Json]:
    """Return the fields of a request's body that ask for a form of answer."""
    if form is AnswerForm.TEXT:
        return {}
    if form is AnswerForm.JSON:
        return {"response_format": {"type": "json_object"}}
    options: list[Json] = list(answer_options(task, row).values())
    answer: dict[str, Json] = {"type": "string", **({"enum": options} if options else {})}
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {"answer": answer},
        "required": ["answer"],
        "additionalProperties": False,
    }
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    }
