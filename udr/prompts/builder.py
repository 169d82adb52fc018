"""The prompt: the demonstrations that fit a token budget, and the query, as text, as chat messages or as records."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace

from udr.data import Task, formatting
from udr.errors import InvalidInputError, TooLongError
from udr.models import Message, TokenCounter
from udr.prompts import special_tokens
from udr.prompts.assembler import Assembler
from udr.prompts.budget import fit
from udr.prompts.explanation import down_to_the_prompt
from udr.prompts.ordering import Order
from udr.prompts.truncation import shortened
from udr.prompts.types import Format, Layout, Prompt, PromptDemonstration, SpecialToken, Truncation
from udr.retrieval import Retrieval, RetrievedDemonstration
from udr.types import Fields, Value

__all__ = [
    "Format",
    "Layout",
    "Message",
    "Order",
    "Prompt",
    "PromptBuilder",
    "PromptDemonstration",
    "SpecialToken",
    "Truncation",
]


@dataclass(frozen=True, slots=True)
class PromptBuilder:
    """Builds prompts of at most ``budget - reserve`` tokens.

    Attributes:
        tokenizer: counts tokens, as the language model that will read the prompt does: ``load_tokenizer(name)`` of
            ``udr``, a ``TransformersTokenizer`` or a ``TiktokenTokenizer`` around an object, or any object
            with ``count(text)``.
        budget: tokens of prompt and answer together.
        reserve: tokens of the budget that are kept for the answer.
        order: in which order the demonstrations are shown; which of them are, the order of choice decides.
        seed: of the order ``shuffle``.
        layout: where chat messages show the demonstrations.
        message_tokens: what each chat message costs on top of its content, where the tokenizer has no chat template
            that would tell.
        list_options: name the labels, or the query's choices, after the instruction.
        truncate: the field of the query that may be cut, so that a query fits that else would not. Demonstrations are
            never cut: in place of one that does not fit there is the next, and its target may follow from what
            would be cut.

    Raises:
        InvalidInputError: the tokenizer can't count; the budget is below 1; the reserve is below 0 or leaves nothing
            of the budget; a message's tokens are below 0.
    """

    tokenizer: TokenCounter
    budget: int
    reserve: int = 0
    _: KW_ONLY
    order: Order = Order.NEAREST_LAST
    seed: int = 0
    layout: Layout = Layout.TURNS
    message_tokens: int = 0
    list_options: bool = False
    truncate: str | None = None

    def __post_init__(self) -> None:
        # A text has a count, too, and it would say that everything fits.
        if isinstance(self.tokenizer, str) or not callable(getattr(self.tokenizer, "count", None)):
            raise InvalidInputError(
                f"the tokenizer must be an object with count(text), found {type(self.tokenizer).__name__}; see "
                "udr.load_tokenizer"
            )
        if self.budget < 1:
            raise InvalidInputError(f"the budget must be at least 1 token, found {self.budget}")
        if not 0 <= self.reserve < self.budget:
            raise InvalidInputError(
                f"the reserve must be at least 0 and below the budget of {self.budget} tokens, found {self.reserve}"
            )
        if self.message_tokens < 0:
            raise InvalidInputError(f"a message's tokens must be at least 0, found {self.message_tokens}")
        object.__setattr__(self, "order", Order(self.order))
        object.__setattr__(self, "layout", Layout(self.layout))

    def build(
        self,
        task: Task,
        input: Fields | str,
        demonstrations: Sequence[RetrievedDemonstration],
        format: Format = Format.TEXT,
        choices: Sequence[str] = (),
    ) -> Prompt:
        """Return the prompt with the best demonstrations that fit; exactly ``budget - reserve`` tokens fits.

        From the first on, a demonstration is taken when the prompt with it and those taken before it fits;
        one that does not fit is passed over for the next. When none fits, the prompt has none.

        Args:
            task: words the query; its instruction stands at the top.
            input: the query's fields by name; plain text where the task has one field.
            demonstrations: in the order of choice, as a retriever returns them; of this task or of others.
            format: text, chat messages or records.
            choices: the options of a multiple-choice query, where they are to be listed and its input holds none.

        Raises:
            InvalidInputError: the input does not fit the task, or has no such field to cut; a multiple-choice query
                has no choices to list; a record has no room for a field; the chat template does not take the messages.
            TooLongError: the query does not fit, even without demonstrations.
        """
        drafter = Assembler(
            tokenizer=self.tokenizer,
            task=task,
            format=Format(format),
            layout=self.layout,
            order=self.order,
            seed=self.seed,
            message_tokens=self.message_tokens,
            choices=choices,
            list_options=self.list_options,
        )
        input, cut = self._fitted(drafter, formatting.check_input(task, input))
        draft = drafter.draft(input, demonstrations)
        taken = fit(draft, self.budget - self.reserve)
        shown = draft.arranged(tuple(taken))
        chosen = [demonstrations[n] for n in shown]
        special = getattr(self.tokenizer, "special_tokens", ())
        prompt = Prompt(
            text=draft.joined(shown) if format == Format.TEXT else None,
            messages=drafter.messages(draft, shown) if format == Format.MESSAGES else None,
            records=tuple(map(_record, chosen)) if format == Format.RECORDS else None,
            tokens=draft.bare + sum(taken.values()),
            demonstrations=tuple(_listed(demonstrations[n], taken[n]) for n in shown),
            special_tokens=tuple(special_tokens.find(special, chosen, task.name, drafter.asked(input))),
            truncated=cut,
        )
        return _from(demonstrations, prompt) if isinstance(demonstrations, Retrieval) else prompt

    def _fitted(self, drafter: Assembler, input: Fields) -> tuple[Fields, Truncation | None]:
        """Return the input, its field cut where it would not fit and may be, and what was cut."""
        task, field, limit = drafter.task, self.truncate, self.budget - self.reserve
        if field is not None and field not in task.fields:
            names = ", ".join(map(repr, task.fields))
            raise InvalidInputError(f"task {task.name!r} has no field {field!r} to cut; it has {names}")
        bare = drafter.draft(input).bare
        if bare <= limit:
            return input, None
        if field is not None:
            value = formatting.value_text(input[field])
            cut = shortened(value, lambda beginning: drafter.draft({**input, field: beginning}).bare <= limit)
            if cut is not None:
                return {**input, field: cut[0]}, Truncation(field=field, kept=cut[1], length=len(value))
        raise TooLongError(
            f"the prompt needs {bare} tokens without any demonstration, but the budget of {self.budget} less "
            f"the reserve of {self.reserve} allows {limit}; "
            + (f"cutting the field {field!r} is not enough; " if field is not None else "")
            + "shorten the input or raise the budget"
        )


def _from(retrieval: Retrieval, prompt: Prompt) -> Prompt:
    """Return a prompt that says where its demonstrations came from, and what became of the others."""
    decisions = down_to_the_prompt(retrieval.decisions, {(one.task, one.id) for one in prompt.demonstrations})
    return replace(prompt, decisions=decisions, index_version=retrieval.index_version, model=retrieval.model)


def _listed(demonstration: RetrievedDemonstration, tokens: int) -> PromptDemonstration:
    return PromptDemonstration(
        id=demonstration.id,
        task=demonstration.task,
        similarity=demonstration.similarity,
        rank=demonstration.rank,
        tokens=tokens,
    )


def _record(demonstration: RetrievedDemonstration) -> Mapping[str, Value]:
    if "target" in demonstration.input:
        raise InvalidInputError(
            f"task {demonstration.task!r} has an input field 'target', which a record has no room for beside the "
            "target itself; ask for a text or messages"
        )
    return {**demonstration.input, "target": demonstration.target}
