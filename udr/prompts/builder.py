"""The prompt: the demonstrations that fit a token budget, and the query, as text, as chat messages or as records."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral

from udr.data import Kind, Task, formatting
from udr.errors import InvalidInputError, TooLongError, brief
from udr.models import ChatCounter, TokenCounter
from udr.prompts.budget import Block, PromptLayout, fit, truncate
from udr.prompts.chat import ChatLayout, messages, turns
from udr.prompts.ordering import Order, arranged, check_seed, one_of
from udr.prompts.types import Format, Layout, PartTokens, Prompt, PromptDemonstration, SpecialToken, Truncation
from udr.retrieval import Decision, Retrieval, RetrievedDemonstration
from udr.types import Fields, Value


@dataclass(frozen=True, slots=True)
class PromptBuilder:
    """Builds prompts of at most ``budget - reserve`` tokens.

    Attributes:
        tokenizer: counts tokens as the language model that reads the prompt does: ``udr.load_tokenizer(name)``, a
            ``TransformersTokenizer`` or ``TiktokenTokenizer``, or any object with ``count(text)``.
        budget: tokens of prompt and answer together.
        reserve: tokens of the budget kept for the answer.
        order: the order in which the prompt shows demonstrations; it does not affect which ones are chosen.
        seed: the seed of the order ``shuffle``.
        layout: where chat messages show the demonstrations.
        message_tokens: tokens of each chat message beside its content, if the tokenizer has no chat template; None is
            what the tokenizer's own ``message_tokens`` says, or 0.
        list_options: list the labels, or the query's choices, after the instruction.
        truncate: the query field that may be truncated if the query would not fit. Demonstrations are never truncated.

    Raises:
        InvalidInputError: the tokenizer cannot count; a number is not whole; the budget is below 1; the reserve is
            below 0 or not below the budget; the tokens of a message are below 0; there is no such order or layout; a
            seed is given for an order that is no shuffle.
    """

    tokenizer: TokenCounter
    budget: int
    reserve: int = 0
    _: KW_ONLY
    order: Order = Order.NEAREST_LAST
    seed: int = 0
    layout: Layout = Layout.TURNS
    message_tokens: int | None = None
    list_options: bool = False
    truncate: str | None = None

    def __post_init__(self) -> None:
        # A str has a count, too, by which every prompt would fit.
        if isinstance(self.tokenizer, str) or not callable(getattr(self.tokenizer, "count", None)):
            kind = type(self.tokenizer).__name__
            message = f"the tokenizer must be an object with count(text), found {kind}; see udr.load_tokenizer"
            raise InvalidInputError(message)
        if self.message_tokens is None:
            object.__setattr__(self, "message_tokens", getattr(self.tokenizer, "message_tokens", 0))
        for name in ("budget", "reserve", "message_tokens", "seed"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, Integral):
                raise InvalidInputError(f"{name} must be a whole number, found {brief(number)}")
            # Of numpy, too, which neither JSON nor a shuffle takes.
            object.__setattr__(self, name, int(number))
        if self.budget < 1:
            raise InvalidInputError(f"the budget must be at least 1 token, found {self.budget}")
        if not 0 <= self.reserve < self.budget:
            bounds = f"at least 0 and below the budget of {self.budget} tokens"
            raise InvalidInputError(f"the reserve must be {bounds}, found {self.reserve}")
        if (self.message_tokens or 0) < 0:
            raise InvalidInputError(f"message_tokens must be at least 0, found {self.message_tokens}")
        object.__setattr__(self, "order", one_of(Order, self.order))
        object.__setattr__(self, "layout", one_of(Layout, self.layout))
        check_seed(self.order, self.seed)

    def check(self, format: Format) -> None:
        """Raise ``InvalidInputError`` for a layout that has no effect on a prompt of a format."""
        if format is not Format.MESSAGES and self.layout is not Layout.TURNS:
            raise InvalidInputError(
                f"the layout {str(self.layout)!r} has no effect with the format {str(format)!r}; leave it out, or give "
                "the format 'messages'"
            )

    def build(
        self,
        task: Task,
        input: Fields | str,
        demonstrations: Sequence[RetrievedDemonstration],
        format: Format = Format.TEXT,
    ) -> Prompt:
        """Return the prompt with the best demonstrations that fit; exactly ``budget - reserve`` tokens fits.

        Each demonstration in turn is taken if the prompt with it and those taken before it fits; else it is skipped.
        If none fits, the prompt has none; its ``skipped`` counts them.

        Args:
            task: formats the query and gives the instruction.
            input: the query's fields by name, with the list ``choices`` if the options of a multiple-choice query are
                to be listed; plain text if the task has one field.
            demonstrations: in the order of choice, as a retriever returns them; of this task or of others.
            format: text, chat messages or records.

        Raises:
            InvalidInputError: the input does not fit the task or lacks the field to truncate; a multiple-choice query
                has no choices to list, or they are to be truncated; a record would have two targets; the chat template
                rejects the messages; a layout is given for another format than messages; there is no such format.
            TooLongError: the query does not fit, even without demonstrations.
        """
        format = one_of(Format, format)
        self.check(format)
        input, truncated = self._truncated(task, formatting.check_input(task, input), format)
        layout = self._layout(task, input, format, demonstrations)
        tokens = fit(layout, self.budget - self.reserve)
        positions = layout.arranged(tuple(tokens))
        shown = [demonstrations[n] for n in positions]
        # Those beyond k only fill what room is left.
        k = demonstrations.k if isinstance(demonstrations, Retrieval) else None
        options = self._options(task, input)
        query = formatting.SEPARATOR.join((options, layout.query))
        chat = None
        if format is Format.MESSAGES:
            chat = messages(self.layout, layout.instruction, [layout.blocks[n] for n in positions], layout.query)
        prompt = Prompt(
            text=layout.joined(positions) if format is Format.TEXT else None,
            messages=chat,
            records=tuple(_record(task, d) for d in shown) if format is Format.RECORDS else None,
            tokens=layout.bare + sum(tokens.values()),
            demonstrations=tuple(
                PromptDemonstration(
                    id=d.id,
                    task=d.task,
                    similarity=d.similarity,
                    rank=d.rank,
                    tokens=tokens[n],
                    ranking_score=d.ranking_score,
                )
                for n, d in zip(positions, shown, strict=True)
            ),
            special_tokens=tuple(self._special_tokens(shown, task, query)),
            truncated=truncated,
            skipped=len({*range(len(demonstrations))[:k]}.difference(positions)),
            filled=0 if k is None else sum(position >= k for position in positions),
            tokenizer=getattr(self.tokenizer, "name", None),
            parts=self._parts(task, layout, options, sum(tokens.values())),
        )
        if not isinstance(demonstrations, Retrieval):
            return prompt
        decisions = with_budget_stage(demonstrations.decisions, {(d.task, d.id) for d in shown})
        return replace(
            prompt,
            copies=demonstrations.copies,
            decisions=decisions,
            index_version=demonstrations.index_version,
            overlay_position=demonstrations.overlay_position,
            model=demonstrations.model,
            missing_shards=demonstrations.missing_shards,
        )

    def _parts(self, task: Task, layout: PromptLayout, listing: str, demonstrations: int) -> PartTokens:
        alone = layout.token_counts.edge
        instruction, listed, query = alone(task.instruction), alone(listing) if listing else 0, alone(layout.query)
        return PartTokens(
            instruction=instruction,
            listing=listed,
            demonstrations=demonstrations,
            query=query,
            joins=layout.bare - instruction - listed - query,
            reserve=self.reserve,
        )

    def _truncated(self, task: Task, input: Fields, format: Format) -> tuple[Fields, Truncation | None]:
        """Return the input, its field truncated if necessary and allowed, and what was truncated."""
        field, limit = self.truncate, self.budget - self.reserve
        if field is not None and field not in task.fields:
            names = ", ".join(map(repr, task.fields))
            raise InvalidInputError(f"task {task.name!r} has no field {brief(field)} to truncate; it has {names}")
        if field == "choices" and self.list_options and task.kind is Kind.MULTIPLE_CHOICE:
            problem = "cannot truncate the field 'choices', whose values list_options lists"
            raise InvalidInputError(f"{problem}; truncate another field, or do not list the options")

        def bare(fields: Fields) -> int:
            return self._layout(task, fields, format).bare

        needed = bare(input)
        if needed <= limit:
            return input, None
        if field is not None:
            value = formatting.value_text(input[field])
            result = truncate(value, lambda beginning: bare({**input, field: beginning}) <= limit)
            if result is not None:
                text, kept = result
                return {**input, field: text}, Truncation(field=field, kept=kept, length=len(value))
        raise TooLongError(
            f"the prompt needs {needed} tokens without any demonstration, but the budget of {self.budget} minus "
            f"the reserve of {self.reserve} leaves {limit}; "
            + (f"truncating the field {brief(field)} is not enough; " if field is not None else "")
            + "shorten the input or raise the budget"
        )

    def _layout(
        self,
        task: Task,
        input: Fields,
        format: Format,
        demonstrations: Sequence[RetrievedDemonstration] = (),
    ) -> PromptLayout:
        query = formatting.query_prompt(task, input)
        options = self._options(task, input)
        instruction = f"{task.instruction}\n{options}" if options else task.instruction
        in_turns = format is Format.MESSAGES and self.layout is Layout.TURNS
        blocks = [self._block(task, demonstration, in_turns=in_turns) for demonstration in demonstrations]
        order = arranged(self.order, demonstrations, query, self.seed)
        if format is Format.MESSAGES and isinstance(self.tokenizer, ChatCounter) and self.tokenizer.has_chat_template:
            return ChatLayout(self.tokenizer, instruction, blocks, query, order, layout=self.layout)
        pair = 2 * (self.message_tokens or 0) if format is Format.MESSAGES else 0
        return PromptLayout(self.tokenizer, instruction, blocks, query, order, pair, pair if in_turns else 0)

    def _block(self, task: Task, demonstration: RetrievedDemonstration, *, in_turns: bool) -> Block:
        counted, fingerprint = demonstration.tokens, getattr(self.tokenizer, "fingerprint", None)
        tokens = counted.count if counted is not None and counted.tokenizer == fingerprint else None
        text = demonstration.text
        if not in_turns:
            return Block((text,), tokens=tokens)
        user, assistant = turns(task, demonstration)
        return Block((user, assistant), text[len(user) : len(text) - len(assistant)], tokens)

    def _options(self, task: Task, input: Fields) -> str:
        if not self.list_options:
            return ""
        if task.kind is not Kind.MULTIPLE_CHOICE:
            return formatting.listing(task)
        values = input.get("choices")
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            found = f"found {brief(values)}" if "choices" in input else "its input has no field 'choices'"
            problem = f"cannot list the options of a query of task {task.name!r}: {found}"
            raise InvalidInputError(f"{problem}; give its choices as a list in the field 'choices' of the input")
        return formatting.listing(task, [formatting.value_text(value) for value in values])

    def _special_tokens(
        self, shown: Sequence[RetrievedDemonstration], task: Task, query: str
    ) -> Iterator[SpecialToken]:
        """Yield the tokenizer's special tokens in demonstrations, in the order shown, and in the query."""
        texts = [(d.task, d.id, d.text) for d in shown]
        parts: list[tuple[str, str | None, str]] = [*texts, (task.name, None, query)]
        # Some tokenizers have hundreds of special tokens; data rarely has any.
        whole = "\n".join(text for _, _, text in parts)
        tokens = sorted(set(getattr(self.tokenizer, "special_tokens", ())))
        present = [token for token in tokens if token and token in whole]
        for name, id, text in parts:
            yield from (SpecialToken(token=token, task=name, id=id) for token in present if token in text)


def with_budget_stage(decisions: Sequence[Decision], shown: Collection[tuple[str, str]]) -> tuple[Decision, ...]:
    """Return a retrieval's decisions, with demonstrations dropped by the budget unless their task and id are shown."""
    reason = "chosen, but does not fit the budget after those before it"
    return tuple(
        replace(d, stage="budget", kept=False, reason=reason) if d.kept and (d.task, d.id) not in shown else d
        for d in decisions
    )


def _record(task: Task, demonstration: RetrievedDemonstration) -> Mapping[str, Value]:
    fields = demonstration.fields
    if "target" in fields:
        raise InvalidInputError(
            f"task {demonstration.task!r} has an input field 'target', which collides with the target in a record; "
            "use format 'text' or 'messages'"
        )
    # The verbalizer of another task is not known here.
    target = demonstration.target
    return {**fields, "target": formatting.verbalised(task, target) if demonstration.task == task.name else target}
